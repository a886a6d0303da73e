"""Metrics against real Keras over several updates, with and without sample weights."""

import numpy as np
import pytest

from kerogen.frontends.keras import metrics
from kerogen.runtime.errors import ArgumentError, ShapeError, UnknownNameError
from tests.oracle import oracle

keras = oracle("keras")

C = 6


def batches(kind, rng, count=3):
    for n in (7, 5, 1)[:count]:
        scores = rng.standard_normal((n, C)).astype(np.float32)
        p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        labels = rng.integers(0, C, n)
        if kind == "sparse":
            yield labels, p
        elif kind == "onehot":
            yield np.eye(C, dtype=np.float32)[labels], p
        elif kind == "binary":
            yield rng.integers(0, 2, (n, C)).astype(np.float32), rng.random((n, C)).astype(np.float32)
        elif kind == "rounded":
            yield rng.integers(0, 3, (n, C)).astype(np.float32), rng.integers(0, 3, (n, C)).astype(np.float32)
        else:
            yield np.abs(scores), np.abs(rng.standard_normal((n, C)).astype(np.float32))


CASES = [
    ("Accuracy", "rounded", {}),
    ("BinaryAccuracy", "binary", {}),
    ("BinaryAccuracy", "binary", {"threshold": 0.7}),
    ("CategoricalAccuracy", "onehot", {}),
    ("SparseCategoricalAccuracy", "sparse", {}),
    ("TopKCategoricalAccuracy", "onehot", {"k": 2}),
    ("SparseTopKCategoricalAccuracy", "sparse", {"k": 3}),
    ("MeanSquaredError", "real", {}),
    ("RootMeanSquaredError", "real", {}),
    ("MeanAbsoluteError", "real", {}),
    ("MeanAbsolutePercentageError", "real", {}),
    ("MeanSquaredLogarithmicError", "real", {}),
    ("CosineSimilarity", "real", {}),
    ("LogCoshError", "real", {}),
    ("KLDivergence", "onehot", {}),
    ("Poisson", "real", {}),
    ("Hinge", "binary", {}),
    ("SquaredHinge", "binary", {}),
    ("CategoricalHinge", "onehot", {}),
    ("BinaryCrossentropy", "binary", {}),
    ("CategoricalCrossentropy", "onehot", {"label_smoothing": 0.1}),
    ("SparseCategoricalCrossentropy", "sparse", {}),
    ("Precision", "binary", {}),
    ("Recall", "binary", {}),
    ("Precision", "binary", {"thresholds": [0.2, 0.5, 0.8]}),
    ("Recall", "binary", {"thresholds": [0.2, 0.5, 0.8]}),
    ("Precision", "onehot", {"top_k": 2}),
    ("Recall", "onehot", {"top_k": 3}),
    ("Recall", "binary", {"class_id": 4}),
    ("TruePositives", "binary", {}),
    ("FalsePositives", "binary", {"thresholds": [0.1, 0.6]}),
    ("TrueNegatives", "binary", {}),
    ("FalseNegatives", "binary", {}),
    ("AUC", "binary", {}),
    ("AUC", "binary", {"curve": "PR"}),
    ("AUC", "binary", {"num_thresholds": 17, "summation_method": "minoring"}),
    ("AUC", "binary", {"num_thresholds": 31, "curve": "PR", "summation_method": "majoring"}),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name,kind,kwargs", CASES)
def test_updates_add_up_as_in_keras(name, kind, kwargs, weighted):
    rng = np.random.default_rng(3)
    ours, theirs = getattr(metrics, name)(**kwargs), getattr(keras.metrics, name)(**kwargs)
    assert ours.name == theirs.name.rsplit("_", 1)[0] or ours.name.split("_")[0] == theirs.name.split("_")[0]
    for y_true, y_pred in batches(kind, rng):
        weight = rng.random(len(y_pred)).astype(np.float32) if weighted else None
        ours.update_state(y_true, y_pred, sample_weight=weight)
        theirs.update_state(y_true, y_pred, sample_weight=weight)
        mine, other = np.asarray(ours.result()), np.asarray(theirs.result())
        assert mine.shape == other.shape and np.all(np.abs(mine - other) <= 1e-5 * (1 + np.abs(other)))
    ours.reset_state()
    assert all(not v.numpy().any() for v in ours.variables)
    config = {k: v for k, v in theirs.get_config().items() if k != "name"}
    assert {k: v for k, v in ours.get_config().items() if k in config} == config or name == "AUC"
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()


@pytest.mark.parametrize("name", ["Mean", "Sum"])
@pytest.mark.parametrize("shape,weights", [((), ()), ((7,), (7,)), ((5, 3), (5,)), ((5, 3), (5, 3)), ((4, 3, 2), (4, 3))])
def test_values_and_weights_of_every_rank(name, shape, weights):
    rng = np.random.default_rng(1)
    for weighted in (False, True):
        ours, theirs = getattr(metrics, name)(), getattr(keras.metrics, name)()
        for _ in range(2):
            v = rng.standard_normal(shape).astype(np.float32)
            w = rng.random(weights).astype(np.float32) if weighted else None
            ours.update_state(v, w)
            theirs.update_state(v, w)
        assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=3e-6)


def test_top_k_with_ties_and_labels_that_are_no_class():
    p = np.array([[0.3, 0.3, 0.2, 0.2], [0.4, 0.1, 0.1, 0.4], [0.1, 0.2, 0.3, 0.4]], np.float32)
    for k in (1, 2, 3):
        ours = np.asarray(metrics.sparse_top_k_categorical_accuracy(np.array([1, 3, 0]), p, k))
        assert np.array_equal(ours, np.asarray(keras.metrics.sparse_top_k_categorical_accuracy(np.array([1, 3, 0]), p, k)))
    assert np.asarray(metrics.sparse_top_k_categorical_accuracy(np.array([9, 3, -2]), p, 4)).tolist() == [0.0, 1.0, 0.0]


def test_a_metric_of_ones_own_and_errors():
    def spread(y_true, y_pred):
        return y_pred[:, 0] - y_true[:, 0]

    m = metrics.MeanMetricWrapper(spread, name="spread")
    a = np.random.default_rng(0).random((5, 2)).astype(np.float32)
    m.update_state(a, 3 * a)
    assert float(m.result()) == pytest.approx(2 * a[:, 0].mean(), rel=1e-6)
    with pytest.raises(UnknownNameError, match="accuracy"):
        metrics.get("acuracy")
    with pytest.raises(ArgumentError, match="1.5"):
        metrics.Precision(thresholds=1.5)
    with pytest.raises(ShapeError, match=r"\(3, 2\).*\(3, 4\)"):
        metrics.Recall().update_state(np.ones((3, 2)), np.ones((3, 4)))
