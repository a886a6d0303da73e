"""Convolutions of every channel for itself, and those followed by a product over the channels."""

from __future__ import annotations

from typing import Any

from .. import ops
from .arguments import make_weight, positive, set_weight, weight_config
from .convolution import SpatialLayer


class _Depthwise(SpatialLayer):
    """Every channel with ``depth_multiplier`` filters of its own; kernel (*kernel_size, channels, depth_multiplier)."""

    def __init__(self, kernel_size: Any, strides: Any = 1, padding: str = "valid", depth_multiplier: int = 1, data_format: str | None = None,
                 dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True, depthwise_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", depthwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 depthwise_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any):
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, activity_regularizer=activity_regularizer,
                         **kwargs)
        self.depth_multiplier = positive(type(self).__name__, "depth_multiplier", depth_multiplier)
        set_weight(self, "depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        set_weight(self, "bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        channels = self._channels(input_shape)
        self.kernel = make_weight(self, "depthwise", (*self.kernel_size, channels, self.depth_multiplier), "kernel")
        self._make_bias(channels * self.depth_multiplier)

    def call(self, inputs: Any) -> Any:
        return self._finish(ops.depthwise_conv(inputs, self.kernel, self.strides, self.padding, self.data_format, self.dilation_rate))

    def get_config(self) -> dict:
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier, **weight_config(self, "depthwise", "bias")}


class DepthwiseConv1D(_Depthwise):
    """Over (batch, steps, channels)."""

    rank = 1


class DepthwiseConv2D(_Depthwise):
    """Over (batch, rows, columns, channels)."""

    rank = 2


class _Separable(SpatialLayer):
    """A depthwise convolution without bias, then a product over the channels: ``depthwise_kernel`` (*kernel_size, channels, depth_multiplier),
    ``pointwise_kernel`` (1..., channels * depth_multiplier, filters)."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
                 dilation_rate: Any = 1, depth_multiplier: int = 1, activation: Any = None, use_bias: bool = True,
                 depthwise_initializer: Any = "glorot_uniform", pointwise_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
                 depthwise_regularizer: Any = None, pointwise_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 depthwise_constraint: Any = None, pointwise_constraint: Any = None, bias_constraint: Any = None, **kwargs: Any):
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, activity_regularizer=activity_regularizer,
                         **kwargs)
        what = type(self).__name__
        self.filters, self.depth_multiplier = positive(what, "filters", filters), positive(what, "depth_multiplier", depth_multiplier)
        set_weight(self, "depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        set_weight(self, "pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint)
        set_weight(self, "bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        channels = self._channels(input_shape)
        self.depthwise_kernel = make_weight(self, "depthwise", (*self.kernel_size, channels, self.depth_multiplier), "depthwise_kernel")
        inner = channels * self.depth_multiplier
        self.pointwise_kernel = make_weight(self, "pointwise", (*[1] * self.rank, inner, self.filters), "pointwise_kernel")
        self._make_bias(self.filters)

    def call(self, inputs: Any) -> Any:
        return self._finish(ops.separable_conv(inputs, self.depthwise_kernel, self.pointwise_kernel, self.strides, self.padding, self.data_format,
                                               self.dilation_rate))

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "depth_multiplier": self.depth_multiplier,
                **weight_config(self, "depthwise", "pointwise", "bias")}


class SeparableConv1D(_Separable):
    """Over (batch, steps, channels)."""

    rank = 1


class SeparableConv2D(_Separable):
    """Over (batch, rows, columns, channels)."""

    rank = 2


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
