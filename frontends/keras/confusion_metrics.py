"""Metrics that count true and false positives and negatives at one or more thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...runtime.errors import ArgumentError, ShapeError
from .loss import divide_no_nan, squeeze_or_expand_to_same_rank
from .metric import Metric

_ALWAYS = -1e10  # the threshold of top_k metrics: every prediction that is left counts as positive


def _thresholds(owner: str, given: Any, default: float) -> list[float]:
    if given is None:
        return [default]
    values = [float(t) for t in (given if isinstance(given, (list, tuple, np.ndarray)) else [given])]
    bad = [t for t in values if not 0 <= t <= 1]
    if bad or not values:
        raise ArgumentError(f"{owner}: thresholds must lie in [0, 1], got {bad or values}")
    return values


class _Confusion(Metric):
    """Counts named by ``_counts``, subset of ("true_positives", "false_positives", "true_negatives", "false_negatives")."""

    _counts: Sequence[str] = ()

    def __init__(self, thresholds: list[float], top_k: int | None, class_id: int | None, name: str | None, dtype: Any):
        super().__init__(name=name, dtype=dtype)
        self.thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        for count in self._counts:
            setattr(self, count, self.add_variable((len(thresholds),), "zeros", name=count))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        from . import ops

        y_pred = ops.cast(ops.convert_to_tensor(y_pred), "float32")
        y_pred, y_true = squeeze_or_expand_to_same_rank(y_pred, ops.cast(ops.convert_to_tensor(y_true), "float32"))
        if len(y_true.shape) != len(y_pred.shape) or any(a != b for a, b in zip(y_true.shape, y_pred.shape)):
            raise ShapeError(
                f"{self.name}: y_true has shape {tuple(y_true.shape)}, y_pred {tuple(y_pred.shape)}; they must be equal"
            )
        if self.top_k is not None:
            y_pred = _keep_top_k(y_pred, self.top_k)
        if self.class_id is not None:
            if len(y_pred.shape) < 2:
                raise ShapeError(
                    f"{self.name}: class_id needs predictions of shape (batch, classes), got rank {len(y_pred.shape)}"
                )
            c = self.class_id
            y_true, y_pred = y_true[..., c : c + 1], y_pred[..., c : c + 1]
        weight = None
        if sample_weight is not None:
            weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
            while len(weight.shape) < len(y_pred.shape):
                weight = ops.expand_dims(weight, -1)
            weight = ops.reshape(ops.broadcast_to(weight, y_pred.shape), (1, -1))
        self._count(ops.reshape(y_true, (1, -1)) > 0.5, ops.reshape(y_pred, (1, -1)), weight)

    def _count(self, positive: Any, scores: Any, weight: Any) -> None:
        from . import ops

        said = scores > ops.convert_to_tensor(np.asarray(self.thresholds, np.float32).reshape(-1, 1))
        for count in self._counts:
            truth, sign = count.split("_")
            p = said if sign == "positives" else ops.logical_not(said)
            t = positive if count in ("true_positives", "false_negatives") else ops.logical_not(positive)
            hits = ops.cast(ops.logical_and(t, p), "float32")
            v = getattr(self, count)
            v.assign(v + ops.sum(hits if weight is None else hits * weight, axis=1))

    def _shaped(self, x: Any) -> Any:
        return x[0] if len(self.thresholds) == 1 else x


def _keep_top_k(y_pred: Any, k: int) -> Any:
    """Entries among the ``k`` largest of their row; the others become very small. Ties: the lower index goes first."""
    from . import ops

    n = y_pred.shape[-1]
    mine, other = ops.expand_dims(y_pred, -1), ops.expand_dims(y_pred, -2)
    before = ops.convert_to_tensor(np.tril(np.ones((n, n), bool), -1))
    ahead = ops.logical_or(other > mine, ops.logical_and(ops.equal(other, mine), before))
    return ops.where(ops.sum(ops.cast(ahead, "int32"), axis=-1) < k, y_pred, ops.full_like(y_pred, 2 * _ALWAYS))


class _Single(_Confusion):
    def __init__(self, thresholds=None, name=None, dtype=None):
        self.init_thresholds = thresholds
        super().__init__(_thresholds(type(self).__name__, thresholds, 0.5), None, None, name, dtype)

    def result(self) -> Any:
        from . import ops

        return self._shaped(ops.convert_to_tensor(getattr(self, self._counts[0])))

    def get_config(self) -> dict:
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(_Single):
    _counts = ("true_positives",)


class FalsePositives(_Single):
    _counts = ("false_positives",)


class TrueNegatives(_Single):
    _counts = ("true_negatives",)


class FalseNegatives(_Single):
    _counts = ("false_negatives",)


class _Rate(_Confusion):
    def __init__(self, thresholds=None, top_k=None, class_id=None, name=None, dtype=None):
        self.init_thresholds = thresholds
        default = 0.5 if top_k is None else _ALWAYS
        super().__init__(_thresholds(type(self).__name__, thresholds, default), top_k, class_id, name, dtype)

    def result(self) -> Any:
        from . import ops

        hit, miss = (ops.convert_to_tensor(getattr(self, c)) for c in self._counts)
        return self._shaped(divide_no_nan(hit, hit + miss))

    def get_config(self) -> dict:
        return {**super().get_config(), "thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}


class Precision(_Rate):
    """Of what was predicted positive, the part that is."""

    _counts = ("true_positives", "false_positives")


class Recall(_Rate):
    """Of what is positive, the part that was predicted so."""

    _counts = ("true_positives", "false_negatives")


class AUC(_Confusion):
    """Area under the ROC or precision-recall curve, by ``num_thresholds`` thresholds in [0, 1] (Keras' approximation)."""

    _counts = ("true_positives", "false_positives", "true_negatives", "false_negatives")

    def __init__(
        self,
        num_thresholds=200,
        curve="ROC",
        summation_method="interpolation",
        name=None,
        dtype=None,
        thresholds=None,
        multi_label=False,
        num_labels=None,
        label_weights=None,
        from_logits=False,
    ):
        if curve not in ("ROC", "PR"):
            raise ArgumentError(f"AUC: curve is 'ROC' or 'PR', not {curve!r}")
        if summation_method not in ("interpolation", "minoring", "majoring"):
            raise ArgumentError(f"AUC: summation_method is 'interpolation', 'minoring' or 'majoring', not {summation_method!r}")
        if multi_label or label_weights is not None:
            raise ArgumentError("AUC: multi_label and label_weights aren't supported; make one AUC per label")
        self.init_thresholds = thresholds
        if thresholds is None:
            if num_thresholds <= 1:
                raise ArgumentError(f"AUC: num_thresholds must be > 1, got {num_thresholds}")
            inner = [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)]
        else:
            inner = sorted(_thresholds("AUC", thresholds, 0.5))
        self.num_thresholds, self.curve, self.summation_method, self.from_logits = (
            len(inner) + 2,
            curve,
            summation_method,
            from_logits,
        )
        super().__init__([-1e-7, *inner, 1.0 + 1e-7], None, None, name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        from . import ops

        super().update_state(y_true, ops.sigmoid(y_pred) if self.from_logits else y_pred, sample_weight)

    def result(self) -> Any:
        from . import ops

        tp, fp, tn, fn = (ops.convert_to_tensor(getattr(self, c)) for c in self._counts)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._interpolated_pr(tp, fp, fn)
        recall = divide_no_nan(tp, tp + fn)
        x, y = (divide_no_nan(fp, fp + tn), recall) if self.curve == "ROC" else (recall, divide_no_nan(tp, tp + fp))
        a, b = y[:-1], y[1:]
        height = {"interpolation": (a + b) / 2.0, "minoring": ops.minimum(a, b), "majoring": ops.maximum(a, b)}[
            self.summation_method
        ]
        return ops.sum((x[:-1] - x[1:]) * height)

    @staticmethod
    def _interpolated_pr(tp: Any, fp: Any, fn: Any) -> Any:
        """Davis and Goadrich (2006): precision between two points is linear in the counts, not in recall."""
        from . import ops

        dtp, p = tp[:-1] - tp[1:], tp + fp
        dp = p[:-1] - p[1:]
        slope = divide_no_nan(dtp, ops.maximum(dp, 0.0))
        intercept = tp[1:] - slope * p[1:]
        both = ops.logical_and(p[:-1] > 0, p[1:] > 0)
        ratio = ops.where(both, divide_no_nan(p[:-1], ops.maximum(p[1:], 0.0)), ops.ones_like(p[1:]))
        area = slope * (dtp + intercept * ops.log(ratio))
        return ops.sum(divide_no_nan(area, ops.maximum(tp[1:] + fn[1:], 0.0)))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "thresholds": None if self.init_thresholds is None else self.thresholds[1:-1],
            "from_logits": self.from_logits,
        }
