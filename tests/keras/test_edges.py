"""What an independent review broke: sums and counts beyond 16 bits, indices into nothing, sizes beyond any machine."""

from __future__ import annotations

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers
from kerogen.errors import ArgumentError, IndexRangeError, OutOfMemoryError


def test_means_of_many_float16(rng):
    x = rng.uniform(2, 4, 70001).astype(np.float16)
    wide = x.astype(np.float64)
    assert abs(float(kg.ops.mean(x)) - wide.mean()) < 4e-3
    assert abs(float(kg.ops.var(x)) - wide.var()) < 4e-3
    image = rng.uniform(1, 3, (2, 301, 299, 3)).astype(np.float16)
    got = np.asarray(layers.GlobalAveragePooling2D(dtype="float16")(image)).astype(np.float64)
    assert np.abs(got - image.astype(np.float64).mean((1, 2))).max() < 4e-3
    pooled = np.asarray(layers.AveragePooling2D((290, 280), dtype="float16")(image)).astype(np.float64)
    assert np.abs(pooled[:, 0, 0] - image[:, :290, :280].astype(np.float64).mean((1, 2))).max() < 4e-3


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_narrow_integers_are_summed_in_32_bits(rng, dtype):
    high = np.iinfo(dtype).max
    x = rng.integers(high // 2, high, (37, 3)).astype(dtype)
    got = np.asarray(kg.ops.sum(x, axis=0))
    assert got.dtype == ("uint32" if dtype.startswith("u") else "int32") and np.array_equal(got, x.sum(0, dtype=np.int64))
    few = np.asarray([[7, 11], [101, 97], [3, 2]], dtype)
    assert np.array_equal(np.asarray(kg.ops.prod(few, axis=0)), few.prod(0, dtype=np.int64))


def test_an_axis_without_elements_has_no_index():
    with pytest.raises(IndexRangeError, match="no elements"):
        kg.ops.take(np.ones((0, 4), np.float32), np.array([3]), axis=0)
    with pytest.raises(IndexRangeError, match="no elements"):
        kg.ops.take_along_axis(np.ones((2, 0), np.float32), np.array([[0], [0]]), 1)
    assert kg.ops.take(np.ones((0, 4), np.float32), np.zeros(0, np.int32), axis=0).shape == (0, 4)
    exe = kg.compile(lambda x, i: kg.ops.take(x, i, axis=0), inputs=[kg.spec(("n", 4)), kg.spec(("m",), "int32")])
    assert exe(np.ones((3, 4), np.float32), np.array([2, 1], np.int32)).shape == (2, 4)
    with pytest.raises(IndexRangeError, match="no elements"):
        exe(np.ones((0, 4), np.float32), np.array([0], np.int32))


@pytest.mark.parametrize("size", [2**40, 2**62])
def test_sizes_beyond_any_machine(size):
    image = np.ones((1, 5, 5, 1), np.float32)
    makers = (lambda: layers.MaxPooling2D((size, 1), padding="same"), lambda: layers.UpSampling2D(size),
              lambda: layers.Conv2D(2, 3, dilation_rate=(size, 1)))
    for make in makers:
        with pytest.raises(ArgumentError, match="no spatial axis is longer"):
            make()(image)
    with pytest.raises(OutOfMemoryError, match="TiB|GiB|memory"):
        layers.ZeroPadding2D(size)(image)
    with pytest.raises(OutOfMemoryError, match="TiB|GiB|memory"):
        layers.RepeatVector(size)(np.ones((2, 3), np.float32))


def test_hypot_and_exp2_over_the_range(rng):
    a = np.concatenate([rng.standard_normal(200) * 10.0 ** rng.uniform(-44, 38, 200), [0, 0, np.inf, 1e38, 3e-45]]).astype(np.float32)
    b = np.concatenate([rng.standard_normal(200) * 10.0 ** rng.uniform(-44, 38, 200), [0, -2, 1, 1, 4e-45]]).astype(np.float32)
    exact = np.hypot(a.astype(np.float64), b.astype(np.float64))
    got = np.asarray(kg.ops.hypot(a, b)).astype(np.float64)
    fine = np.isfinite(exact)
    assert np.all(np.abs(got - exact)[fine] <= 4 * np.spacing(exact[fine].astype(np.float32))) and np.array_equal(got[~fine], exact[~fine])
    x = rng.uniform(-125, 127, 500).astype(np.float32)
    exact = np.exp2(x.astype(np.float64))
    assert np.all(np.abs(np.asarray(kg.ops.exp2(x)) - exact) <= 3 * np.spacing(exact.astype(np.float32)))


@pytest.mark.parametrize("call", [
    lambda: kg.ops.arange(0, 5, 0), lambda: kg.ops.split(np.ones((4, 2), np.float32), 0), lambda: kg.ops.eye(-1),
    lambda: kg.ops.linspace(0.0, 1.0, -1)])
def test_sizes_that_are_none(call):
    with pytest.raises(ArgumentError):
        call()


def test_rolling_nothing():
    assert kg.ops.roll(np.ones((0, 3), np.float32), 1, axis=0).shape == (0, 3)
