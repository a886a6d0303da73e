"""Layers that apply an activation."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import activations, ops
from ..input_spec import InputSpec
from ..layer import Layer
from .arguments import known_size, make_weight, number, set_weight, weight_config


class Activation(Layer):
    """The function named (or given), element by element."""

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.activation = activations.get(activation)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)

    def get_config(self) -> dict:
        return {"activation": activations.serialize(self.activation), **super().get_config()}


class ReLU(Layer):
    """max(x, 0); ``negative_slope`` below ``threshold``, at most ``max_value``."""

    def __init__(self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any):
        alpha = kwargs.pop("alpha", None)
        super().__init__(**kwargs)
        negative_slope = negative_slope if alpha is None else alpha
        self.max_value = None if max_value is None else number("ReLU", "max_value", max_value, 0)
        self.negative_slope, self.threshold = number("ReLU", "negative_slope", negative_slope, 0), number("ReLU", "threshold", threshold, 0)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)

    def get_config(self) -> dict:
        return {**super().get_config(), "max_value": self.max_value, "negative_slope": self.negative_slope, "threshold": self.threshold}


class LeakyReLU(Layer):
    """x where positive, else ``negative_slope * x``."""

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        alpha = kwargs.pop("alpha", None)
        super().__init__(**kwargs)
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope if alpha is None else alpha)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, self.negative_slope)

    def get_config(self) -> dict:
        return {**super().get_config(), "negative_slope": self.negative_slope}


class ELU(Layer):
    """x where positive, else ``alpha * (exp(x) - 1)``."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = number("ELU", "alpha", alpha)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        return activations.elu(inputs, self.alpha)

    def get_config(self) -> dict:
        return {"alpha": self.alpha, **super().get_config()}


class Softmax(Layer):
    """exp(x) over its sum along ``axis`` (or axes); where ``mask`` is False the result is 0."""

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is not None:
            low = -3e4 if str(inputs.dtype) == "float16" else -1e9
            inputs = ops.add(inputs, ops.multiply(ops.subtract(1.0, ops.cast(mask, inputs.dtype)), low))
        axis = self.axis[0] if isinstance(self.axis, list) and len(self.axis) == 1 else self.axis
        out = ops.softmax(inputs, axis=axis)
        return out if mask is None else ops.multiply(out, ops.cast(mask, inputs.dtype))

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis}


class PReLU(Layer):
    """x where positive, else ``alpha * x``, alpha learned (one per element, or shared along ``shared_axes``)."""

    def __init__(self, alpha_initializer: Any = "Zeros", alpha_regularizer: Any = None, alpha_constraint: Any = None, shared_axes: Any = None,
                 **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        set_weight(self, "alpha", alpha_initializer, alpha_regularizer, alpha_constraint)
        self.shared_axes = None if shared_axes is None else list(shared_axes) if isinstance(shared_axes, (list, tuple)) else [shared_axes]

    def build(self, input_shape: Any) -> None:
        shared = self.shared_axes or ()
        if any(not 1 <= i < len(input_shape) for i in shared):
            raise ArgumentError(f"PReLU '{self.name}': shared_axes={self.shared_axes} for an input of shape {tuple(input_shape)}: axes are in "
                                f"[1, {len(input_shape) - 1}]")
        self.alpha = make_weight(self, "alpha", tuple([1 if i in shared else known_size(self, input_shape, i) for i in range(1, len(input_shape))]))
        axes = {i: input_shape[i] for i in range(1, len(input_shape)) if i not in (self.shared_axes or ())} if self.shared_axes else {}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=axes)

    def call(self, inputs: Any) -> Any:
        return ops.relu(inputs) - self.alpha * ops.relu(ops.negative(inputs))

    def get_config(self) -> dict:
        return {**super().get_config(), **weight_config(self, "alpha"), "shared_axes": self.shared_axes}
