"""The arena: buffers that live at the same time never share a byte, and little is wasted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kerogen.runtime import arena
from kerogen.runtime.executable import Executable
from kerogen.runtime.plan import Slot
from tests.runtime.kernels import call, plan, port

_interval = st.tuples(st.integers(0, 5000), st.integers(0, 12), st.integers(0, 6)).map(lambda t: (t[0], t[1], t[1] + t[2]))


@given(st.lists(_interval, max_size=40))
def test_no_two_live_buffers_overlap(intervals):
    offsets, total = arena.place(intervals)
    assert all(o % 64 == 0 for o in offsets)
    for step in range(20):
        live = sorted((o, o + n) for o, (n, first, last) in zip(offsets, intervals) if n and first <= step <= last)
        assert all(end <= start for (_, end), (start, _) in zip(live, live[1:]))
        assert all(end <= total for _, end in live)
    assert arena.peak(intervals) <= total <= sum(-(-n // 64) * 64 for n, _, _ in intervals)


def test_a_chain_takes_two_buffers():
    assert arena.place([(1000, i, i + 1) for i in range(10)])[1] == 2 * 1024


def test_best_fit():
    # At step 1 there are gaps of 4096 and 1536 bytes. 1472 belongs into the second, so that 1408 + 1344 + 1280 fit into
    # the first.
    intervals = [(4096, 0, 0), (2048, 0, 3), (1536, 0, 0), (1536, 0, 3), (1472, 1, 1), (1408, 1, 1), (1344, 1, 1), (1280, 1, 1)]
    assert arena.place(intervals)[1] == arena.peak(intervals) == 4096 + 2048 + 1536 + 1536


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 200)), min_size=1, max_size=15),
    st.integers(0, 2**31),
)
def test_random_plans_compute_what_numpy_does(recipe, seed):
    """Sums of earlier values, of different lengths, in an arena: an overlap in time would show."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=200).astype("f")
    sizes, operands = [200], []
    for a, b, n in recipe:
        a, b = a % len(sizes), b % len(sizes)
        sizes.append(min(n, sizes[a], sizes[b]))
        operands.append((a, b))
    last = list(range(len(sizes)))
    for i, (a, b) in enumerate(operands):
        last[a] = last[b] = i
    values = [x]
    for i, (a, b) in enumerate(operands):
        values.append(values[a][: sizes[i + 1]] + values[b][: sizes[i + 1]])
    slots = [Slot("input", 800, 0)]
    steps = []
    for i, (a, b) in enumerate(operands):
        final = i == len(operands) - 1
        slots.append(
            Slot("output", 4 * sizes[i + 1], 0) if final else Slot("arena", 4 * sizes[i + 1], -1, i, max(i, last[i + 1]))
        )
        steps.append(call("add", (a, b, i + 1), sizes[i + 1]))
    exe = Executable(plans=[plan([port("x", 200)], [port("y", sizes[-1])], slots, steps)])
    assert np.array_equal(exe(x), values[-1])
