"""``ops.linalg``: decompositions, systems, inverses, determinants, norms."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from .arithmetic import floating
from .define import operation

LINALG = "keras.src.ops.linalg"


@operation(LINALG)
def cholesky(x: Any, upper: bool = False) -> Any:
    """The lower L with L L^T = x (its transpose where ``upper``)."""
    return F.cholesky(floating(x), upper)


@operation(LINALG)
def cholesky_inverse(x: Any, upper: bool = False) -> Any:
    """The inverse of the matrix whose Cholesky factor is x."""
    return F.cholesky_inverse(floating(x), upper)


@operation(LINALG)
def det(x: Any) -> Any:
    return F.det(floating(x))


@operation(LINALG)
def slogdet(x: Any) -> Any:
    """(sign, log |det x|)."""
    return F.slogdet(floating(x))


@operation("keras.src.ops.math")
def logdet(x: Any) -> Any:
    """log det x of a positive definite x, by its Cholesky factor."""
    low = F.cholesky(floating(x))
    return F.mul(F.sum_(F.log(F.matrix_diagonal(low)), low.rank - 2), 2.0)


@operation(LINALG)
def eig(x: Any) -> Any:
    """(eigenvalues, eigenvectors as columns), each a pair (real, imaginary): kerogen has no complex type."""
    return F.eig(floating(x))


@operation(LINALG)
def eigh(x: Any) -> Any:
    """(eigenvalues ascending, eigenvectors as columns) of a symmetric x."""
    return F.eigh(floating(x))


@operation(LINALG)
def inv(x: Any) -> Any:
    return F.inv(floating(x))


@operation(LINALG)
def pinv(x: Any, rcond: float | None = None) -> Any:
    """The pseudo-inverse; singular values below rcond times the greatest count as 0."""
    return F.pinv(floating(x), rcond)


@operation(LINALG)
def matrix_rank(x: Any, tol: float | None = None) -> Any:
    """int32: how many singular values are greater than ``tol``."""
    return F.matrix_rank(floating(x), tol)


@operation(LINALG)
def lu_factor(x: Any) -> Any:
    """(L and U in one matrix, pivots)."""
    return F.lu_factor(floating(x))


@operation(LINALG)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Norms of vectors (one axis) or matrices (two), as NumPy's."""
    return F.norm(floating(x), ord, axis, keepdims)


@operation(LINALG)
def qr(x: Any, mode: str = "reduced") -> Any:
    """(q, r); ``mode``: "reduced" or "complete"."""
    return F.qr(floating(x), mode)


@operation(LINALG, 2)
def solve(a: Any, b: Any) -> Any:
    """x with a x = b."""
    return F.solve(floating(a), floating(b))


@operation(LINALG, 2)
def solve_triangular(a: Any, b: Any, lower: bool = False) -> Any:
    """x with a x = b for a triangular a."""
    return F.solve_triangular(floating(a), floating(b), lower)


@operation(LINALG, name="SVD")
def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """(u, s, vh), or s alone."""
    return F.svd(floating(x), full_matrices, compute_uv)


@operation(LINALG, 2)
def lstsq(a: Any, b: Any, rcond: float | None = None) -> Any:
    """x of least norm that minimises |a x - b|."""
    return F.lstsq(floating(a), floating(b), rcond)


__all__ = [
    "cholesky", "cholesky_inverse", "det", "eig", "eigh", "inv", "logdet", "lstsq", "lu_factor", "matrix_rank", "norm", "pinv", "qr", "slogdet",
    "solve", "solve_triangular", "svd",
]
