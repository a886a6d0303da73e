"""Distances in units of the last place, and arguments that cover a format."""

from __future__ import annotations

import numpy as np

Dtype = type[np.floating]


def all_binades(dtype: Dtype, per_binade: int, rng: np.random.Generator) -> np.ndarray:
    """Random significands in every exponent (denormals too), both signs, and the special values."""
    info = np.finfo(dtype)
    kind, bits = (np.uint32, 23) if dtype == np.float32 else (np.uint64, 52)
    top = 255 if dtype == np.float32 else 2047
    exponents = np.repeat(np.arange(top, dtype=kind), per_binade)
    mantissas = rng.integers(0, 2**bits, exponents.size, dtype=kind)
    x = ((exponents << kind(bits)) | mantissas).view(dtype)
    special = [
        0.0,
        np.inf,
        np.nan,
        info.max,
        info.tiny,
        np.nextafter(info.tiny, dtype(0)),
        info.smallest_subnormal,
        1.0,
        0.5,
        2.0,
        3.0,
        1 - info.epsneg,
        1 + info.eps,
    ]
    x = np.concatenate([x, np.array(special, dtype)])
    return np.concatenate([x, -x])


def around(points: np.ndarray, dtype: Dtype) -> np.ndarray:
    """The nearest number to each point, and its two neighbours on each side."""
    with np.errstate(all="ignore"):
        p = np.asarray(points).astype(dtype)
        up, down = np.nextafter(p, dtype(np.inf)), np.nextafter(p, dtype(-np.inf))
        return np.concatenate([p, up, down, np.nextafter(up, dtype(np.inf)), np.nextafter(down, dtype(-np.inf))])


def ulps(got: np.ndarray, want: np.ndarray, dtype: Dtype, beside: np.ndarray | float = 0.0) -> np.ndarray:
    """Distance from ``want`` (longdouble) in units of the last place of the greater of it and ``beside``; inf and nan must agree."""
    info = np.finfo(dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        size = np.maximum(np.abs(want), beside)
        _, e = np.frexp(np.where(np.isfinite(size) & (size != 0), size, 1))
        e = np.where(size < np.longdouble(info.tiny), info.minexp + 1, e)
        ulp = np.ldexp(np.longdouble(1), np.maximum(e - 1, info.minexp) - info.nmant)
        d = np.abs(got.astype(np.longdouble) - want) / ulp
        edge = np.nextafter(info.max, dtype(0), dtype=dtype)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    special = ~np.isfinite(rounded) | ~np.isfinite(got)
    sign = np.signbit(got) == np.signbit(rounded)
    overflow = np.isinf(rounded) & np.isfinite(want) & (np.abs(got) >= edge) & sign  # within one step of the top
    overflow |= np.isinf(got) & (np.abs(rounded) >= edge) & sign
    return np.where(special, np.where(same, 0.0, np.where(overflow, 1.0, np.inf)), d)
