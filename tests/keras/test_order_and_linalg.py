"""keras.ops' sorting, quantiles, Fourier transforms and linear algebra, and keras.random, beside Keras on JAX."""

import numpy as np
import pytest

from kerogen import ops, random
from kerogen.runtime.errors import ArgumentError, DTypeError, ShapeError
from tests.oracle import oracle

keras = oracle("keras")
rng = np.random.default_rng(17)


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def definite(*shape):
    a = rng.standard_normal(shape)
    return (a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])).astype(np.float32)


HOLES = f32(4, 7)
HOLES[1, 2], HOLES[2] = np.nan, np.nan
TRIANGLE = f32(4, 4) + 3 * np.eye(4, dtype=np.float32)
CASES = [
    ("cumsum", [f32(3, 5)], {}), ("cumsum", [f32(3, 5)], {"axis": 0}), ("cumsum", [rng.integers(0, 5, (3, 4)).astype(np.int32)], {"axis": 1}),
    ("cumsum", [rng.random((3, 4)) < 0.5], {"axis": 1}), ("cumprod", [f32(3, 5)], {"axis": -1}), ("sort", [f32(3, 5)], {}),
    ("sort", [HOLES], {"axis": 0}), ("sort", [HOLES], {"axis": None}), ("argsort", [f32(3, 50)], {}),
    ("argsort", [rng.integers(0, 4, (3, 50)).astype(np.int32)], {"axis": 0}), ("top_k", [f32(3, 50)], {"k": 4}),
    ("top_k", [rng.integers(0, 4, (3, 130)).astype(np.int32)], {"k": 7}), ("median", [f32(3, 6)], {}), ("median", [HOLES], {"axis": 1}),
    ("median", [f32(3, 6, 5)], {"axis": (0, 2), "keepdims": True}), ("quantile", [f32(3, 6), np.array([0.1, 0.5, 0.9], np.float32)], {"axis": 1}),
    *[("quantile", [f32(3, 6), 0.3], {"method": m, "axis": 0}) for m in ("linear", "lower", "higher", "midpoint", "nearest")],
    ("percentile", [f32(3, 6), np.array([10.0, 50], np.float32)], {"axis": 0, "keepdims": True}), ("nanmedian", [HOLES], {"axis": 1}),
    ("nanquantile", [HOLES, 0.4], {"axis": 1}), ("rfft", [f32(3, 12)], {}), ("rfft", [f32(3, 15)], {"fft_length": 20}),
    ("stft", [f32(2, 100)], {"sequence_length": 20, "sequence_stride": 7, "fft_length": 32}),
    ("stft", [f32(2, 100)], {"sequence_length": 20, "sequence_stride": 7, "fft_length": 24, "center": False, "window": "hamming"}),
    ("extract_sequences", [f32(2, 30)], {"sequence_length": 8, "sequence_stride": 3}), ("cholesky", [definite(2, 4, 4)], {}),
    ("cholesky", [definite(4, 4)], {"upper": True}), ("det", [f32(2, 4, 4)], {}), ("slogdet", [f32(2, 4, 4)], {}), ("logdet", [definite(2, 4, 4)], {}),
    ("inv", [f32(2, 4, 4)], {}), ("lu_factor", [f32(4, 4)], {}), ("solve", [f32(2, 4, 4), f32(2, 4, 3)], {}), ("solve", [f32(4, 4), f32(4)], {}),
    ("solve_triangular", [TRIANGLE, f32(4, 2)], {"lower": True}), ("solve_triangular", [TRIANGLE, f32(4)], {}),
    ("svd", [f32(4, 3)], {"compute_uv": False}), ("lstsq", [f32(5, 3), f32(5)], {}), ("lstsq", [f32(5, 3), f32(5, 2)], {}),
    ("cholesky_inverse", [np.linalg.cholesky(definite(3, 3))], {}), ("norm", [f32(2, 3, 4)], {"ord": 2, "axis": (0, 2), "keepdims": True}),
    *[("norm", [f32(3, 4)], {"ord": o, "axis": (0, 1)}) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
    *[("norm", [f32(3, 4)], {"ord": o, "axis": 1, "keepdims": True}) for o in (0, 1, 2, 3, np.inf, -np.inf)],
    *[(n, [(f32(3, 12), f32(3, 12))], {}) for n in ("fft", "fft2", "ifft2", "irfft")],
    ("irfft", [(f32(3, 8), f32(3, 8))], {"fft_length": 15}),
]


def leaves(x):
    return [v for y in x for v in leaves(y)] if isinstance(x, (tuple, list)) else [np.asarray(x)]


@pytest.mark.parametrize(("name", "arrays", "attributes"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_beside_keras(name, arrays, attributes):
    expected = leaves(getattr(keras.ops, name)(*arrays, **attributes))
    got = leaves(getattr(ops, name)(*arrays, **attributes))
    assert [(v.shape, v.dtype) for v in got] == [(v.shape, v.dtype) for v in expected]
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b, rtol=3e-4, atol=1e-4)


def test_istft_inverts_stft():
    x = f32(2, 100)
    got = np.asarray(ops.istft(ops.stft(x, 20, 5, 32), 20, 5, 32, length=90))
    np.testing.assert_allclose(got, x[:, :90], atol=1e-5)


def test_draws_repeat_by_seed_and_bad_arguments_are_typed_errors():
    for name, *arguments in [("gamma", 2.0), ("beta", 2.0, 3.0), ("binomial", 10, 0.5), ("truncated_normal", 1.0, 2.0), ("randint", 0, 9)]:
        draw = getattr(random, name)
        a, b, c = (np.asarray(draw((50,), *arguments, seed=s)) for s in (1, 1, 2))
        assert np.array_equal(a, b) and not np.array_equal(a, c), name
    assert sorted(np.asarray(random.shuffle(np.arange(30), seed=3)).tolist()) == list(range(30))
    for error, call in [(ArgumentError, lambda: random.normal((-1,))), (ArgumentError, lambda: random.uniform((2.5,))),
                        (ArgumentError, lambda: random.randint((3,), 5, 5)), (DTypeError, lambda: random.normal((3,), dtype="int32")),
                        (ArgumentError, lambda: ops.top_k(f32(3), 4)), (ShapeError, lambda: ops.sort(f32(3), axis=1)),
                        (ArgumentError, lambda: ops.quantile(f32(3), 0.5, method="cubic")), (ShapeError, lambda: ops.inv(f32(2, 3)))]:
        with pytest.raises(error):
            call()
