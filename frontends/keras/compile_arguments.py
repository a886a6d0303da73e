"""What ``compile(loss=..., metrics=...)`` means for a model with one or several outputs: one loss and one list of metrics for
each output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...runtime.errors import ArgumentError, ShapeError
from . import losses as losses_module
from . import metrics as metrics_module
from .loss import Loss
from .metric import Mean, Metric
from .structure import flatten


def _is_binary(y_pred: Any) -> bool:
    return len(y_pred.shape) > 0 and y_pred.shape[-1] == 1


def _is_sparse(y_true: Any, y_pred: Any) -> bool:
    return len(y_true.shape) < len(y_pred.shape) or (len(y_true.shape) > 0 and y_true.shape[-1] == 1 and y_pred.shape[-1] > 1)


def resolve_loss(identifier: Any, y_true: Any, y_pred: Any) -> Loss:
    """A ``Loss`` for what the user gave; "crossentropy" by the shapes of labels and predictions."""
    if isinstance(identifier, str) and identifier.lower() in ("crossentropy", "ce"):
        found = (
            losses_module.binary_crossentropy
            if _is_binary(y_pred)
            else losses_module.sparse_categorical_crossentropy
            if _is_sparse(y_true, y_pred)
            else losses_module.categorical_crossentropy
        )
    else:
        found = losses_module.get(identifier)
    if isinstance(found, Loss):
        return found
    return losses_module.LossFunctionWrapper(found, name=identifier if isinstance(identifier, str) else _name_of(found))


def resolve_metric(identifier: Any, y_true: Any, y_pred: Any) -> Metric:
    """A ``Metric`` for what the user gave; "accuracy" by the shapes of labels and predictions."""
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        cls = (
            metrics_module.BinaryAccuracy
            if _is_binary(y_pred)
            else metrics_module.SparseCategoricalAccuracy
            if _is_sparse(y_true, y_pred)
            else metrics_module.CategoricalAccuracy
        )
        return cls(name=identifier)
    found = metrics_module.get(identifier)
    name = identifier if isinstance(identifier, str) else _name_of(found)
    if not isinstance(found, Metric):
        found = metrics_module.MeanMetricWrapper(found, name=name)
    found.name = name
    return found


def _name_of(obj: Any) -> str:
    from .naming import snake_case

    return getattr(obj, "name", None) or getattr(obj, "__name__", None) or snake_case(type(obj).__name__)


def output_names_of(y_pred: Any, names: list[str] | None) -> list[str]:
    """A name for each output, in the order of ``structure.flatten``."""
    if isinstance(y_pred, Mapping):
        return [str(k) for k in sorted(y_pred)]
    n = len(flatten(y_pred))
    return list(names) if names and len(names) == n else [f"output_{i}" for i in range(n)]


def per_output(what: str, given: Any, names: list[str], several: bool, default: Any = None) -> list[Any]:
    """``given`` (one for all, a list in the order of the outputs, or a dict by output name) as one entry for each output."""
    if given is None:
        return [default] * len(names)
    if isinstance(given, Mapping):
        unknown = [k for k in given if k not in names]
        if unknown:
            if len(names) == 1 and len(given) == 1:
                return list(given.values())
            raise ArgumentError(f"{what} names the outputs {unknown}, which the model doesn't have; its outputs are {names}")
        return [given.get(k, default) for k in names]
    if several and isinstance(given, (list, tuple)):
        entries = list(given)
        if len(entries) != len(names):
            raise ArgumentError(f"{what} has {len(entries)} entries, the model has {len(names)} outputs: {names}")
        return entries
    if isinstance(given, (list, tuple)) and len(given) == 1:
        given = given[0]
    return [given] * len(names)


def labels_per_output(y: Any, names: list[str], wanted: list[bool]) -> list[Any]:
    """The labels of each output; outputs without a loss may be left out."""
    if isinstance(y, Mapping):
        missing = [k for k, w in zip(names, wanted) if w and k not in y]
        if missing and len(y) == len(names) == 1:
            return list(y.values())
        if missing:
            raise ArgumentError(f"the labels are a dictionary with {sorted(y)}; the model's outputs {missing} have no entry")
        return [y.get(k) for k in names]
    flat = flatten(y)
    if len(flat) == len(names):
        return flat
    if len(flat) == sum(wanted):
        given = iter(flat)
        return [next(given) if w else None for w in wanted]
    raise ShapeError(f"{len(flat)} array(s) of labels for a model with {len(names)} outputs: {names}")


class CompileLoss:
    """The total of the outputs' losses. With several losses each has a mean of its own in the logs, as ``NAME_loss``."""

    def __init__(self, loss: Any, loss_weights: Any, output_names: list[str] | None):
        self.loss, self.loss_weights, self.output_names = loss, loss_weights, output_names
        for name in flatten(loss):  # a name that is wrong is told when compile() is called
            if isinstance(name, str) and name.lower() not in ("crossentropy", "ce"):
                losses_module.get(name)
        self.reset()

    def reset(self) -> None:
        self.built = False
        self.metrics: list[Mean] = []
        self._parts: list[tuple[int, Loss, float | None, Mean | None]] = []

    def _build(self, y_true: list[Any], y_pred: list[Any], names: list[str]) -> None:
        several = len(names) > 1
        given = per_output("loss", self.loss, names, several)
        weights = per_output("loss_weights", self.loss_weights, names, several)
        parts = [(i, resolve_loss(g, y_true[i], y_pred[i]), w) for i, (g, w) in enumerate(zip(given, weights)) if g is not None]
        if not parts:
            raise ArgumentError("compile() was given no loss for any output")
        for i, loss, weight in parts:
            if weight is not None and not isinstance(weight, (int, float)):
                raise ArgumentError(f"loss_weights: {weight!r} is no number")
            mean = Mean(name=f"{names[i]}_loss") if len(parts) > 1 else None
            if mean is not None:
                self.metrics.append(mean)
            self._parts.append((i, loss, weight, mean))
        self.built = True

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        names = output_names_of(y_pred, self.output_names)
        preds = flatten(y_pred)
        wanted = [g is not None for g in per_output("loss", self.loss, names, len(names) > 1)]
        labels = labels_per_output(y_true, names, wanted)
        weights = weights_per_output(sample_weight, names)
        if not self.built:
            self._build(labels, preds, names)
        from . import ops
        from .train_step import batch_count

        total = None
        for i, loss, weight, mean in self._parts:
            try:
                value = ops.cast(loss(labels[i], preds[i], weights[i]), "float32")
            except ShapeError as e:
                raise ShapeError(f"output '{names[i]}': {e}") from e
            if len(value.shape):
                value = ops.sum(value)
            if mean is not None:
                mean.update_state(ops.reshape(value, (1,)), sample_weight=batch_count(preds[i]))
            if weight is not None:
                value = value * weight
            total = value if total is None else total + value
        return total


def weights_per_output(sample_weight: Any, names: list[str]) -> list[Any]:
    if sample_weight is None:
        return [None] * len(names)
    if isinstance(sample_weight, Mapping):
        return [sample_weight.get(k) for k in names]
    flat = flatten(sample_weight)
    if len(flat) == 1:
        return flat * len(names)
    if len(flat) != len(names):
        raise ShapeError(f"sample_weight has {len(flat)} arrays, the model has {len(names)} outputs: {names}")
    return flat


class CompileMetrics:
    """The metrics of ``compile(metrics=..., weighted_metrics=...)``, for each output. Only the weighted ones see the sample
    weights.
    """

    name = "compile_metrics"

    def __init__(self, metrics: Any, weighted_metrics: Any, output_names: list[str] | None):
        for what, given in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if given is not None and not isinstance(given, (list, tuple, Mapping)):
                raise ArgumentError(f"{what} is a list, a tuple or a dictionary of metrics, not {given!r}")
        for name in flatten([metrics, weighted_metrics]):
            if isinstance(name, str) and name.lower() not in ("accuracy", "acc"):
                metrics_module.get(name)
        self.given, self.weighted, self.output_names = metrics, weighted_metrics, output_names
        self.reset()

    def reset(self) -> None:
        self.built = False
        self._parts: list[tuple[int, str | None, Metric, bool]] = []

    @property
    def metrics(self) -> list[Metric]:
        return [m for _, _, m, _ in self._parts]

    def _build(self, y_true: list[Any], y_pred: list[Any], names: list[str]) -> None:
        for given, weighted, what in ((self.given, False, "metrics"), (self.weighted, True, "weighted_metrics")):
            if not given:
                continue
            if len(names) == 1:
                entries = [flatten(given)]
            else:
                entries = per_output(what, given, names, True)
            for i, entry in enumerate(entries):
                for m in entry if isinstance(entry, (list, tuple)) else [entry]:
                    if m is not None:
                        self._parts.append(
                            (i, names[i] if len(names) > 1 else None, resolve_metric(m, y_true[i], y_pred[i]), weighted)
                        )
        self.built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        names = output_names_of(y_pred, self.output_names)
        preds, labels = (
            flatten(y_pred),
            labels_per_output(y_true, names, [True] * len(names))
            if len(flatten(y_true)) == len(names) or isinstance(y_true, Mapping)
            else [*flatten(y_true), *[None] * len(names)][: len(names)],
        )
        weights = weights_per_output(sample_weight, names)
        if not self.built:
            self._build(labels, preds, names)
        for i, _, metric, weighted in self._parts:
            metric.update_state(
                labels[i], preds[i], **({"sample_weight": weights[i]} if weighted and weights[i] is not None else {})
            )

    def result(self) -> dict[str, Any]:
        """Name -> value, names made unique as Keras does."""
        results: dict[str, Any] = {}
        counts: dict[str, int] = {}
        for _, output, metric, weighted in self._parts:
            name = f"{output}_{metric.name}" if output else metric.name
            if name in counts and weighted:
                name = f"{output}_weighted_{metric.name}" if output else f"weighted_{metric.name}"
            n = counts.get(name, 0)
            counts[name] = n + 1
            value = metric.result()
            if isinstance(value, dict):
                results.update(value)
            else:
                results[name if n == 0 else f"{name}_{n}"] = value
        return results
