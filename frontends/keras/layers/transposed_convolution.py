"""Transposed convolutions: the gradients of convolutions with respect to their inputs, as layers."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import ops
from ..ops.spatial import per_axis
from .arguments import make_weight, positive, set_weight, weight_config
from .convolution import SpatialLayer


class _Transposed(SpatialLayer):
    """``activation(transposed convolution(inputs, kernel) + bias)``; kernel (*kernel_size, filters, channels).

    Without ``output_padding`` an axis of n becomes n * stride ("same") or (n - 1) * stride + max(reach, stride) ("valid"); with it
    (n - 1) * stride + reach % 2 + output_padding, or (n - 1) * stride + reach + output_padding, reach being (kernel - 1) * dilation + 1.
    """

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", output_padding: Any = None,
                 data_format: str | None = None, dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
                 **kwargs: Any):
        super().__init__(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, activity_regularizer=activity_regularizer,
                         **kwargs)
        what = type(self).__name__
        self.filters = positive(what, "filters", filters)
        self.output_padding = None if output_padding is None else per_axis(output_padding, self.rank, f"{what}: output_padding")
        if self.output_padding is not None and any(not 0 <= p < s for p, s in zip(self.output_padding, self.strides)):
            raise ArgumentError(f"{what}: output_padding {self.output_padding} must not be negative, and less than strides {self.strides}")
        set_weight(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        set_weight(self, "bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        self.kernel = make_weight(self, "kernel", (*self.kernel_size, self.filters, self._channels(input_shape)))
        self._make_bias(self.filters)

    def call(self, inputs: Any) -> Any:
        return self._finish(ops.conv_transpose(inputs, self.kernel, self.strides, self.padding, self.output_padding, self.data_format,
                                               self.dilation_rate))

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "output_padding": self.output_padding, **weight_config(self, "kernel", "bias")}


class Conv1DTranspose(_Transposed):
    """Over (batch, steps, channels)."""

    rank = 1


class Conv2DTranspose(_Transposed):
    """Over (batch, rows, columns, channels)."""

    rank = 2


class Conv3DTranspose(_Transposed):
    """Over (batch, depth, rows, columns, channels)."""

    rank = 3


Convolution1DTranspose, Convolution2DTranspose, Convolution3DTranspose = Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
