"""KEROGEN_VERIFY=2: every kernel that is compiled also runs on random data beside the interpreter, and must agree.

Free sizes take the value that they have in this trace; kernels over more than ``LIMIT`` elements are left out (the interpreter is slow).
"""

from __future__ import annotations

import ctypes

import numpy as np

from ..runtime import cpu
from ..runtime.dim import unguarded
from ..runtime.dtype import DType
from ..runtime.errors import IndexRangeError, InternalError
from .kernel.interp import run_kernel
from .kernel.ir import Buffer, Kernel
from .kernel.text import kernel_text

LIMIT = 1 << 22
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def check_kernel(kernel: Kernel, symbol: str, image: bytes, params: tuple[int, ...], units: int, scratch: int) -> None:
    """Raises InternalError, with the kernel's text, where native code and interpreter disagree."""
    with unguarded():
        sizes = [int(n) for b in kernel.buffers for n in b.shape]
        if any(n > LIMIT for n in sizes):
            return
        rng = np.random.default_rng(0)
        arrays = {b.name: _random(b, rng) for b in kernel.buffers}
        expected = {k: v.copy() for k, v in arrays.items()}
        try:
            run_kernel(kernel, expected)
        except IndexRangeError:
            return  # random indices may lie outside: then there is nothing to compare
        _run(arrays, kernel, cpu.load(image, [symbol])[symbol], params, int(units), int(scratch))
        for b in kernel.writes:
            if not _agree(arrays[b.name], expected[b.name], b.dtype):
                raise InternalError(f"native code and interpreter disagree on {b.name} of\n{kernel_text(kernel)}")


def _random(b: Buffer, rng: np.random.Generator) -> np.ndarray:
    shape = tuple(int(n) for n in b.shape)
    if b.dtype.is_float:
        return rng.uniform(-2, 2, shape).astype(b.dtype.np)
    return rng.integers(0, 2 if b.dtype.kind == "b" else 4, shape).astype(b.dtype.np)


def _run(arrays: dict[str, np.ndarray], kernel: Kernel, address: int, params: tuple[int, ...], units: int, scratch: int) -> None:
    pointers = np.array([arrays[b.name].ctypes.data for b in kernel.buffers] or [0], np.int64)
    numbers = np.array([int(p) for p in params] or [0], np.int64)
    memory = np.zeros(scratch + 128, np.uint8)
    error = np.zeros(8, np.int64)
    tls = np.array([(memory.ctypes.data + 63) // 64 * 64, error.ctypes.data], np.int64)
    _SIGNATURE(address)(pointers.ctypes.data, numbers.ctypes.data, 0, units, tls.ctypes.data)


def _agree(a: np.ndarray, b: np.ndarray, dtype: DType) -> bool:
    if not dtype.is_float:
        return bool(np.array_equal(a, b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    tolerance = {2: 4e-2, 4: 2e-4, 8: 1e-9}[dtype.itemsize]
    with np.errstate(all="ignore"):
        return bool(np.all((x == y) | (np.isnan(x) & np.isnan(y)) | (np.abs(x - y) <= tolerance * (1 + np.abs(y)))))
