"""AVX-512 (F, DQ, BW, VL, CD): 32 registers of 64 bytes, lane masks on everything, gathers and scatters."""

from __future__ import annotations

from ..builder import Builder, Value, const, element, lanes, poison, size_of

HALF = True  # converts float16 in hardware
GATHER = True
SCATTER = True

_SCALEF = {("float", 64): "ps.512", ("float", 32): "ps.256", ("float", 16): "ps.128",
           ("double", 64): "pd.512", ("double", 32): "pd.256", ("double", 16): "pd.128"}


def masked(itemsize: int) -> bool:
    """Whether masked loads and stores of elements of this size are one instruction."""
    return True


def scale(b: Builder, y: Value, n: Value) -> Value | None:
    """y * 2^n by vscalef (n an integer as float), rounded once; vectors wider than a register go by parts."""
    e, size, count = element(y.type), size_of(y.type), lanes(y.type)
    if size > 64 and size % 64 == 0:
        width = 64 // size_of(e)
        parts = []
        for start in range(0, count, width):
            picks = range(start, start + width)
            parts.append(scale(b, b.shuffle(y, None, picks), b.shuffle(n, None, picks)))
        while len(parts) > 1:
            parts = [b.shuffle(p, q, range(2 * lanes(p.type))) for p, q in zip(parts[::2], parts[1::2])]
        return parts[0]
    form = _SCALEF.get((e, size))
    if form is None:
        return None
    name = f"llvm.x86.avx512.mask.scalef.{form}"
    mask = const("i16" if count == 16 else "i8", -1)
    args = [y, n, poison(y.type), mask] + ([const("i32", 4)] if size == 64 else [])
    return b.intrinsic(name, y.type, args, suffixes=())
