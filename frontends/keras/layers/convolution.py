"""Convolutions over one, two or three spatial axes."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import activations, config, ops, regularizers
from ..input_spec import InputSpec
from ..layer import Layer
from ..ops.spatial import convolve, per_axis
from ..tensor import Tensor
from ..trace import as_node
from .arguments import choice, known_size, make_weight, positive, refuse, set_weight, weight_config


class SpatialLayer(Layer):
    """What all convolutions share: the window and its steps, the format, bias and activation. ``rank`` is the number of spatial axes."""

    rank = 2

    def __init__(self, kernel_size: Any, strides: Any, padding: Any, data_format: str | None, dilation_rate: Any, activation: Any, use_bias: bool,
                 causal: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        what = type(self).__name__
        self.kernel_size = per_axis(kernel_size, self.rank, f"{what}: kernel_size")
        self.strides = per_axis(strides, self.rank, f"{what}: strides")
        self.dilation_rate = per_axis(dilation_rate, self.rank, f"{what}: dilation_rate")
        self.padding = choice(what, "padding", padding, "valid", "same", *(["causal"] if causal else []))
        self.data_format = config.standardize_data_format(data_format)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.input_spec = InputSpec(min_ndim=self.rank + 2)
        if any(n <= 0 for n in (*self.kernel_size, *self.strides, *self.dilation_rate)):
            raise ArgumentError(f"{what}: kernel_size {self.kernel_size}, strides {self.strides} and dilation_rate {self.dilation_rate} must be positive")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(f"{what}: strides {self.strides} and dilation_rate {self.dilation_rate} can't both exceed 1")

    def _channels(self, input_shape: Any) -> int:
        """The number of input channels, which later calls must have as well."""
        axis = -1 if self.data_format == "channels_last" else 1
        channels = known_size(self, input_shape, axis, "channel axis")
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={axis: channels})
        return channels

    def _make_bias(self, filters: int) -> None:
        self.bias = make_weight(self, "bias", (filters,)) if self.use_bias else None

    def _finish(self, x: Any) -> Any:
        if self.use_bias:
            bias = self.bias if self.data_format == "channels_last" else ops.reshape(self.bias, (1, -1, *[1] * self.rank))
            x = ops.add(x, bias)
        return self.activation(x)

    def get_config(self) -> dict:
        return {**super().get_config(), "kernel_size": self.kernel_size, "strides": self.strides, "padding": self.padding,
                "data_format": self.data_format, "dilation_rate": self.dilation_rate, "activation": activations.serialize(self.activation),
                "use_bias": self.use_bias, "activity_regularizer": regularizers.serialize(self.activity_regularizer)}


class BaseConv(SpatialLayer):
    """``activation(convolution(inputs, kernel) + bias)``; kernel (*kernel_size, channels / groups, filters)."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
                 dilation_rate: Any = 1, groups: int = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any):
        lora_rank, lora_alpha = kwargs.pop("lora_rank", None), kwargs.pop("lora_alpha", None)
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, causal=self.rank == 1,
                         activity_regularizer=activity_regularizer, **kwargs)
        what = type(self).__name__
        refuse(what, lora_rank=lora_rank, lora_alpha=lora_alpha)
        self.filters, self.groups = positive(what, "filters", filters), positive(what, "groups", groups)
        set_weight(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        set_weight(self, "bias", bias_initializer, bias_regularizer, bias_constraint)
        if self.filters % self.groups:
            raise ArgumentError(f"{what}: filters={self.filters} is no multiple of groups={self.groups}")

    def build(self, input_shape: Any) -> None:
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ArgumentError(f"{type(self).__name__} '{self.name}': the input's {channels} channels are no multiple of groups={self.groups}")
        self.kernel = make_weight(self, "kernel", (*self.kernel_size, channels // self.groups, self.filters))
        self._make_bias(self.filters)

    def call(self, inputs: Any) -> Any:
        return self._finish(Tensor(convolve(inputs.node, as_node(self.kernel), self.strides, self.padding, self.data_format, self.dilation_rate,
                                            self.groups, type(self).__name__)))

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "groups": self.groups, **weight_config(self, "kernel", "bias")}


class Conv1D(BaseConv):
    """Over (batch, steps, channels). ``padding="causal"`` sees no later step."""

    rank = 1


class Conv2D(BaseConv):
    """Over (batch, rows, columns, channels)."""

    rank = 2


class Conv3D(BaseConv):
    """Over (batch, depth, rows, columns, channels)."""

    rank = 3


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
