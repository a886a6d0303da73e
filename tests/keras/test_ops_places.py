"""Functions of ``ops`` that read and write at places, against real Keras; their errors."""

import numpy as np
import pytest

from kerogen.frontends.keras import ops
from kerogen.runtime.errors import ArgumentError, IndexRangeError, ShapeError

from ..oracle import oracle


def same(name: str, *args, **kwargs) -> None:
    keras = oracle("keras")
    expected = getattr(keras.ops, name)(*args, **kwargs)
    actual = getattr(ops, name)(*args, **kwargs)
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-6, atol=1e-6)


def test_scatter_and_slices(rng) -> None:
    x = rng.standard_normal((5, 4, 3)).astype(np.float32)
    at = rng.permutation(20)[:9]
    indices = np.stack([at // 4, at % 4], -1).astype(np.int32)
    updates = rng.standard_normal((9, 3)).astype(np.float32)
    for reduction in (None, "add", "max", "min", "mul"):
        same("scatter_update", x, indices, updates, reduction=reduction)
    repeated = rng.integers(0, 4, (11, 1)).astype(np.int32)
    same("scatter", repeated, rng.standard_normal((11, 2)).astype(np.float32), (4, 2))
    same("slice_update", x, np.array([1, 2, 0], np.int32), x[:3, :2, 1:] + 1)
    same("slice_update", x, np.array([4, -7, 5], np.int32), x[:3, :2, 1:] + 1)  # clamped
    same("slice", x, (1, 0, 2), (2, 3, 1))


def test_rearrangements(rng) -> None:
    x = rng.standard_normal((5, 4, 3)).astype(np.float32)
    same("repeat", x, np.array([0, 2, 1, 3]), axis=1)
    same("repeat", x, 3, axis=0)
    same("tril", x, 1)
    same("triu", x, -1)
    same("diagonal", x, offset=-1, axis1=2, axis2=0)
    same("diagonal", x, offset=2, axis1=1, axis2=0)
    same("diag", x[0, :, 0], k=-2)
    same("trace", x, offset=1, axis1=0, axis2=2)


def test_errors(rng) -> None:
    x = rng.standard_normal((5, 4)).astype(np.float32)
    with pytest.raises(ShapeError, match="3 repeats for axis 1"):
        ops.repeat(x, np.array([1, 2, 3]), axis=1)
    with pytest.raises(ArgumentError, match="must be a count"):
        ops.repeat(x, -1)
    with pytest.raises(ShapeError, match="extreme of no elements"):
        ops.max(np.zeros((3, 0), np.float32), axis=1)
    assert np.asarray(ops.max(np.zeros((3, 0), np.float32), axis=1, initial=2.0)).tolist() == [2, 2, 2]
    with pytest.raises(IndexRangeError):
        ops.scatter_update(x, np.array([[5]], np.int32), np.zeros((1, 4), np.float32))
    with pytest.raises(ArgumentError, match="'mean' is none of"):
        ops.scatter_update(x, np.array([[1]], np.int32), np.zeros((1, 4), np.float32), reduction="mean")
