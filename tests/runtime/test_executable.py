"""Calls: what goes in and out, sizes, bindings, donated state, errors."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest

from kerogen.runtime import threads
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import bfloat16, float32, int32
from kerogen.runtime.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError, UnknownNameError
from kerogen.runtime.executable import Executable, Value
from kerogen.runtime.host import register
from kerogen.runtime.plan import HostCall, Port, Slot
from tests.runtime.kernels import call, chain, chained, lookup, plan, port


@pytest.fixture
def two_threads():
    threads.set_num_threads(2)
    yield
    threads.set_num_threads(None)


def added(n: int | None = None):
    size = Dim.free("n", 8) if n is None else n
    slots = [Slot("input", 4 * size, 0), Slot("input", 4 * size, 1), Slot("output", 4 * size, 0)]
    return plan(
        [port("a", size), port("b", size)],
        [port("c", size)],
        slots,
        [call("add", (0, 1, 2), size)],
        dims=("n",) if n is None else (),
    )


def test_by_position_by_name_and_run(rng):
    exe = Executable(plans=[added()])
    a, b = rng.normal(size=(2, 7)).astype("f")
    for _ in range(3):  # the first call binds, later ones take the short way
        assert np.array_equal(exe(a, b), a + b)
        assert np.array_equal(exe(a, b=b), a + b)
        assert np.array_equal(exe(b=b, a=a), a + b)
    assert [r.tolist() for r in exe.run(None, {"a": a, "b": b})] == [(a + b).tolist()]
    assert len(exe.run(["c"], {"a": a, "b": b})) == 1
    assert [(i.name, i.shape, i.type) for i in exe.get_inputs()] == [("a", ["n"], "tensor(float)"), ("b", ["n"], "tensor(float)")]
    assert [p.name for p in exe.outputs] == ["c"]


def test_results_are_new_arrays_and_inputs_unchanged(rng):
    exe = Executable(plans=[added()])
    a, b = rng.normal(size=(2, 7)).astype("f")
    keep = a.copy(), b.copy()
    first, second = exe(a, b), exe(b, a)
    first_values = first.copy()
    third = exe(a, a)
    assert not any(np.shares_memory(x, y) for x, y in [(first, second), (first, third), (first, a)])
    assert np.array_equal(first, first_values)
    assert np.array_equal(a, keep[0]) and np.array_equal(b, keep[1])


def test_free_sizes_bind_without_compiling(rng):
    compiled = []

    def specialize(values):
        compiled.append(values)
        return chain(5)

    exe = Executable(chain(5).inputs, chain(5).outputs, specialize=specialize)
    for n in [3, 1, 17, 1000, 3, 65, 70000, 17]:
        x = rng.normal(size=n).astype("f")
        assert np.array_equal(exe(x), chained(x, 5))
    assert compiled == [{"n": 3}]


def test_guards_ask_for_another_plan(rng):
    asked = []

    def specialize(values):
        asked.append(values["n"])
        small = values["n"] < 10
        # n - 10 < 0 came out as `small`
        guard = (("<", ((("n",), 1), ((), -10))), small)
        base = chain(2)
        return plan(base.inputs, base.outputs, base.slots, base.steps, dims=("n",), guards=[guard])

    exe = Executable(chain(2).inputs, chain(2).outputs, specialize=specialize)
    for n in [3, 5, 12, 100, 4, 11]:
        x = rng.normal(size=n).astype("f")
        assert np.array_equal(exe(x), chained(x, 2))
    assert asked == [3, 12]
    assert exe.stats()["compiled"] == 2


def test_plans_without_a_compiler():
    base = chain(2)
    guard = (("<", ((("n",), 1), ((), -10))), True)
    exe = Executable(plans=[plan(base.inputs, base.outputs, base.slots, base.steps, dims=("n",), guards=[guard])])
    assert exe(np.ones(9, "f")).shape == (9,)
    with pytest.raises(ShapeError, match=r"n = 10.*specialize"):
        exe(np.ones(10, "f"))


@pytest.mark.parametrize("layout", ["strided", "reversed", "readonly", "fortran", "memmap", "list", "float", "unaligned"])
def test_inputs_of_every_kind(rng, layout, tmp_path):
    exe = Executable(plans=[added()])
    want = rng.integers(-9, 9, size=6).astype("f")
    b = rng.normal(size=6).astype("f")
    exe(b, b)
    a = want
    if layout == "strided":
        a = np.repeat(want, 3)[::3]
    elif layout == "reversed":
        a = want[::-1].copy()[::-1]
    elif layout == "readonly":
        a = want.copy()
        a.flags.writeable = False
    elif layout == "fortran":
        a = np.asfortranarray(np.stack([want, want]))[0]
    elif layout == "memmap":
        a = np.memmap(tmp_path / "x", np.float32, "w+", shape=6)
        a[:] = want
    elif layout == "list":
        a = [int(v) for v in want]
    elif layout == "float":
        exe, a, b = Executable(plans=[added(1)]), [2.5], rng.normal(size=1).astype("f")
        want = np.array([2.5], "f")
    elif layout == "unaligned":
        a = np.frombuffer(b"\0" + want.tobytes(), np.uint8)[1:].view(np.float32)
    assert np.array_equal(exe(a, b), want + b)
    assert np.array_equal(exe(b, a), want + b)


class ByDLPack:
    """An array of another library: nothing but DLPack."""

    def __init__(self, a):
        self.a = a

    def __dlpack__(self, **more):
        return self.a.__dlpack__(**more)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


def test_dlpack(rng):
    exe = Executable(plans=[added()])
    a, b = rng.normal(size=(2, 5)).astype("f")
    assert np.array_equal(exe(ByDLPack(a), b), a + b)
    with pytest.raises(DTypeError, match="float64"):
        exe(ByDLPack(a.astype("d")), b)


def test_wrong_arguments(rng):
    exe = Executable(plans=[added()], name="adder")
    a = rng.normal(size=5).astype("f")
    exe(a, a)
    for _ in range(2):
        with pytest.raises(DTypeError, match=r"'a' expects float32, got an array of float64"):
            exe(a.astype("d"), a)
        with pytest.raises(DTypeError, match="int32"):
            exe(a.astype("i"), a)
        with pytest.raises(ShapeError, match=r"'b' expects 1 dimension \(n,\), got \(5, 1\)"):
            exe(a, a[:, None])
        with pytest.raises(ShapeError, match=r"disagree on n: axis 0 of 'a' gives 5, axis 0 of 'b' gives 4"):
            exe(a, a[:4])
        with pytest.raises(ArgumentError, match="missing: b"):
            exe(a)
        with pytest.raises(ArgumentError, match="got 3 arrays"):
            exe(a, a, a)
        with pytest.raises(UnknownNameError, match="'z'"):
            exe(a, z=a)
        with pytest.raises(ArgumentError, match="twice"):
            exe(a, a=a)
        with pytest.raises(DTypeError, match="float32, got .*str"):
            exe("hello", a)
        with pytest.raises(UnknownNameError, match="'d'"):
            exe.run(["d"], {"a": a, "b": a})
        assert np.array_equal(exe(a, a), a + a)
    fixed = Executable(plans=[added(5)])
    with pytest.raises(ShapeError, match="axis 0 has size 6, not 5"):
        fixed(np.ones(6, "f"), np.ones(6, "f"))


def test_numbers_are_cast_only_upwards():
    ports = [Port("k", (2,), int32)]
    slots = [Slot("input", 8, 0), Slot("output", 8, 0)]
    exe = Executable(plans=[plan(ports, [port("y", 2)], slots, [call("scale", (0, 1), 2, (0,))])])
    assert exe([1, 2]).tolist() == [1, 1]
    assert exe([True, False]).tolist() == [1, 1]
    with pytest.raises(DTypeError, match="int32, got floats"):
        exe([1.5, 2.0])
    with pytest.raises(ArgumentError, match="doesn't fit"):
        exe([1, 2**31])
    with pytest.raises(ShapeError, match="regular"):
        exe([[1], [1, 2]])


def test_out(rng):
    exe = Executable(plans=[added()])
    a, b = rng.normal(size=(2, 9)).astype("f")
    want = a + b
    out = np.empty(9, "f")
    assert exe(a, b, out=out) is out and np.array_equal(out, want)
    wide = np.zeros(18, "f")
    assert np.array_equal(exe(a, b, out=wide[::2]), want) and np.array_equal(wide[::2], want) and not wide[1::2].any()
    # Into memory that an input shares, shifted: a plan may read what it has overwritten.
    room = np.concatenate([a, np.zeros(1, "f")])
    exe(room[:9], b, out=room[1:])
    assert np.array_equal(room[1:], want)
    with pytest.raises(ShapeError, match=r"\(9,\), got \(8,\)"):
        exe(a, b, out=np.empty(8, "f"))
    with pytest.raises(DTypeError):
        exe(a, b, out=np.empty(9, "d"))
    with pytest.raises(ArgumentError, match="2"):
        exe(a, b, out=[out, out])


def test_bind(rng):
    exe = Executable(plans=[added()])
    a, b = rng.normal(size=(2, 9)).astype("f")
    out = np.empty(9, "f")
    bound = exe.bind(a=a, b=b, c=out)
    for _ in range(3):
        a[:] = rng.normal(size=9)
        assert bound() is out and np.array_equal(out, a + b)
    assert exe.bind(a=a, b=b).outputs["c"].shape == (9,)
    with pytest.raises(ArgumentError, match="'a'"):
        exe.bind(a=a[::-1], b=b)
    with pytest.raises(ArgumentError, match="apart"):
        exe.bind(a=a, b=b, c=a)
    with pytest.raises(UnknownNameError, match="zz"):
        exe.bind(a=a, b=b, zz=a)


def prepared(n: int, free: bool = False):
    """y = x + 2 reversed(w), the second prepared once per version of w."""
    ports = [port("x", n), port("w", n, role="parameter")]
    slots = [Slot("input", 4 * n, 0), Slot("input", 4 * n, 1), Slot("prepared", 4 * n), Slot("output", 4 * n, 0)]
    return plan(ports, [port("y", n)], slots, [call("add", (0, 2, 3), n)], setup=[call("reverse", (1, 2), n, (n,))])


def test_prepared_buffers_follow_the_parameters(rng):
    w = Value(rng.normal(size=6).astype("f"))
    exe = Executable(plans=[prepared(6)], bindings=[w])
    x = rng.normal(size=6).astype("f")
    for _ in range(3):
        assert np.array_equal(exe(x), x + 2 * w.array[::-1])
    assert exe.stats()["setup_steps_run"] == 1
    w.array[:] = rng.normal(size=6)
    w.version += 1
    for _ in range(3):
        assert np.array_equal(exe(x), x + 2 * w.array[::-1])
    assert exe.stats()["setup_steps_run"] == 2
    w.array = rng.normal(size=6).astype("f")  # another array, same version
    for _ in range(3):
        assert np.array_equal(exe(x), x + 2 * w.array[::-1])
    assert exe.stats()["setup_steps_run"] == 3
    bound = exe.bind(x=x)
    w.array[:] = 3
    w.version += 1
    assert np.array_equal(bound(), x + 6)
    assert exe.memory().prepared > 0
    w.array = np.zeros(7, "f")
    with pytest.raises(ShapeError, match=r"'w' has shape \(7,\)"):
        exe(x)


def test_prepared_buffers_are_shared_between_sizes(rng):
    n = Dim.free("n", 4)
    ports = [port("x", n), port("w", 3, role="parameter")]
    slots = [Slot("input", 4 * n, 0), Slot("input", 12, 1), Slot("prepared", 12), Slot("output", 12, 0)]
    base = plan(ports, [port("y", 3)], slots, [call("add", (2, 2, 3), 3)], setup=[call("reverse", (1, 2), 3, (3,))], dims=("n",))
    w = Value(rng.normal(size=3).astype("f"))
    exe = Executable(plans=[base], bindings=[w])
    for n in (4, 9, 2):
        assert np.array_equal(exe(np.ones(n, "f")), 4 * w.array[::-1])
    assert exe.stats()["setup_steps_run"] == 1


def test_state_is_updated_in_place(rng):
    table, s = Value(rng.normal(size=5).astype("f")), Value(rng.normal(size=4).astype("f"))
    exe = Executable(plans=[lookup()], bindings=[table, s])
    want, memory = s.array.copy(), s.array
    for step in range(1, 4):
        indices, x = rng.integers(0, 5, 4), rng.normal(size=4).astype("f")
        y, new = exe(indices, x)
        want = want + x
        assert np.array_equal(y, table.array[indices]) and np.array_equal(s.array, want)
        assert new is s.array is memory and s.version == step and table.version == 0


def test_state_that_is_also_an_input(rng):
    """s += x, then y = x + x, with s's own array given as x: read as it was before the call."""
    slots = [Slot("input", 16, 0), Slot("input", 16, 1), Slot("output", 16, 0)]
    steps = [call("update", (1, 0), 4, writes=(1,), reads=(1, 0)), call("add", (0, 0, 2), 4)]
    p = plan([port("x", 4), port("s", 4, role="state")], [port("y", 4), port("s_new", 4)], slots, steps, aliases=((1, 1),))
    s = Value(rng.normal(size=4).astype("f"))
    exe = Executable(plans=[p], bindings=[s])
    for _ in range(2):
        before = s.array.copy()
        y, _ = exe(s.array)
        assert np.array_equal(y, before + before) and np.array_equal(s.array, before + before)


def test_a_parameter_is_read_where_it_is_now(rng):
    ports = [port("x", 5), port("w", 5, role="parameter")]
    slots = [Slot("input", 20, 0), Slot("input", 20, 1), Slot("output", 20, 0)]
    w = Value(rng.normal(size=5).astype("f"))
    exe = Executable(plans=[plan(ports, [port("y", 5)], slots, [call("add", (0, 1, 2), 5)])], bindings=[w])
    x = rng.normal(size=5).astype("f")
    bound = exe.bind(x=x)
    old = []
    for _ in range(3):
        assert np.array_equal(exe(x), x + w.array) and np.array_equal(bound(), x + w.array)
        w.array[:] = rng.normal(size=5)
        assert np.array_equal(exe(x), x + w.array) and np.array_equal(bound(), x + w.array)
        old.append(w.array)
        w.array = rng.normal(size=5).astype("f")
    w.array = w.array.astype("d")
    with pytest.raises(DTypeError, match="bound to 'w'"):
        exe(x)


@pytest.mark.parametrize("count", [1, 2])
def test_an_index_out_of_range_leaves_state_unchanged(rng, count, two_threads):
    n = 40_000
    table, s = Value(rng.normal(size=50).astype("f")), Value(rng.normal(size=n).astype("f"))
    exe = Executable(plans=[lookup(50, n)], bindings=[table, s])
    x, before = rng.normal(size=n).astype("f"), s.array.copy()
    good = rng.integers(0, 50, n)
    for bad in (50, -1, 2**62):
        indices = good.copy()
        indices[rng.integers(n)] = bad
        with pytest.raises(IndexRangeError, match="layer 'embedding'"):
            exe(indices, x, threads=count)
        assert np.array_equal(s.array, before) and s.version == 0
    y, _ = exe(good, x, threads=count)
    assert np.array_equal(y, table.array[good]) and np.array_equal(s.array, before + x) and s.version == 1


def test_update_of_an_input_goes_to_a_copy(rng):
    slots = [Slot("input", 20, 0), Slot("input", 20, 1)]
    p = plan(
        [port("x", 5), port("d", 5)],
        [port("y", 5)],
        slots,
        [call("update", (0, 1), 5, writes=(0,), reads=(0, 1))],
        aliases=((0, 0),),
    )
    exe = Executable(plans=[p])
    x, d = rng.normal(size=(2, 5)).astype("f")
    keep = x.copy()
    for _ in range(2):
        assert np.array_equal(exe(x, d), keep + d) and np.array_equal(x, keep)


def test_bfloat16(rng):
    half = Port("x", (4,), bfloat16)
    slots = [Slot("input", 8, 0), Slot("output", 8, 0)]
    p = plan([half], [Port("y", (4,), bfloat16)], slots, [call("scale", (0, 1), 2, (0,))])  # two float32 units: bytes of ones
    exe = Executable(plans=[p])
    x = rng.normal(size=4).astype(ml_dtypes.bfloat16)
    for _ in range(2):
        assert exe(x).dtype == ml_dtypes.bfloat16 and exe(x).view(np.float32).tolist() == [1, 1]


@register("test.cumsum")
def _cumsum(x, *, scale):
    assert not x.flags.writeable
    return np.cumsum(x, dtype=np.float32) * np.float32(scale), np.float32(x.sum())


def test_host_calls_between_native_segments(rng):
    n = Dim.free("n", 6)
    slots = [
        Slot("input", 4 * n, 0),
        Slot("arena", 4 * n, -1, 0, 1),
        Slot("arena", 4 * n, -1, 1, 2),
        Slot("output", 4 * n, 0),
        Slot("output", 4, 1),
    ]
    host = HostCall("test.cumsum", (("scale", 0.5),), (1,), (2, 4), "layer", (((n,), float32), ((n,), float32), ((), float32)))
    steps = [call("scale", (0, 1), n, (2,)), host, call("scale", (2, 3), n, (3,))]
    exe = Executable(plans=[plan([port("x", n)], [port("y", n), port("total")], slots, steps, dims=("n",))])
    for n in (6, 50_000):
        x = rng.normal(size=n).astype("f")
        mid = x * np.float32(2) + np.float32(1)
        for count in (1, None):
            y, total = exe(x, threads=count)
            assert np.array_equal(y, np.cumsum(mid, dtype=np.float32) * np.float32(0.5) * np.float32(3) + np.float32(1))
            assert total == mid.sum()
    rows = exe.profile(x).rows
    assert [r.name for r in rows] == ["scale", "test.cumsum", "scale"] and all(r.us > 0 for r in rows)


def test_profile_explain_memory(rng, tmp_path):
    exe = Executable(plans=[chain(6, nbytes=4_000_000)])
    x = rng.normal(size=300_000).astype("f")
    want = chained(x, 6)
    profile = exe.profile(x, repeat=5)
    assert len(profile.rows) == 6 and all(r.us > 1 for r in profile.rows)
    assert profile.total_us > max(r.us for r in profile.rows)
    assert abs(profile.rows[0].gbytes - 4_000_000 / profile.rows[0].us / 1e3) < 1e-6 * profile.rows[0].gbytes
    assert "scale" in str(profile) and "6 steps" in str(profile)
    profile.to_chrome(tmp_path / "t.json")
    assert (tmp_path / "t.json").read_text().count('"ph": "X"') == 6
    assert np.array_equal(exe(x), want)
    memory = exe.memory()
    assert memory.unplanned == 5 * 1_200_000 and memory.arena == 2 * 1_200_000


def test_profile_leaves_state_alone(rng):
    table, s = Value(rng.normal(size=5).astype("f")), Value(rng.normal(size=4).astype("f"))
    exe = Executable(plans=[lookup()], bindings=[table, s])
    before = s.array.copy()
    exe.profile(np.zeros(4, int), np.ones(4, "f"))
    assert np.array_equal(s.array, before) and s.version == 0


def test_specialize_in_advance():
    exe = Executable(chain(3).inputs, chain(3).outputs, specialize=lambda values: chain(3))
    assert exe.specialize(n=[2, 5]) is exe and exe.stats()["bound"] == 2
    with pytest.raises(UnknownNameError, match="n; got m"):
        exe.specialize(m=2)


def test_size_zero():
    exe = Executable(chain(3).inputs, chain(3).outputs, specialize=lambda values: chain(3))
    for _ in range(2):
        assert exe(np.empty(0, "f")).shape == (0,)


def test_several_python_threads(rng, two_threads):
    """One executable, called at once: whoever finds the pool busy runs alone, with the same bits."""
    exe = Executable(plans=[chain(8)])
    inputs = [rng.normal(size=60_000 + i).astype("f") for i in range(4)]
    wants = [chained(x, 8) for x in inputs]
    wrong = []

    def work(k):
        for i in range(60):
            j = (i + k) % 4
            if not np.array_equal(exe(inputs[j]), wants[j]):
                wrong.append((k, i))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_donated_calls_from_several_threads_dont_mix(rng, two_threads):
    n = 400_000  # long enough that Python's lock is let go
    table, s = Value(rng.normal(size=5).astype("f")), Value(np.zeros(n, "f"))
    exe = Executable(plans=[lookup(5, n)], bindings=[table, s])
    indices, x = rng.integers(0, 5, n), np.ones(n, "f")

    def work():
        for _ in range(50):
            exe(indices, x)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert (s.array == 200).all() and s.version == 200
