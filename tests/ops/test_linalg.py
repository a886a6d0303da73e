"""Linear algebra against SciPy and NumPy at sizes that fill registers, singular and indefinite matrices, and JAX' derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as f
from kerogen.compiler.ir.graph import leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.passes.autodiff import grad
from kerogen.runtime.dtype import float32, float64
from kerogen.runtime.errors import ArgumentError, GradientError, KerogenError, ShapeError

from ..codegen.llvm.test_routines import run
from ..compare import assert_close
from ..oracle import oracle

rng = np.random.default_rng(31)


def definite(n: int, *batch: int) -> np.ndarray:
    a = rng.standard_normal((*batch, n, n))
    return a @ np.swapaxes(a, -1, -2) / n + np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_factorisations_at_many_sizes(n: int, dtype: str) -> None:
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    a, b = definite(n, 2).astype(dtype), rng.standard_normal((2, n, 5)).astype(dtype)
    general = (rng.standard_normal((2, n, n)) + np.roll(np.eye(n) * 4, 1, 0)).astype(dtype)
    (low,) = run(f.cholesky, a)
    assert_close(low, np.linalg.cholesky(a.astype(np.float64)).astype(dtype), tolerance)
    lu, pivots = run(f.lu_factor, general)
    scipy = oracle("scipy.linalg")
    for i in range(2):
        expected, piv = scipy.lu_factor(general[i].astype(np.float64))
        assert np.array_equal(pivots[i], piv)
        assert_close(lu[i], expected.astype(dtype), tolerance)
    (x,) = run(f.solve, general, b)
    assert_close(general.astype(np.float64) @ x, b.astype(np.float64), tolerance * 10, check_dtype=False)
    (inverse,) = run(f.inv, general)
    assert_close(inverse, np.linalg.inv(general.astype(np.float64)).astype(dtype), tolerance * 10)
    sign, log = run(f.slogdet, general)
    expected_sign, expected_log = np.linalg.slogdet(general.astype(np.float64))
    assert np.array_equal(sign, expected_sign.astype(dtype))
    assert_close(log, expected_log.astype(dtype), tolerance)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("columns", [1, 16, 69])
def test_triangular_systems_read_one_half(lower: bool, transposed: bool, unit: bool, columns: int) -> None:
    scipy = oracle("scipy.linalg")
    a = rng.standard_normal((23, 23)) / 23 + 2 * np.eye(23)
    b = rng.standard_normal((23, columns))
    other = np.tril(np.full_like(a, np.nan), -1)
    (x,) = run(lambda p, q: f.solve_triangular(p, q, lower, transposed, unit), a + (other.T if lower else other), b)
    assert_close(x, scipy.solve_triangular(a, b, trans=int(transposed), lower=lower, unit_diagonal=unit), 1e-12)


def test_what_has_no_answer_gives_nan_not_an_error() -> None:
    bad = np.array([[1.0, 2.0], [2.0, 1.0]])
    (low,) = run(f.cholesky, np.stack([bad, np.eye(2)]))
    assert np.isnan(low[0, 1, 1]) and np.array_equal(low[1], np.eye(2))
    (d,) = run(f.det, np.array([[1.0, 2.0], [2.0, 4.0]]))
    assert d == 0
    holes = np.array([[1.0, np.nan], [np.inf, 1.0]])
    for fn in (f.svd, f.eigh, f.qr):
        assert all(np.isnan(v[0]).all() and np.isfinite(v[1]).all() for v in run(fn, np.stack([holes, np.eye(2)])))


def test_full_decompositions_rebuild_the_matrix() -> None:
    a = rng.standard_normal((3, 5, 3))
    u, s, vh = run(lambda v: f.svd(v), a)
    assert u.shape == (3, 5, 5) and vh.shape == (3, 3, 3)
    assert_close((u[..., :3] * s[:, None]) @ vh, a, 1e-12)
    q, r = run(lambda v: f.qr(v, "complete"), a)
    assert q.shape == (3, 5, 5) and r.shape == (3, 5, 3)
    assert_close(q @ r, a, 1e-12)
    x = rng.standard_normal((4, 4))
    wr, wi, vr, vi = run(lambda v: [part for pair in f.eig(v) for part in pair], x)
    assert_close(x @ (vr + 1j * vi), (vr + 1j * vi) * (wr + 1j * wi), 1e-12)


def test_powers_and_least_squares() -> None:
    a, b = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    assert_close(run(f.lstsq, a, b)[0], np.linalg.lstsq(a, b, None)[0], 1e-12)
    a[:, 2] = a[:, 0] + a[:, 1]  # of rank 2: the solution of least norm
    assert_close(run(f.lstsq, a, b)[0], np.linalg.lstsq(a, b, None)[0], 1e-11)
    assert run(f.matrix_rank, a)[0] == 2
    x = rng.standard_normal((2, 4, 4))
    for n in (-2, 0, 1, 5):
        assert_close(run(lambda v, n=n: f.matrix_power(v, n), x)[0], np.linalg.matrix_power(x, n), 1e-9)


@pytest.mark.parametrize("name", ["cholesky", "inv", "det", "slogdet", "solve", "qr", "svd", "eigh", "pinv", "lu"])
def test_derivatives_are_those_of_jax(name: str) -> None:
    jax = oracle("jax")
    jax.config.update("jax_enable_x64", True)
    try:
        jnp = jax.numpy
        a, b = definite(5) + np.diag(np.arange(5.0)), rng.standard_normal((5, 2))
        ours = {"cholesky": f.cholesky, "inv": f.inv, "det": f.det, "slogdet": lambda x: f.slogdet(x)[1], "solve": lambda x: f.solve(x, b),
                "qr": lambda x: f.mul(*[f.sin(v) for v in f.qr(x)]), "svd": lambda x: f.svd(x)[1], "eigh": lambda x: f.square(f.eigh(x)[1]),
                "pinv": f.pinv, "lu": lambda x: f.lu_factor(x)[0]}[name]
        theirs = {"cholesky": jnp.linalg.cholesky, "inv": jnp.linalg.inv, "det": jnp.linalg.det, "slogdet": lambda x: jnp.linalg.slogdet(x)[1],
                  "solve": lambda x: jnp.linalg.solve(x, b), "qr": lambda x: jnp.prod(jnp.stack([jnp.sin(v) for v in jnp.linalg.qr(x)]), 0),
                  "svd": lambda x: jnp.linalg.svd(x)[1], "eigh": lambda x: jnp.linalg.eigh(x)[1] ** 2, "pinv": jnp.linalg.pinv,
                  "lu": lambda x: jax.scipy.linalg.lu_factor(x)[0]}[name]
        value = np.asarray(theirs(a))
        ct = rng.standard_normal(value.shape)
        expected = jax.grad(lambda x: jnp.sum(theirs(x) * ct))(a)
        got, derivative = run(lambda x: [ours(x), *grad(f.sum_(f.mul(ours(x), ct)), [x])], a)
        assert_close(got, value, 1e-10)
        assert_close(derivative, np.asarray(expected), 1e-9)
    finally:
        jax.config.update("jax_enable_x64", False)


def test_errors_say_what_was_given() -> None:
    wide, square = leaf("a", TensorType((2, 3), float32)), leaf("b", TensorType((3, 3), float64))
    for error, text, call in [
        (ShapeError, r"inv needs square matrices, got float32\[2, 3\]", lambda: f.inv(wide)),
        (ShapeError, "has no right side", lambda: f.solve(square, f.zeros((2, 2), float64))),
        (ArgumentError, "mode must be 'reduced' or 'complete'", lambda: f.qr(square, "full")),
        (ArgumentError, "no norm 'max'", lambda: f.norm(square, "max", (0, 1))),
        (GradientError, "reduced", lambda: grad(f.sum_(f.svd(f.reshape(square, (9, 1)))[0]), [square])),
    ]:
        with pytest.raises(error, match=text) as caught:
            call()
        assert isinstance(caught.value, KerogenError)
