"""The base of metrics: state in variables, updated inside the compiled step (there they are donated), read by ``result``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import config as settings
from . import initializers
from .loss import divide_no_nan, mask_of, masked_weight, squeeze_or_expand_to_same_rank
from .naming import auto_name
from .variable import Variable


class Metric:
    """Base class: subclasses make variables with ``add_variable`` and define ``update_state(...)`` and ``result()``, both made of
    ``ops``.
    """

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name = name or auto_name(type(self).__name__)
        self._dtype = settings.standardize_dtype(getattr(dtype, "compute_dtype", dtype))
        self._variables: list[Variable] = []

    @property
    def dtype(self) -> str:
        return self._dtype

    @property
    def variables(self) -> list[Variable]:
        nested = [v for m in vars(self).values() if isinstance(m, Metric) for v in m.variables]
        return [*self._variables, *nested]

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "sum",
        name: str | None = None,
    ) -> Variable:
        dtype = settings.standardize_dtype(dtype)
        v = Variable(initializers.get(initializer or "zeros")(tuple(shape), dtype), dtype=dtype, trainable=False, name=name)
        self._variables.append(v)
        return v

    def add_weight(
        self, shape: Sequence[int] = (), initializer: Any = None, dtype: Any = None, name: str | None = None
    ) -> Variable:
        return self.add_variable(shape, initializer, dtype, name=name)

    def reset_state(self) -> None:
        """Sets every variable to 0: on the host, for it happens between steps."""
        for v in self.variables:
            v.array[...] = 0
            v.version += 1

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define update_state(...)")

    def result(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define result()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict:
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict) -> Metric:
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def samplewise(values: Any, sample_weight: Any, reduce_fn: Any, dtype: str) -> tuple[Any, Any]:
    """``values`` reduced to one per sample and weighted, and the weight of each sample (Keras' rule for weights of every
    rank).
    """
    from . import ops

    mask = mask_of(values)
    values = ops.cast(ops.convert_to_tensor(values), dtype)
    if sample_weight is not None:
        weight = masked_weight(ops.cast(ops.convert_to_tensor(sample_weight), dtype), mask, dtype, "sum")
        values, weight = squeeze_or_expand_to_same_rank(values, weight)
        rank = len(weight.shape)
        if len(values.shape) > rank:
            values = reduce_fn(values, axis=list(range(rank, len(values.shape))))
        weight = ops.broadcast_to(weight, values.shape)
        values, sample_weight = values * weight, weight
        if rank > 1:
            sample_weight = reduce_fn(weight, axis=list(range(1, rank)))
    if len(values.shape) > 1:
        values = reduce_fn(values, axis=list(range(1, len(values.shape))))
    return values, sample_weight


class Sum(Metric):
    """The (weighted) sum of the values."""

    def __init__(self, name: str = "sum", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", self.dtype, name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        from . import ops

        values, _ = samplewise(values, sample_weight, ops.sum, self.dtype)
        self.total.assign(self.total + ops.sum(values))

    def result(self) -> Any:
        from . import ops

        return ops.cast(self.total, self.dtype)


class Mean(Metric):
    """The (weighted) mean of the values."""

    def __init__(self, name: str = "mean", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", self.dtype, name="total")
        self.count = self.add_variable((), "zeros", self.dtype, name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        from . import ops

        values, weight = samplewise(values, sample_weight, ops.mean, self.dtype)
        self.total.assign(self.total + ops.sum(values))
        self.count.assign(self.count + (ops.sum(weight) if weight is not None else ops.sum(ops.ones_like(values))))

    def result(self) -> Any:
        from . import ops

        return divide_no_nan(ops.convert_to_tensor(self.total), ops.convert_to_tensor(self.count))


class MeanMetricWrapper(Mean):
    """The mean of ``fn(y_true, y_pred, **kwargs)``."""

    def __init__(self, fn: Any, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name=name, dtype=dtype)
        self._fn, self._fn_kwargs = fn, kwargs

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        mask = mask_of(y_pred)
        values = self._fn(y_true, y_pred, **self._fn_kwargs)
        super().update_state(values, masked_weight(sample_weight, mask, self.dtype, "sum"))

    def get_config(self) -> dict:
        config = {**super().get_config(), **self._fn_kwargs}
        return config if type(self) is not MeanMetricWrapper else {**config, "fn": self._fn}
