"""Initializers, regularizers and constraints against real Keras: distributions, values, configurations."""

import math

import numpy as np
import pytest

from kerogen.frontends.keras import constraints, initializers, regularizers
from kerogen.runtime.errors import ArgumentError, ShapeError, UnknownNameError
from tests.oracle import oracle

keras = oracle("keras")

RANDOM = [
    "RandomNormal",
    "TruncatedNormal",
    "RandomUniform",
    "GlorotUniform",
    "GlorotNormal",
    "HeUniform",
    "HeNormal",
    "LecunUniform",
    "LecunNormal",
]


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", [(301, 173), (3, 5, 67, 91)])
def test_moments_are_those_of_keras(name, shape):
    ours = getattr(initializers, name)(seed=3)(shape)
    theirs = np.asarray(getattr(keras.initializers, name)(seed=5)(shape))
    assert ours.dtype == np.float32 and ours.shape == shape
    n = ours.size
    assert abs(ours.mean()) < 5 * theirs.std() / math.sqrt(n)
    assert abs(ours.std() / theirs.std() - 1) < 0.02
    # the shape of the distribution: fourth moment and range
    assert abs((ours**4).mean() / (theirs**4).mean() - 1) < 0.06
    if "Uniform" in name or "Truncated" in name or name.endswith("Normal") and name != "RandomNormal":
        assert abs(np.abs(ours).max() / np.abs(theirs).max() - 1) < 0.01


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
def test_variance_scaling(mode, distribution):
    shape = (7, 3, 41, 93)
    ours = initializers.VarianceScaling(1.7, mode, distribution, seed=1)(shape)
    theirs = np.asarray(keras.initializers.VarianceScaling(1.7, mode, distribution, seed=2)(shape))
    assert abs(ours.std() / theirs.std() - 1) < 0.02


def test_fan_axes_are_respected():
    ours = initializers.GlorotUniform(seed=1, input_axes=(0,), output_axes=(1, 2))((50, 4, 70))
    assert abs(np.abs(ours).max() - math.sqrt(6 / (50 + 280))) < 1e-3


def test_a_seed_fixes_values_and_none_draws_new_ones():
    same = initializers.HeNormal(seed=9)
    assert np.array_equal(same((5, 7)), initializers.HeNormal(seed=9)((5, 7)))
    assert np.array_equal(same((5, 7)), same((5, 7)))
    assert not np.array_equal(initializers.HeNormal()((5, 7)), initializers.HeNormal()((5, 7)))


@pytest.mark.parametrize("shape", [(17, 9), (9, 17), (3, 5, 31)])
def test_orthogonal(shape):
    m = initializers.Orthogonal(gain=1.5, seed=2)(shape).astype(np.float64).reshape(-1, shape[-1])
    gram = m.T @ m if m.shape[0] >= m.shape[1] else m @ m.T
    assert np.allclose(gram, 2.25 * np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("window", ["hann", "hamming", "blackman", "nuttall", None])
@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize("scaling", ["density", "spectrum", None])
def test_stft(window, side, scaling):
    for periodic in (False, True):
        ours = initializers.STFT(side, window, scaling, periodic)((13, 1, 9))
        theirs = np.asarray(keras.initializers.STFT(side, window, scaling, periodic)((13, 1, 9)))
        assert np.abs(ours - theirs).max() < 3e-6


def test_fixed_values_and_errors():
    assert np.array_equal(initializers.Identity(2.5)((3, 5)), 2.5 * np.eye(3, 5, dtype=np.float32))
    assert np.array_equal(initializers.Constant(3)((2, 3), "int32"), np.full((2, 3), 3, np.int32))
    assert initializers.Ones()((4,), "bfloat16").dtype.name == "bfloat16"
    given = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(initializers.get(given)((2, 3)), given)
    with pytest.raises(ShapeError, match=r"\(2, 3\).*\(3, 2\)"):
        initializers.get(given)((3, 2))
    with pytest.raises(ShapeError, match="rank 1"):
        initializers.Identity()((3,))
    with pytest.raises(ArgumentError, match="positive"):
        initializers.VarianceScaling(scale=-1.0)
    with pytest.raises(UnknownNameError, match="glorot_uniform"):
        initializers.get("glorot_unifrom")


@pytest.mark.parametrize(
    "name,kwargs",
    [
        ("L1", {"l1": 0.03}),
        ("L2", {"l2": 0.2}),
        ("L1L2", {"l1": 0.1, "l2": 0.7}),
        ("OrthogonalRegularizer", {"factor": 0.3}),
        ("OrthogonalRegularizer", {"factor": 0.3, "mode": "columns"}),
    ],
)
def test_regularizers(name, kwargs):
    w = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    ours, theirs = getattr(regularizers, name)(**kwargs), getattr(keras.regularizers, name)(**kwargs)
    assert float(ours(w)) == pytest.approx(float(theirs(keras.ops.convert_to_tensor(w))), rel=2e-6)
    assert {k: pytest.approx(v) for k, v in theirs.get_config().items()} == ours.get_config()


def test_a_bad_regularizer_names_its_argument():
    with pytest.raises(ArgumentError, match="l2.*-0.1"):
        regularizers.L2(-0.1)


@pytest.mark.parametrize(
    "name,kwargs",
    [
        ("MaxNorm", {"max_value": 1.3}),
        ("MaxNorm", {"max_value": 0.8, "axis": 1}),
        ("NonNeg", {}),
        ("UnitNorm", {"axis": [0, 1]}),
        ("MinMaxNorm", {"min_value": 0.9, "max_value": 1.1, "rate": 0.7}),
    ],
)
def test_constraints(name, kwargs):
    w = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    ours, theirs = getattr(constraints, name)(**kwargs), getattr(keras.constraints, name)(**kwargs)
    assert np.abs(np.asarray(ours(w)) - np.asarray(theirs(w))).max() < 3e-7
