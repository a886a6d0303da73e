"""Losses against real Keras on its JAX backend: every function and class, weights, reductions, their derivatives' signs by training tests."""

import numpy as np
import pytest

from kerogen.frontends.keras import losses
from kerogen.runtime.errors import ArgumentError, ShapeError, UnknownNameError
from tests.oracle import oracle

keras = oracle("keras")

RNG = np.random.default_rng(11)
N, C = 7, 5
ELEMENTWISE = [
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "cosine_similarity",
    "huber",
    "log_cosh",
    "poisson",
]


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def probabilities(*shape):
    e = np.exp(real(*shape))
    return (e / e.sum(-1, keepdims=True)).astype(np.float32)


def onehot(labels):
    return np.eye(C, dtype=np.float32)[labels]


def close(ours, theirs, tolerance=3e-6):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.all(np.abs(ours - theirs) <= tolerance * (1 + np.abs(theirs)))


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(N, C), (3, 2, C)])
def test_regression_functions(name, shape):
    y_true, y_pred = real(*shape), real(*shape)
    if name in ("mean_squared_logarithmic_error", "poisson"):
        y_true, y_pred = np.abs(y_true), np.abs(y_pred)
    close(getattr(losses, name)(y_true, y_pred), getattr(keras.losses, name)(y_true, y_pred))


@pytest.mark.parametrize("name", ["hinge", "squared_hinge"])
@pytest.mark.parametrize("labels", [(0, 1), (-1, 1)])
def test_hinges_take_both_kinds_of_labels(name, labels):
    y_true, y_pred = RNG.choice(labels, (N, C)).astype(np.float32), real(N, C)
    close(getattr(losses, name)(y_true, y_pred), getattr(keras.losses, name)(y_true, y_pred))


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.13])
def test_cross_entropies(from_logits, smoothing):
    labels = RNG.integers(0, C, N)
    p = 3 * real(N, C) if from_logits else probabilities(N, C)
    kwargs = {"from_logits": from_logits, "label_smoothing": smoothing}
    close(
        losses.categorical_crossentropy(onehot(labels), p, **kwargs),
        keras.losses.categorical_crossentropy(onehot(labels), p, **kwargs),
    )
    close(
        losses.categorical_focal_crossentropy(onehot(labels), p, **kwargs),
        keras.losses.categorical_focal_crossentropy(onehot(labels), p, **kwargs),
    )
    b = p if from_logits else RNG.random((N, C)).astype(np.float32)
    y = RNG.integers(0, 2, (N, C)).astype(np.float32)
    close(losses.binary_crossentropy(y, b, **kwargs), keras.losses.binary_crossentropy(y, b, **kwargs))
    for balance in (False, True):
        close(
            losses.binary_focal_crossentropy(y, b, balance, 0.3, 1.7, **kwargs),
            keras.losses.binary_focal_crossentropy(y, b, balance, 0.3, 1.7, **kwargs),
        )


def test_saturated_probabilities_are_clipped():
    y, p = np.array([[0.0, 1.0, 1.0]], np.float32), np.array([[1.0, 0.0, 1.0]], np.float32)
    close(losses.binary_crossentropy(y, p), keras.losses.binary_crossentropy(y, p))
    labels, p = np.array([1, 0]), np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    close(losses.sparse_categorical_crossentropy(labels, p), keras.losses.sparse_categorical_crossentropy(labels, p))
    assert np.asarray(losses.sparse_categorical_crossentropy(labels, p))[1] > 5e-8  # clipped at 1 - 1e-7 as well
    logits = np.array([[90.0, -90.0, 3.0]], np.float32)
    close(losses.binary_crossentropy(y, logits, from_logits=True), keras.losses.binary_crossentropy(y, logits, from_logits=True))


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float32])
def test_sparse_cross_entropy(from_logits, dtype):
    labels = RNG.integers(0, C, (N, 3)).astype(dtype)
    p = 3 * real(N, 3, C) if from_logits else probabilities(N, 3, C)
    close(
        losses.sparse_categorical_crossentropy(labels, p, from_logits),
        keras.losses.sparse_categorical_crossentropy(labels, p, from_logits),
    )
    column = RNG.integers(0, C, (N, 1)).astype(dtype)
    close(
        losses.sparse_categorical_crossentropy(column, p[:, 0], from_logits),
        keras.losses.sparse_categorical_crossentropy(column, p[:, 0], from_logits),
    )


def test_ignored_classes_leave_the_mean():
    labels, p = np.array([0, 2, 1, 2, 4, 2, 3]), probabilities(N, C)
    ours, theirs = (
        losses.SparseCategoricalCrossentropy(ignore_class=2),
        keras.losses.SparseCategoricalCrossentropy(ignore_class=2),
    )
    close(ours(labels, p), theirs(labels, p))
    weight = RNG.random(N).astype(np.float32)
    close(ours(labels, p, weight), theirs(labels, p, weight))


@pytest.mark.parametrize("name", ["dice", "tversky"])
@pytest.mark.parametrize("axis", [None, (1, 2)])
def test_overlaps(name, axis):
    y_true, y_pred = RNG.integers(0, 2, (3, 4, 5)).astype(np.float32), RNG.random((3, 4, 5)).astype(np.float32)
    close(getattr(losses, name)(y_true, y_pred, axis=axis), getattr(keras.losses, name)(y_true, y_pred, axis=axis))


def test_generalized_cross_entropy_and_categorical_hinge():
    labels = RNG.integers(0, C, N)
    p = probabilities(N, C)
    close(
        losses.categorical_generalized_cross_entropy(labels, p, 0.4),
        keras.losses.categorical_generalized_cross_entropy(labels, p, 0.4),
    )
    close(losses.categorical_hinge(onehot(labels), p), keras.losses.categorical_hinge(onehot(labels), p))
    q = probabilities(N, C)
    close(losses.kl_divergence(q, p), keras.losses.kl_divergence(q, p))


@pytest.mark.parametrize("name", sorted(set(losses.CLASSES) - {"LossFunctionWrapper"}))
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_classes(name, reduction, weighted):
    labels = RNG.integers(0, C, N)
    y_true, y_pred = (
        (labels if name in ("SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy") else onehot(labels)),
        probabilities(N, C),
    )
    ours, theirs = getattr(losses, name)(reduction=reduction), getattr(keras.losses, name)(reduction=reduction)
    weight = RNG.random(N).astype(np.float32) if weighted and name not in ("Dice", "Tversky") else None
    close(ours(y_true, y_pred, weight), theirs(y_true, y_pred, weight))
    assert ours.name == theirs.name
    config = theirs.get_config()
    assert {k: v for k, v in ours.get_config().items() if k in config} == config
    again = type(ours).from_config(ours.get_config())
    close(again(y_true, y_pred), ours(y_true, y_pred))


def test_a_column_and_a_vector_meet_as_in_keras():
    y_true, y_pred, w = real(N), real(N, 1), RNG.random(N).astype(np.float32)
    for weight in (None, w, w[:, None]):
        close(losses.MeanSquaredError()(y_true, y_pred, weight), keras.losses.MeanSquaredError()(y_true, y_pred, weight))


def test_weights_of_higher_rank():
    y_true, y_pred, w = real(N, 3, C), real(N, 3, C), RNG.random((N, 3)).astype(np.float32)
    close(losses.Huber(delta=0.6)(y_true, y_pred, w), keras.losses.Huber(delta=0.6)(y_true, y_pred, w))


def test_huber_keeps_its_delta_in_its_config():
    assert losses.Huber.from_config(losses.Huber(delta=0.3).get_config()).delta == 0.3


def test_names_and_errors():
    assert losses.get("mse") is losses.mean_squared_error
    assert isinstance(
        losses.get({"module": "keras.losses", "class_name": "Huber", "config": {"delta": 2.0}, "registered_name": None}),
        losses.Huber,
    )
    with pytest.raises(UnknownNameError, match="sparse_categorical_crossentropy"):
        losses.get("sparse_categorical_crossentrophy")
    with pytest.raises(ShapeError, match=r"\(7,\).*\(7, 5\)"):
        losses.categorical_crossentropy(np.arange(7), real(7, 5))
    with pytest.raises(ShapeError, match=r"\(6,\).*\(7, 5\)"):
        losses.sparse_categorical_crossentropy(np.arange(6), real(7, 5))
    with pytest.raises(ArgumentError, match="reduction"):
        losses.MeanSquaredError(reduction="average")
