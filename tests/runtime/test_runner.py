"""The native runner and its pool: the same bits for any number of threads, interruption, forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

from kerogen.runtime import runner, table, threads
from kerogen.runtime.dtype import int64
from kerogen.runtime.errors import ArgumentError
from kerogen.runtime.executable import Executable, Value
from kerogen.runtime.plan import ErrorSite, Slot
from tests.runtime.kernels import call, chain, chained, plan, port


@pytest.fixture
def pool():
    """Sets the number of threads, and puts the default back."""
    yield threads.set_num_threads
    threads.set_num_threads(None)


def rowsums(rows: int, columns: int):
    slots = [Slot("input", 4 * rows * columns, 0), Slot("output", 4 * rows, 0)]
    return plan(
        [port("x", rows, columns)],
        [port("y", rows)],
        slots,
        [call("rowsum", (0, 1), rows, (columns,), scratch=4 * columns, nbytes=100 * rows * columns)],
    )


@pytest.mark.parametrize("count", [2, 3, 5])  # more threads than cores, too
def test_same_bits_for_any_number_of_threads(rng, pool, count):
    exes = Executable(plans=[rowsums(301, 77)]), Executable(plans=[chain(9)]), Executable(plans=[chain(9, nbytes=10_000_000)])
    inputs = rng.normal(size=(301, 77)).astype("f"), rng.normal(size=100_003).astype("f"), rng.normal(size=1003).astype("f")
    pool(1)
    alone = [exe(x) for exe, x in zip(exes, inputs)]
    # The scratch of each thread is its own; the sum is sequential in float32.
    assert np.array_equal(alone[0], np.add.accumulate(inputs[0], axis=1)[:, -1])
    assert np.array_equal(alone[1], chained(inputs[1], 9))
    pool(count)
    for exe, x, want in zip(exes, inputs, alone):
        for _ in range(100):
            assert np.array_equal(exe(x), want)
        assert next(iter(exe._bounds.values())).table.threads == count


def test_the_work_is_shared(pool):
    """Chunks of one step are executed by both threads, each on the units that are its own where it comes in time."""
    pool(2)
    slots = [Slot("input", 4 * 64, 0), Slot("output", 8 * 64, 0)]
    step = call("who", (0, 1), 64, (20_000,), scratch=64, flops=10_000_000)
    exe = Executable(plans=[plan([port("x", 64)], [port("y", 64, dtype=int64)], slots, [step])])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        who = exe(np.ones(64, "f"))
        first, last = who[0], who[-1]
        if (who[:32] == first).all() and (who[32:] == last).all() and first != last:
            break
    else:
        pytest.fail("one thread did it all")
    assert len(set(exe(np.ones(64, "f"), threads=1).tolist())) == 1


def test_independent_steps_and_joins(rng, pool):
    """A diamond of large steps, many times over: a step that began before what it needs would show."""
    pool(3)
    n, depth = 5000, 12
    slots = [Slot("input", 4 * n, 0)]
    steps = []
    top = 0
    for _ in range(depth):
        a, b, c = len(slots), len(slots) + 1, len(slots) + 2
        slots += [
            Slot("arena", 4 * n, -1, max(0, len(steps)), len(steps) + 2),
            Slot("arena", 4 * n, -1, len(steps) + 1, len(steps) + 2),
            Slot("arena", 4 * n, -1, len(steps) + 2, len(steps) + 5),
        ]
        steps += [
            call("scale", (top, a), n, (1,), nbytes=200_000),
            call("scale", (top, b), n, (-2,), nbytes=200_000),
            call("add", (a, b, c), n, nbytes=200_000),
        ]
        top = c
    slots[top] = Slot("output", 4 * n, 0)
    exe = Executable(plans=[plan([port("x", n)], [port("y", n)], slots, steps)])
    x = rng.normal(size=n).astype("f")
    want = x
    for _ in range(depth):
        want = (want + np.float32(1)) + (want * np.float32(-2) + np.float32(1))
    for _ in range(300):
        assert np.array_equal(exe(x), want)
    groups = next(iter(exe._bounds.values())).table.groups
    assert (
        groups[1:, runner.GROUP_AFTER] < np.arange(len(groups) - 1)
    ).any()  # the two sides of a diamond don't wait for each other


def test_memory_is_not_reused_before_it_is_read(rng, pool):
    """b takes a's place in the arena: it waits until all of a has been read, though it needs nothing of that step."""
    pool(3)
    n = 20_000
    slots = [
        Slot("input", 4 * n, 0),
        Slot("arena", 4 * n, -1, 0, 1),
        Slot("output", 4 * n, 0),
        Slot("arena", 4 * n, -1, 2, 3),
        Slot("output", 4 * n, 1),
    ]
    # Reversed: what one thread reads of a, the other one writes of b.
    steps = [
        call(f, s, n, (k,), nbytes=500_000)
        for f, s, k in [("scale", (0, 1), 2), ("reverse", (1, 2), n), ("scale", (0, 3), 4), ("reverse", (3, 4), n)]
    ]
    exe = Executable(plans=[plan([port("x", n)], [port("y", n), port("z", n)], slots, steps)])
    x = rng.normal(size=n).astype("f")
    two, four, one = (np.float32(k) for k in (2, 4, 1))
    for _ in range(300):
        y, z = exe(x)
        assert np.array_equal(y, 2 * (x * two + one)[::-1]) and np.array_equal(z, 2 * (x * four + one)[::-1])
    assert exe.memory().arena < exe.memory().unplanned


def test_tiny_steps_form_one_group():
    exe = Executable(plans=[chain(20, 10)])
    exe(np.ones(10, "f"))
    t = next(iter(exe._bounds.values())).table
    assert t.count == 1 and t.threads == 1


def slow_plan(steps: int, turns: int, state: bool = False):
    """``steps`` steps of a few milliseconds each; with ``state``, half-way s += x."""
    slots = [Slot("input", 16, 0), Slot("output", 16, 0)] + [Slot("arena", 16, -1, i, i + 1) for i in range(steps - 1)]
    way = [0, *range(2, steps + 1), 1]
    calls = [call("slow", (way[i], way[i + 1]), 4, (turns,), scratch=64, flops=400 * turns) for i in range(steps)]
    if not state:
        return plan([port("x", 4)], [port("y", 4)], slots, calls)
    slots.append(Slot("input", 16, 1))
    at = len(slots) - 1
    calls.insert(steps // 2, call("update", (at, 0), 4, writes=(at,), reads=(at, 0)))
    return plan([port("x", 4), port("s", 4, role="state")], [port("y", 4), port("s_new", 4)], slots, calls, aliases=((1, 1),))


def _turns_for(seconds: float) -> int:
    exe = Executable(plans=[slow_plan(1, 2_000_000)])
    exe(np.ones(4, "f"), threads=1)
    t = time.perf_counter()
    exe(np.ones(4, "f"), threads=1)
    return max(1000, int(2_000_000 * seconds / (time.perf_counter() - t)))


class Alarm(Exception):
    pass


def _interrupted(exe, when) -> float:
    """Calls ``exe``; another thread sends a signal, whose handler raises, as soon as ``when()``. Seconds from there to the
    exception."""
    sent = []

    def handler(*_):
        raise Alarm

    def send():
        while not when():
            time.sleep(0.002)
        sent.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    old = signal.signal(signal.SIGALRM, handler)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        with pytest.raises(Alarm):
            exe(np.ones(4, "f"))
        return time.perf_counter() - sent[0]
    finally:
        sender.join()
        signal.signal(signal.SIGALRM, old)


def _after(seconds: float):
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


@pytest.mark.parametrize("count", [1, 2])
def test_a_signal_ends_a_long_call(pool, count):
    pool(count)
    exe = Executable(plans=[slow_plan(300, _turns_for(0.01))])  # 3 s on one thread
    assert _interrupted(exe, _after(0.2)) < 1
    assert next(iter(exe._bounds.values())).table.threads == count
    # The pool is free again, and nobody is inside the old call.
    other = Executable(plans=[chain(4, nbytes=1_000_000)])
    x = np.arange(5000, dtype="f")
    assert np.array_equal(other(x), chained(x, 4))
    assert threads.pool()._words[runner.POOL_BUSY] == 0
    assert _interrupted(exe, _after(0.1)) < 1  # this time by the short way for known sizes
    assert threads.pool()._words[runner.POOL_BUSY] == 0
    assert np.array_equal(other(x), chained(x, 4))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("late", [False, True])
def test_a_signal_leaves_state_old_or_new(pool, count, late):
    pool(count)
    s = Value(np.full(4, 10, "f"))
    exe = Executable(plans=[slow_plan(60, _turns_for(0.01 * count), state=True)], bindings=[s])  # 0.6 s, s changes half-way
    took = _interrupted(exe, (lambda: s.array[0] != 10) if late else _after(0.05))
    assert (s.array == (11 if late else 10)).all() and s.version == late
    # Past its first write to s the call ran to its end.
    assert took > 0.05 if late else took < 0.5
    # Whatever the first call did, the next one does it whole.
    y, _ = exe(np.ones(4, "f"))
    assert (y == 61).all() and (s.array == 11 + late).all() and s.version == 1 + late


def test_error_in_the_first_part_stops_before_a_late_part(pool):
    """The gate waits for every step before it, on every thread."""
    pool(2)
    n = 20_000
    slots = [Slot("input", 8 * n, 0), Slot("input", 40, 1), Slot("output", 4 * n, 0), Slot("input", 4 * n, 2)]
    steps = [
        call("gather", (1, 0, 2), n, (10, 3), error=3, nbytes=500_000),
        call("update", (3, 2), n, writes=(3,), reads=(3, 2), nbytes=500_000),
    ]
    ports = [port("k", n, dtype=int64), port("t", 10, role="parameter"), port("s", n, role="state")]
    s = Value(np.zeros(n, "f"))
    exe = Executable(
        plans=[plan(ports, [port("y", n), port("s2", n)], slots, steps, aliases=((1, 2),), errors=(ErrorSite(3, "out"),))],
        bindings=[Value(np.ones(10, "f")), s],
    )
    good, bad = np.zeros(n, int), np.zeros(n, int)
    bad[-1] = 10
    done = 0
    for i in range(200):
        if i % 3 == 0:
            with pytest.raises(IndexError):
                exe(bad)
        else:
            exe(good)
            done += 1
        assert (s.array == done).all()


def test_fork(rng, pool, tmp_path):
    """The child has none of the parent's threads: it makes its own pool."""
    code = textwrap.dedent("""
        import os, sys, warnings
        import numpy as np
        warnings.simplefilter("ignore", DeprecationWarning)
        from kerogen.runtime import threads
        from kerogen.runtime.executable import Executable
        from tests.runtime.kernels import chain, chained
        threads.set_num_threads(2)
        exe = Executable(plans=[chain(6, nbytes=1_000_000)])
        x = np.arange(50_000, dtype="f")
        want = chained(x, 6)
        assert np.array_equal(exe(x), want)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                ok = all(np.array_equal(exe(x), want) for _ in range(20))
                ok &= len(os.listdir("/proc/self/task")) == 2
                os._exit(0 if ok else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert np.array_equal(exe(x), want)
        print("fine")
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ, PYTHONPATH=os.getcwd())
    )
    assert done.stdout == "fine\n", done.stderr


def test_ending_the_process_while_threads_work():
    """The interpreter ends while the pool spins and another Python thread is in a call: no crash, no hang."""
    code = textwrap.dedent("""
        import threading
        import numpy as np
        from kerogen.runtime import threads
        from kerogen.runtime.executable import Executable
        from tests.runtime.kernels import chain
        threads.set_num_threads(2)
        exe = Executable(plans=[chain(50, nbytes=1_000_000)])
        x = np.ones(300_000, "f")
        def forever():
            while True:
                exe(x)
        threading.Thread(target=forever, daemon=True).start()
        for _ in range(20):
            exe(x)
        print("fine")
    """)
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ, PYTHONPATH=os.getcwd())
        )
        assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_new_sizes_and_pools_while_others_call(rng, pool):
    """Contexts come and go, pools are replaced, and late threads of old calls look at memory that is no longer used."""
    pool(2)
    exe = Executable(plans=[chain(5, nbytes=400_000)])
    stop = threading.Event()
    wrong = []

    def work(seed):
        g = np.random.default_rng(seed)
        while not stop.is_set():
            x = g.normal(size=int(g.integers(1, 3000))).astype("f")
            if not np.array_equal(exe(x), chained(x, 5)):
                wrong.append(x.size)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for w in workers:
        w.start()
    for i in range(40):
        pool(2 + i % 3)
        time.sleep(0.02)
    stop.set()
    for w in workers:
        w.join()
    assert not wrong


def test_epochs_never_claim_twice(rng, pool):
    """Every unit is executed exactly once per call: s += x on state shows a chunk done twice or not at all. Most of the threads
    have no core, so the others compete for their chunks."""
    pool(8)
    n = 999
    slots = [Slot("input", 4 * n, 0), Slot("input", 4 * n, 1)]
    p = plan(
        [port("x", n), port("s", n, role="state")],
        [port("s2", n)],
        slots,
        [call("update", (1, 0), n, writes=(1,), reads=(1, 0), nbytes=30_000_000)],
        aliases=((0, 1),),
    )
    s = Value(np.zeros(n, "f"))
    exe = Executable(plans=[p], bindings=[s])
    x = np.ones(n, "f")
    for i in range(1, 2001):
        exe(x)
        if i % 100 == 0:
            assert (s.array == i).all()
    assert next(iter(exe._bounds.values())).table.groups[1][runner.GROUP_CHUNKS] > 10


def test_number_of_threads(monkeypatch, tmp_path):
    for wrong in (0, -1, 1.5, True, 10_000):
        with pytest.raises(ArgumentError):
            threads.set_num_threads(wrong)
    monkeypatch.setattr(threads, "_wanted", None)
    monkeypatch.setenv("KEROGEN_NUM_THREADS", "3")
    assert threads.num_threads() == 3
    monkeypatch.setattr(threads, "_wanted", None)
    monkeypatch.delenv("KEROGEN_NUM_THREADS")
    assert 1 <= threads.num_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/../../x", {"x/cpu.max": "300000 100000"}, 3.0),
        ("4:cpu,cpuacct:/c", {"cpu,cpuacct/c/cpu.cfs_quota_us": "200000", "cpu,cpuacct/c/cpu.cfs_period_us": "100000"}, 2.0),
        ("4:cpu:/c", {"cpu/c/cpu.cfs_quota_us": "-1", "cpu/c/cpu.cfs_period_us": "100000"}, None),
        ("0::/", {}, None),
        ("nonsense", {"cpu.max": "a b c"}, None),
    ],
)
def test_quota_of_the_control_group(tmp_path, lines, files, quota):
    (tmp_path / "cgroup").write_text(lines + "\n")
    for name, content in files.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert threads._quota(str(tmp_path / "cgroup"), str(tmp_path / "sys")) == quota


class _Memory:
    pass


def test_memory_stays_while_a_late_thread_is_inside():
    p = threads.Pool(3)
    first, second = _Memory(), _Memory()
    seen = weakref.ref(first), weakref.ref(second)
    p._words[runner.POOL_HAZARDS + 32] = 1234
    p.free(1234, first)
    p.free(5678, second)
    del first, second
    assert seen[0]() is not None and seen[1]() is None
    p._words[runner.POOL_HAZARDS + 32] = 0
    p.free(1, None)
    assert seen[0]() is None and not p._kept


def test_contexts_are_freed(pool):
    pool(2)
    exe = Executable(plans=[chain(3, nbytes=1_000_000)])
    for n in range(100, 300):
        exe(np.ones(n, "f"))
    time.sleep(0.01)
    threads.pool().free(1, None)
    assert not threads.pool()._kept and exe.stats()["bound"] == 64


def test_a_plan_below_the_threshold_runs_alone():
    exe = Executable(plans=[chain(2, 4000, nbytes=int(0.4 * table.ALONE_SECONDS * table.BYTES_PER_SECOND))])
    exe(np.ones(4000, "f"))
    assert next(iter(exe._bounds.values())).table.threads == 1


@pytest.mark.skipif(threads.available() < 2, reason="one CPU: all threads share it")
def test_a_worker_that_wakes_is_kept_off_the_callers_cpu(pool):
    """Linux may wake it where its waker runs, and there both would share one core while another is idle."""
    pool(2)
    exe = Executable(plans=[chain(4, nbytes=4_000_000)])
    x = np.arange(5000, dtype="f")
    mine = os.sched_getaffinity(0)
    try:
        for cpu in sorted(mine)[:2]:
            for _ in range(3):  # at first the worker may not have said who it is
                os.sched_setaffinity(0, mine)
                exe(x)
                time.sleep(0.05)  # it sleeps
            os.sched_setaffinity(0, {cpu})  # we run here; the mask is wide again before the call, and we have not moved
            os.sched_setaffinity(0, mine)
            words = threads.pool()._words
            assert np.array_equal(exe(x), chained(x, 4))
            worker = words[runner.POOL_HAZARDS + 16 + 4]
            assert words[runner.POOL_CPU] - 1 in mine
            assert os.sched_getaffinity(worker) == mine - {words[runner.POOL_CPU] - 1}
    finally:
        os.sched_setaffinity(0, mine)
