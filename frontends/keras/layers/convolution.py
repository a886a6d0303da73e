"""Convolutions over one, two or three spatial axes."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import activations, config, constraints, initializers, ops, regularizers
from ..input_spec import InputSpec
from ..layer import Layer
from ..ops.spatial import per_axis
from ..tensor import Tensor
from ..trace import as_node
from .dense import positive, refuse


class BaseConv(Layer):
    """``activation(convolution(inputs, kernel) + bias)`` over ``rank`` spatial axes; kernel (*kernel_size, channels / groups, filters)."""

    def __init__(self, rank: int, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
                 dilation_rate: Any = 1, groups: int = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None, **kwargs: Any):
        lora_rank, lora_alpha = kwargs.pop("lora_rank", None), kwargs.pop("lora_alpha", None)
        super().__init__(trainable=trainable, name=name, activity_regularizer=activity_regularizer, **kwargs)
        what = type(self).__name__
        refuse(what, lora_rank=lora_rank, lora_alpha=lora_alpha)
        self.rank = rank
        self.filters, self.groups = positive(what, "filters", filters), positive(what, "groups", groups)
        self.kernel_size = per_axis(kernel_size, rank, f"{what}: kernel_size")
        self.strides = per_axis(strides, rank, f"{what}: strides")
        self.dilation_rate = per_axis(dilation_rate, rank, f"{what}: dilation_rate")
        self.padding = standardize_padding(padding, what, rank == 1 and type(self).__name__ == "Conv1D")
        self.data_format = config.standardize_data_format(data_format)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer, self.bias_initializer = initializers.get(kernel_initializer), initializers.get(bias_initializer)
        self.kernel_regularizer, self.bias_regularizer = regularizers.get(kernel_regularizer), regularizers.get(bias_regularizer)
        self.kernel_constraint, self.bias_constraint = constraints.get(kernel_constraint), constraints.get(bias_constraint)
        self.input_spec = InputSpec(min_ndim=rank + 2)
        if any(n <= 0 for n in (*self.kernel_size, *self.strides, *self.dilation_rate)):
            raise ArgumentError(f"{what}: kernel_size {self.kernel_size}, strides {self.strides} and dilation_rate {self.dilation_rate} must be positive")
        if self.filters % self.groups:
            raise ArgumentError(f"{what}: filters={self.filters} is no multiple of groups={self.groups}")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(f"{what}: strides {self.strides} and dilation_rate {self.dilation_rate} can't both exceed 1")

    def _channels(self, input_shape: Any) -> int:
        axis = -1 if self.data_format == "channels_last" else 1
        channels = input_shape[axis]
        if channels is None:
            raise ArgumentError(f"{type(self).__name__} '{self.name}': the channel axis ({axis}) of the input must have a known size; "
                                f"got shape {tuple(input_shape)}")
        return channels

    def build(self, input_shape: Any) -> None:
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ArgumentError(f"{type(self).__name__} '{self.name}': the input's {channels} channels are no multiple of groups={self.groups}")
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={-1 if self.data_format == "channels_last" else 1: channels})
        self.kernel = self.add_weight(name="kernel", shape=(*self.kernel_size, channels // self.groups, self.filters),
                                      initializer=self.kernel_initializer, regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer=self.bias_initializer, regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None

    def _with_bias(self, x: Any) -> Any:
        if self.use_bias:
            bias = self.bias if self.data_format == "channels_last" else ops.reshape(self.bias, (1, -1, *[1] * self.rank))
            x = ops.add(x, bias)
        return self.activation(x)

    def call(self, inputs: Any) -> Any:
        x = ops.spatial.convolve(inputs.node, as_node(self.kernel), self.strides, self.padding, self.data_format, self.dilation_rate, self.groups,
                                 type(self).__name__)
        return self._with_bias(Tensor(x))

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size, "strides": self.strides, "padding": self.padding,
                "data_format": self.data_format, "dilation_rate": self.dilation_rate, "groups": self.groups,
                "activation": activations.serialize(self.activation), "use_bias": self.use_bias,
                "kernel_initializer": initializers.serialize(self.kernel_initializer), "bias_initializer": initializers.serialize(self.bias_initializer),
                "kernel_regularizer": regularizers.serialize(self.kernel_regularizer), "bias_regularizer": regularizers.serialize(self.bias_regularizer),
                "activity_regularizer": regularizers.serialize(self.activity_regularizer),
                "kernel_constraint": constraints.serialize(self.kernel_constraint), "bias_constraint": constraints.serialize(self.bias_constraint)}


def standardize_padding(padding: str, layer: str, causal: bool = False) -> str:
    name = str(padding).lower()
    allowed = ("valid", "same", "causal") if causal else ("valid", "same")
    if name not in allowed:
        raise ArgumentError(f"{layer}: padding is one of {', '.join(allowed)}, not {padding!r}")
    return name


class Conv1D(BaseConv):
    """Over (batch, steps, channels). ``padding="causal"`` sees no later step."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1,
                 groups: int = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any):
        super().__init__(1, filters, kernel_size, strides, padding, data_format, dilation_rate, groups, activation, use_bias, kernel_initializer,
                         bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)


class Conv2D(BaseConv):
    """Over (batch, rows, columns, channels)."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid", data_format: str | None = None,
                 dilation_rate: Any = (1, 1), groups: int = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any):
        super().__init__(2, filters, kernel_size, strides, padding, data_format, dilation_rate, groups, activation, use_bias, kernel_initializer,
                         bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)


class Conv3D(BaseConv):
    """Over (batch, depth, rows, columns, channels)."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = (1, 1, 1), padding: str = "valid", data_format: str | None = None,
                 dilation_rate: Any = (1, 1, 1), groups: int = 1, activation: Any = None, use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
                 **kwargs: Any):
        super().__init__(3, filters, kernel_size, strides, padding, data_format, dilation_rate, groups, activation, use_bias, kernel_initializer,
                         bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, **kwargs)


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
