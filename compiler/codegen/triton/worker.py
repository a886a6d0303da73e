"""The process in which generated kernels run in Triton's interpreter, on NumPy, without torch or a GPU. Started by ``interpreter.py``.

Run as a script with TRITON_INTERPRET=1 (which must be set before triton is imported). Reads requests from stdin and writes replies to stdout, each a
JSON header and raw bytes (see ``read`` and ``write``); kernels come as source text. Two checks run beside every kernel: each lane of a
load or store must lie in one of the call's buffers, and no two programs (or lanes) may touch an element that one of them writes.
"""

from __future__ import annotations

import json
import linecache
import struct
import sys
import traceback
from dataclasses import replace

import numpy as np

_GAP = 256  # bytes around every buffer that belong to none


def read(stream) -> tuple[dict, list[bytearray]]:
    """One message: header length, header, then the blobs whose sizes header["blobs"] lists."""
    (n,) = struct.unpack("<q", _exactly(stream, 8))
    header = json.loads(bytes(_exactly(stream, n)))
    return header, [_exactly(stream, size) for size in header["blobs"]]


def write(stream, header: dict, blobs: list) -> None:
    text = json.dumps({**header, "blobs": [len(b) for b in blobs]}).encode()
    stream.write(struct.pack("<q", len(text)) + text)
    for b in blobs:
        stream.write(b)
    stream.flush()


def _exactly(stream, n: int) -> bytearray:
    out = bytearray(n)
    view, done = memoryview(out), 0
    while done < n:
        got = stream.readinto(view[done:])
        if not got:
            raise EOFError
        done += got
    return out


class KernelFault(Exception):
    """A generated kernel read or wrote where it must not."""


class Memory:
    """The buffers of the running call, and who touched which element of those that are written."""

    def __init__(self) -> None:
        self.program = 0
        self.kernel = ""

    def begin(self, kernel: str, spans: list[tuple[int, int, str, bool]]) -> None:
        self.kernel = kernel
        self.spans = sorted(set(spans))
        self.starts = np.array([s[0] for s in self.spans], np.uint64)
        self.ends = np.array([s[1] for s in self.spans], np.uint64)
        self.writers = [np.zeros(s[1] - s[0], np.int32) if s[3] else None for s in self.spans]
        self.readers = [np.zeros(s[1] - s[0], np.int32) if s[3] else None for s in self.spans]

    def check(self, what: str, pointers: np.ndarray, mask: np.ndarray, size: int) -> None:
        at = pointers[np.broadcast_to(mask.astype(bool, copy=False), pointers.shape)].reshape(-1)
        if at.size == 0:
            return
        if len(self.spans) == 0:
            raise KernelFault(f"{self.kernel}: {what} without buffers")
        which = np.maximum(np.searchsorted(self.starts, at, side="right").astype(np.int64) - 1, 0)
        bad = (at < self.starts[which]) | (at + np.uint64(size) > self.ends[which])
        if bad.any():
            i = int(np.argmax(bad))
            begin, end, name, _ = self.spans[int(which[i])]
            raise KernelFault(f"{self.kernel}: program {self.program}: {what} of {size} bytes at {name}{int(at[i]) - begin:+d} "
                              f"({name} has {end - begin} bytes)")
        me = self.program + 1
        for b in np.unique(which):
            writers, readers = self.writers[b], self.readers[b]
            if writers is None or readers is None:
                continue
            begin, _, name, _ = self.spans[b]
            offsets = (at[which == b] - np.uint64(begin)).astype(np.int64)
            owner = writers[offsets]
            if ((owner != 0) & (owner != me)).any():
                i = int(offsets[np.argmax((owner != 0) & (owner != me))])
                raise KernelFault(f"{self.kernel}: race: program {self.program}'s {what} at {name}+{i}, which program {int(writers[i]) - 1} wrote")
            if what == "store":
                unique, counts = np.unique(offsets, return_counts=True)
                if len(unique) != len(offsets):
                    raise KernelFault(f"{self.kernel}: race: two lanes of program {self.program} store to {name}+{int(unique[np.argmax(counts)])}")
                seen = readers[offsets]
                if ((seen != 0) & (seen != me)).any():
                    i = int(offsets[np.argmax((seen != 0) & (seen != me))])
                    raise KernelFault(f"{self.kernel}: race: program {self.program} writes {name}+{i}, which another program read")
                writers[offsets] = me
            else:
                seen = readers[offsets]
                readers[offsets] = np.where((seen == 0) | (seen == me), me, -1)


MEMORY = Memory()


def patch():
    """Makes Triton's interpreter right where it is not (facts: triton_gpu section 2), fast for reductions, and checked. Returns its module."""
    import triton.language as tl
    from triton.runtime import interpreter as ti

    builder = ti.InterpreterBuilder
    ti.interpreter_builder.options = replace(ti.interpreter_builder.options, sanitize_overflow=False)  # integers wrap
    cast_impl, dot, load, store = builder.cast_impl, builder.create_dot, builder.create_masked_load, builder.create_masked_store

    def widen(bits: np.ndarray) -> np.ndarray:
        return (bits.astype(np.uint32) << 16).view(np.float32)

    def narrow(x: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return np.where(np.isnan(x), (bits >> 16) | 0x40, rounded).astype(np.uint16)

    def cast(self, src, dst_type):
        source, target = src.dtype.scalar, dst_type.scalar
        if source == tl.bfloat16 and target == tl.float32:
            return ti.TensorHandle(widen(src.data), tl.float32)
        if source == tl.float32 and target == tl.bfloat16:
            return ti.TensorHandle(narrow(src.data), tl.bfloat16)
        return cast_impl(self, src, dst_type)

    def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
        if a.dtype.scalar == tl.bfloat16:
            a, b = (ti.TensorHandle(widen(x.data), tl.float32) for x in (a, b))
        return dot(self, a, b, d, input_precision, max_num_imprecise_acc)

    binary_op = builder.binary_op

    def compare(self, lhs, rhs, op):
        """A comparison's result is int1: the interpreter keeps the operands' type, and broadcasts a scalar condition as that."""
        out = binary_op(self, lhs, rhs, op)
        return ti.TensorHandle(out.data, tl.int1) if out.data.dtype == np.bool_ else out

    def size_of(handle) -> int:
        return max(1, handle.get_element_ty().primitive_bitwidth // 8)

    def create_masked_load(self, ptrs, mask, *rest):
        MEMORY.check("load", ptrs.data, mask.data, size_of(ptrs))
        return load(self, ptrs, mask, *rest)

    def create_masked_store(self, ptrs, value, mask, *rest):
        MEMORY.check("store", ptrs.data, mask.data, size_of(ptrs))
        return store(self, ptrs, value, mask, *rest)

    def generic_reduce(self, operands):
        """Halves at a time: combine functions work on arrays."""
        axis = self.axis
        parts = [np.moveaxis(x.handle.data, axis, 0) for x in operands]
        while parts[0].shape[0] > 1:
            half = parts[0].shape[0] // 2
            tensors = [self.to_tensor(p[:half], x.dtype) for p, x in zip(parts, operands)] + [
                self.to_tensor(p[half:2 * half], x.dtype) for p, x in zip(parts, operands)]
            joined = self.combine_fn.fn(*tensors)
            joined = joined if isinstance(joined, tuple) else (joined,)
            parts = [np.concatenate([j.handle.data, p[2 * half:]]) for j, p in zip(joined, parts)]
        out = [np.moveaxis(p, 0, axis) if self.keep_dims else p[0] for p in parts]
        return [self.to_tensor(o, x.dtype) for o, x in zip(out, operands)]

    def call(self, *args, **kwargs):
        return self.rewrite()(*args, **kwargs)

    builder.cast_impl, builder.create_dot, builder.binary_op = cast, create_dot, compare
    builder.create_masked_load, builder.create_masked_store = create_masked_load, create_masked_store
    ti.ReduceOps.generic_reduce = generic_reduce
    ti.InterpretedFunction.__call__ = call  # the language is patched once, for the process
    return ti


class Worker:
    def __init__(self) -> None:
        self.ti = patch()
        import triton.language as tl
        self.tl, self.functions, self.patched = tl, {}, False

    def function(self, name: str, text: str):
        """The kernel, ready to be called once per program; compiled once per text."""
        fn = self.functions.get(text)
        if fn is None:
            path = f"<kerogen:{name}:{len(self.functions)}>"
            linecache.cache[path] = (len(text), None, text.splitlines(True), path)
            space: dict = {"__name__": f"kerogen_kernel_{len(self.functions)}"}
            exec(compile(text, path, "exec"), space)
            jit = space[name]
            if not self.patched:
                for f in (jit.fn, self.tl.zeros.fn):  # the language as kernels name it, and as its own library does
                    self.ti._patch_lang(f)
                self.patched = True
            fn = self.functions[text] = jit.rewrite()
        return fn

    def run(self, header: dict, blobs: list[bytearray]) -> tuple[dict, list]:
        memory: dict[str, np.ndarray] = {}
        self.kept: list = []
        for key, blob in zip(header["arrays"], blobs):
            memory[key] = self._place(blob)
        errors: list[int] = []
        with np.errstate(all="ignore"):
            for number, c in enumerate(header["calls"]):
                code = self._call(header["kernels"][c["kernel"]], c, memory)
                if code:
                    errors.append(code)
                    return {"error_word": code, "call": number}, []
        return {"error_word": 0}, [memory[k].tobytes() for k in header["outputs"]]

    def _place(self, blob: bytearray) -> np.ndarray:
        space = np.zeros(len(blob) + 3 * _GAP, np.uint8)
        start = _GAP + (-(space.ctypes.data + _GAP)) % _GAP
        array = space[start: start + len(blob)]
        array[:] = np.frombuffer(blob, np.uint8)
        self.kept.append(space)
        return array

    def _call(self, kernel: dict, call: dict, memory: dict[str, np.ndarray]) -> int:
        tl, ti = self.tl, self.ti
        fn = self.function(kernel["name"], kernel["text"])
        names = call["buffers"]
        written = set(names[len(names) - kernel["outputs"]:])
        word = self._place(bytearray(8))
        values: list = [memory[k] for k in names] + list(call["params"]) + ([word] if kernel["checks"] else [])
        args = []
        spans = []
        for (name, type_), v in zip(kernel["signature"], values, strict=True):
            if type_.startswith("*"):
                ty = tl.pointer_type(tl.str_to_ty(type_[1:], None))
                args.append(tl.tensor(ti.TensorHandle(np.array([v.ctypes.data], np.uint64), ty), ty))
                key = "error word" if v is word else name
                spans.append((v.ctypes.data, v.ctypes.data + len(v), key, v is not word and any(v is memory[k] for k in written)))
            else:
                ty = tl.str_to_ty(type_, None)
                args.append(tl.tensor(ti.TensorHandle(np.array([v], {"i32": np.int32, "i64": np.int64}[type_]), ty), ty))
        unique = {s[0]: s for s in spans if s[1] > s[0]}  # one array may be both read and written (donated memory)
        MEMORY.begin(kernel["name"], list(unique.values()))
        grid = call["grid"]
        ti.interpreter_builder.set_grid_dim(grid, 1, 1)
        for x in range(grid):
            MEMORY.program = x
            ti.interpreter_builder.set_grid_idx(x, 0, 0)
            fn(*args)
        return int(word.view(np.int64)[0])


def main() -> None:
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what kernels or libraries print must not mix with replies
    worker = Worker()
    write(replies, {"ready": True}, [])
    while True:
        try:
            header, blobs = read(requests)
        except EOFError:
            return
        try:
            write(replies, *worker.run(header, blobs))
        except Exception as e:  # noqa: BLE001  whatever a kernel does, the client is told
            write(replies, {"failed": f"{type(e).__name__}: {e}", "trace": traceback.format_exc(limit=-6)}, [])


if __name__ == "__main__":
    main()
