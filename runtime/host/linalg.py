"""Decompositions that LAPACK computes through NumPy: arrays (..., m, n) of float32 or float64. Values that are not finite give nan."""

from __future__ import annotations

import numpy as np

from . import register


def _guarded(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the matrices, with zeros in place of those that hold inf or nan; which ones those are): LAPACK may not return on them."""
    bad = ~np.isfinite(x).all((-2, -1))
    return np.where(bad[..., None, None], x.dtype.type(0), x), bad


def _marked(x: np.ndarray, bad: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.where(bad.reshape(bad.shape + (1,) * (x.ndim - bad.ndim)), np.nan, x).astype(dtype)


@register("qr")
def qr(x: np.ndarray, *, mode: str) -> tuple[np.ndarray, ...]:
    """Orthogonal q and upper r with x = q r; ``mode``: "reduced" or "complete"."""
    given, bad = _guarded(x)
    return tuple(_marked(v, bad, x.dtype) for v in np.linalg.qr(given, mode=mode))  # type: ignore[call-overload]


@register("svd")
def svd(x: np.ndarray, *, full_matrices: bool) -> tuple[np.ndarray, ...]:
    """u, s (descending), vh with x = u diag(s) vh."""
    given, bad = _guarded(x)
    return tuple(_marked(v, bad, x.dtype) for v in np.linalg.svd(given, full_matrices=full_matrices))


@register("eigh")
def eigh(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Eigenvalues (ascending) and eigenvectors (columns) of the symmetric part of x."""
    given, bad = _guarded(x)
    return tuple(_marked(v, bad, x.dtype) for v in np.linalg.eigh((given + np.swapaxes(given, -1, -2)) / 2))


@register("eig")
def eig(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Real and imaginary parts of the eigenvalues, then of the eigenvectors (columns)."""
    given, bad = _guarded(x)
    w, v = np.linalg.eig(given)
    return tuple(_marked(p, bad, x.dtype) for p in (w.real, w.imag, v.real, v.imag))
