"""EinsumDense: a dense layer whose product is any contraction of the input with one kernel."""

from __future__ import annotations

import re
from typing import Any

from ....runtime.errors import ArgumentError, ShapeError
from .. import activations, ops, regularizers
from ..initializers import VarianceScaling
from ..input_spec import InputSpec
from ..layer import Layer
from .arguments import make_weight, refuse, set_weight, weight_config

_FORMS = (r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)", r"\.\.\.([a-zA-Z]+),([a-zA-Z]+)->\.\.\.([a-zA-Z]+)",
          r"([a-zA-Z]{2,})\.\.\.,([a-zA-Z]+)->([a-zA-Z]+)\.\.\.")


class EinsumDense(Layer):
    """``activation(einsum(equation, inputs, kernel) + bias)``.

    ``output_shape`` is the result's shape without batch, None where a size is the input's; ``bias_axes`` are the letters of the result
    that the bias has.
    """

    kernel_initializer: Any

    def __init__(self, equation: str, output_shape: Any, activation: Any = None, bias_axes: str | None = None,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, lora_rank: Any = None,
                 lora_alpha: Any = None, gptq_unpacked_column_size: Any = None, quantization_config: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        refuse("EinsumDense", lora_rank=lora_rank, lora_alpha=lora_alpha, gptq_unpacked_column_size=gptq_unpacked_column_size,
               quantization_config=quantization_config)
        if not isinstance(equation, str) or not any(re.fullmatch(form, equation.replace(" ", "")) for form in _FORMS):
            raise ArgumentError(f"EinsumDense: equation={equation!r} is none of the forms 'X,Y->Z', '...X,Y->...Z' and 'X...,Y->Z...'")
        self.equation = equation
        self.partial_output_shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
        self.bias_axes = bias_axes
        self.activation = activations.get(activation)
        set_weight(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        set_weight(self, "bias", bias_initializer, bias_regularizer, bias_constraint)

    def build(self, input_shape: Any) -> None:
        kernel_shape, bias_shape, input_axes, output_axes = self._weight_shapes(tuple(input_shape))
        self.input_spec = InputSpec(ndim=len(input_shape))
        given = self.kernel_initializer
        if isinstance(given, VarianceScaling) and (given.input_axes is None or given.output_axes is None):
            # Which of the kernel's axes are inputs isn't told by their places.
            config = {**given.get_config(), "seed": given.seed, "input_axes": input_axes, "output_axes": output_axes}
            self.kernel_initializer = type(given).from_config(config)
        self.kernel = make_weight(self, "kernel", kernel_shape)
        self.kernel_initializer = given
        self.bias = None if bias_shape is None else make_weight(self, "bias", bias_shape)

    def _weight_shapes(self, shape: tuple) -> tuple[tuple, tuple | None, list[int], list[int]]:
        """(kernel, bias, axes of the kernel that are summed over, axes that are the result's)."""
        where = f"EinsumDense '{self.name}': equation {self.equation!r}"
        equation = self.equation.replace(" ", "")
        given, weight, out = next(m for m in (re.fullmatch(form, equation) for form in _FORMS) if m).groups()
        elided = len(shape) - len(given)
        left = equation.startswith("...")
        if elided < 0 or (elided and "..." not in equation):
            raise ShapeError(f"{where} is for inputs of {'at least ' if '...' in equation else ''}{len(given)} axes, got shape {shape}")
        first = elided if left else 0
        sizes = {c: shape[i + first] for i, c in enumerate(given)}
        # The result: the batch, what is elided on the left, the sizes given, what is elided on the right.
        result = [shape[0], *(shape[1:elided] if left else ()), *self.partial_output_shape, *(shape[len(given):] if not left else ())]
        if len(result) != len(out) + elided:
            raise ShapeError(f"{where}: output_shape needs {len(out) - (0 if left and elided else 1)} sizes, those of the result without its batch; "
                             f"it is {self.partial_output_shape}")
        ends = {c: result[i + first] for i, c in enumerate(out)}
        for c, n in sizes.items():
            if ends.get(c) is not None and n is not None and ends[c] != n:
                raise ShapeError(f"{where}: axis {c!r} has size {n} in the input of shape {shape}, and {ends[c]} in output_shape {self.partial_output_shape}")
        kernel, input_axes, output_axes = [], [], []
        for i, c in enumerate(weight):
            if c not in ends and c not in sizes:
                raise ArgumentError(f"{where}: axis {c!r} of the kernel is neither one of the input nor one of the result")
            (output_axes if c in ends else input_axes).append(i)
            size = ends[c] if c in ends else sizes[c]
            if size is None:
                size = sizes.get(c)
            if size is None:
                raise ArgumentError(f"{where}: axis {c!r} of the kernel must have a known size; got an input of shape {shape}")
            kernel.append(size)
        if self.bias_axes is None:
            return tuple(kernel), None, input_axes, output_axes
        unknown = [c for c in self.bias_axes if c not in out]
        if unknown:
            raise ArgumentError(f"{where}: bias_axes={self.bias_axes!r} names {unknown[0]!r}, which is no axis of the result")
        start = min(out.index(c) for c in self.bias_axes)
        bias = [ends[c] if c in self.bias_axes else 1 for c in out[start:]] + ([] if left else [1] * elided)
        if None in bias:
            raise ArgumentError(f"{where}: the axes {self.bias_axes!r} of the bias must have known sizes in output_shape {self.partial_output_shape}")
        return tuple(kernel), tuple(bias), input_axes, output_axes

    def call(self, inputs: Any, training: Any = None) -> Any:
        x = ops.einsum(self.equation, inputs, self.kernel)
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return self.activation(x)

    def get_config(self) -> dict:
        return {**super().get_config(), "output_shape": self.partial_output_shape, "equation": self.equation,
                "activation": activations.serialize(self.activation), "bias_axes": self.bias_axes, **weight_config(self, "kernel", "bias"),
                "activity_regularizer": regularizers.serialize(self.activity_regularizer), "quantization_config": None}
