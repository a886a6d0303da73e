"""Small kernels in hand-written LLVM IR, and plans made of them: the runtime is tested without the compiler."""

from __future__ import annotations

import numpy as np

from kerogen.runtime import cpu
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import DType, float32, int64
from kerogen.runtime.plan import ErrorSite, KernelCall, Plan, Port, Slot


def kernel(name: str, buffers: int, params: int, body: str, declarations: str = "") -> str:
    """IR of a kernel whose ``body`` is executed for each unit %i, with pointers %b0.. and integers %p0.."""
    head = []
    for n in range(buffers):
        head += [f"  %bp{n} = getelementptr ptr, ptr %bufs, i64 {n}", f"  %b{n} = load ptr, ptr %bp{n}"]
    for n in range(params):
        head += [f"  %pp{n} = getelementptr i64, ptr %params, i64 {n}", f"  %p{n} = load i64, ptr %pp{n}"]
    return "\n".join([
        declarations, f"define void @{name}(ptr %bufs, ptr %params, i64 %begin, i64 %end, ptr %tls) {{", "entry:", *head,
        "  %scratch = load ptr, ptr %tls", "  %errp = getelementptr ptr, ptr %tls, i64 1", "  %error = load ptr, ptr %errp",
        "  %any = icmp slt i64 %begin, %end", "  br i1 %any, label %loop, label %out",
        "loop:", "  %i = phi i64 [ %begin, %entry ], [ %n, %next ]", body, "  br label %next",
        "next:", "  %n = add i64 %i, 1", "  %more = icmp slt i64 %n, %end", "  br i1 %more, label %loop, label %out",
        "out:", "  ret void", "}", ""])  # fmt: skip


def _load(name: str, buffer: int, index: str = "%i", kind: str = "float") -> str:
    return f"  %{name}p = getelementptr {kind}, ptr %b{buffer}, i64 {index}\n  %{name} = load {kind}, ptr %{name}p\n"


def _store(value: str, buffer: int, index: str = "%i") -> str:
    return f"  %sp = getelementptr float, ptr %b{buffer}, i64 {index}\n  store float {value}, ptr %sp"


ADD = kernel("add", 3, 0, _load("x", 0) + _load("y", 1) + "  %s = fadd float %x, %y\n" + _store("%s", 2))
# b1 = b0 * p0 + 1
SCALE = kernel(
    "scale",
    2,
    1,
    _load("x", 0) + "  %f = sitofp i64 %p0 to float\n  %m = fmul float %x, %f\n  %s = fadd float %m, 1.0\n" + _store("%s", 1),
)
# b0 += b1, in place
UPDATE = kernel("update", 2, 0, _load("x", 0) + _load("y", 1) + "  %s = fadd float %x, %y\n" + _store("%s", 0))
# b2[i] = b0[b1[i]], p0 rows; error p1
GATHER = kernel("gather", 3, 2, _load("k", 1, kind="i64") + """
  %ok = icmp ult i64 %k, %p0
  br i1 %ok, label %good, label %bad
bad:
  store i64 %p1, ptr %error
  br label %good
good:
  %kk = select i1 %ok, i64 %k, i64 0
""" + _load("x", 0, "%kk") + _store("%x", 2))  # fmt: skip
# row i of p0 columns: b1[i] = sum of b0's row, after a detour through the thread's scratch
ROWSUM = kernel("rowsum", 2, 1, """
  %row = mul i64 %i, %p0
  %rp = getelementptr float, ptr %b0, i64 %row
  br label %copy
copy:
  %c = phi i64 [ 0, %loop ], [ %c1, %copy ]
  %cp = getelementptr float, ptr %rp, i64 %c
  %cv = load float, ptr %cp
  %qp = getelementptr float, ptr %scratch, i64 %c
  store volatile float %cv, ptr %qp
  %c1 = add i64 %c, 1
  %cm = icmp slt i64 %c1, %p0
  br i1 %cm, label %copy, label %sum
sum:
  %k = phi i64 [ 0, %copy ], [ %k1, %sum ]
  %acc = phi float [ 0.0, %copy ], [ %acc1, %sum ]
  %vp = getelementptr float, ptr %scratch, i64 %k
  %v = load volatile float, ptr %vp
  %acc1 = fadd float %acc, %v
  %k1 = add i64 %k, 1
  %km = icmp slt i64 %k1, %p0
  br i1 %km, label %sum, label %done
done:
""" + _store("%acc1", 1))  # fmt: skip
# b1[i] = b0[i] + 1 after p0 turns of a loop that the optimiser can't remove
SLOW = kernel("slow", 2, 1, """
  br label %turn
turn:
  %t = phi i64 [ 0, %loop ], [ %t1, %turn ]
  store volatile i64 %t, ptr %scratch
  %t1 = add i64 %t, 1
  %tm = icmp slt i64 %t1, %p0
  br i1 %tm, label %turn, label %after
after:
""" + _load("x", 0) + "  %s = fadd float %x, 1.0\n" + _store("%s", 1))  # fmt: skip
# b1[i] = 2 b0[p0 - 1 - i]
REVERSE = kernel(
    "reverse",
    2,
    1,
    "  %r0 = sub i64 %p0, 1\n  %r = sub i64 %r0, %i\n" + _load("x", 0, "%r") + "  %s = fmul float %x, 2.0\n" + _store("%s", 1),
)

# b1[i] (int64) = address of the thread's scratch, after p0 turns
WHO = kernel(
    "who",
    2,
    1,
    """
  br label %turn
turn:
  %t = phi i64 [ 0, %loop ], [ %t1, %turn ]
  store volatile i64 %t, ptr %scratch
  %t1 = add i64 %t, 1
  %tm = icmp slt i64 %t1, %p0
  br i1 %tm, label %turn, label %after
after:
  %wp = getelementptr i64, ptr %b1, i64 %i
  %w = ptrtoint ptr %scratch to i64
  store i64 %w, ptr %wp
""",
)

TEXT = {
    "who": WHO,
    "add": ADD,
    "scale": SCALE,
    "update": UPDATE,
    "gather": GATHER,
    "rowsum": ROWSUM,
    "slow": SLOW,
    "reverse": REVERSE,
}


def machine() -> cpu.Machine:
    here = cpu.host()
    return cpu.Machine(here.arch, "x86-64" if here.arch == "x86_64" else "generic", ())


def image(name: str) -> bytes:
    return cpu.object_code(TEXT[name], machine())


def call(
    name: str, slots: tuple[int, ...], units: int, params: tuple[int, ...] = (), writes: tuple[int, ...] | None = None, **more
) -> KernelCall:
    """A call of the kernel ``name``; its last buffer is the one written, where ``writes`` doesn't say otherwise."""
    writes = slots[-1:] if writes is None else writes
    reads = more.pop("reads", slots[:-1])
    return KernelCall(name, name, slots, (0,) * len(slots), params, units, reads=reads, writes=writes, name=name, **more)


def plan(inputs, outputs, slots, steps, *, aliases=(), setup=(), constants=(), errors=(), dims=(), guards=(), **more) -> Plan:
    """A plan of kernels of this module."""
    images = {s.image: image(s.image) for s in (*setup, *steps) if isinstance(s, KernelCall)}
    parts = map(tuple, (dims, guards, inputs, outputs, aliases, slots, setup, steps))
    return Plan("test", machine().text, *parts, images, tuple(constants), tuple(errors), **more)


def port(name: str, *shape: int, dtype: DType = float32, role: str = "input") -> Port:
    return Port(name, shape, dtype, role)


def chain(length: int, n: int | None = None, nbytes: int = 0) -> Plan:
    """y = x scaled by 1, 2, 3, ... in turn (each plus 1), over a free size "n" unless one is given."""
    size = Dim.free("n", 8) if n is None else n
    slots = [Slot("input", 4 * size, 0), Slot("output", 4 * size, 0)]
    slots += [Slot("arena", 4 * size, -1, i, i + 1) for i in range(length - 1)]
    way = [0, *range(2, length + 1), 1]
    steps = [call("scale", (way[i], way[i + 1]), size, (i % 3 + 1,), nbytes=nbytes) for i in range(length)]
    return plan([port("x", size)], [port("y", size)], slots, steps, dims=("n",) if n is None else ())


def chained(x: np.ndarray, length: int) -> np.ndarray:
    """What ``chain`` computes, by NumPy in float32."""
    for i in range(length):
        x = x * np.float32(i % 3 + 1) + np.float32(1)
    return x


def lookup(rows: int = 5, n: int = 4, state: bool = True) -> Plan:
    """y = table[indices]; then table-sized state s += y-independent x. An index out of range is error 7."""
    ports = [port("indices", n, dtype=int64), port("x", n), port("table", rows, role="parameter"), port("s", n, role="state")]
    slots = [
        Slot("input", 8 * n, 0),
        Slot("input", 4 * n, 1),
        Slot("input", 4 * rows, 2),
        Slot("input", 4 * n, 3),
        Slot("output", 4 * n, 0),
    ]
    steps = [
        call("gather", (2, 0, 4), n, (rows, 7), error=7),
        call("update", (3, 1), n, writes=(3,), reads=(3, 1)),
    ]
    return plan(ports, [port("y", n), port("s_new", n)], slots, steps, aliases=((1, 3),),
                errors=(ErrorSite(7, f"index out of range of layer 'embedding' (size {rows})"),))  # fmt: skip
