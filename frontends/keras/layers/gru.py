"""Gated recurrent unit (Cho et al., 2014)."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..input_spec import InputSpec
from ..structure import is_nested
from .lstm import check_cudnn
from .recurrent_cell import WEIGHT_ARGUMENTS, RecurrentCell
from .rnn import CellRNN


class GRUCell(RecurrentCell):
    """Gates (z, r, h): ``h' = z * h + (1 - z) * activation(...)``. The reset gate r multiplies the state's product with its kernel (``reset_after``, the
    form of cuDNN, with a bias (2, 3 * units) for both kernels) or the state itself (Cho et al., arXiv:1406.1078v1; bias (3 * units,))."""

    gates = 3
    has_recurrent_activation = True

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
                 kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, kernel_constraint: Any = None,
                 recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 reset_after: bool = True, seed: int | None = None, **kwargs: Any):
        super().__init__(units, activation, use_bias, dropout, recurrent_dropout, seed, recurrent_activation, kwargs=kwargs,
                         kernel_initializer=kernel_initializer, recurrent_initializer=recurrent_initializer, bias_initializer=bias_initializer,
                         kernel_regularizer=kernel_regularizer, recurrent_regularizer=recurrent_regularizer, bias_regularizer=bias_regularizer,
                         kernel_constraint=kernel_constraint, recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint)
        self.reset_after = reset_after

    def _bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def call(self, inputs: Any, states: Any, training: Any = False) -> tuple[Any, Any]:
        h = states[0] if is_nested(states) else states
        u = self.units
        x = self._input_projection(inputs, training)
        if self.bias is not None:
            x = ops.add(x, self.bias[0] if self.reset_after else self.bias)
        x_z, x_r, x_h = ops.split(x, 3, axis=-1)
        if self.reset_after:
            inner = self._recurrent_projection(h, training)
            if self.bias is not None:
                inner = ops.add(inner, self.bias[1])
            h_z, h_r, h_h = ops.split(inner, 3, axis=-1)
            z, r = self.recurrent_activation(x_z + h_z), self.recurrent_activation(x_r + h_r)
            candidate = r * h_h
        else:
            mask = self._recurrent_mask(h, training)
            m_z, m_r, m_h = (h, h, h) if mask is None else [h * m for m in mask]
            kernel = self.recurrent_kernel
            if mask is None:
                h_z, h_r = ops.split(ops.matmul(h, kernel[:, :2 * u]), 2, axis=-1)
            else:
                h_z, h_r = ops.matmul(m_z, kernel[:, :u]), ops.matmul(m_r, kernel[:, u:2 * u])
            z, r = self.recurrent_activation(x_z + h_z), self.recurrent_activation(x_r + h_r)
            candidate = ops.matmul(r * m_h, kernel[:, 2 * u:])
        out = z * h + (1 - z) * self.activation(x_h + candidate)
        return out, [out] if is_nested(states) else out

    def get_config(self) -> dict:
        return {**super().get_config(), "reset_after": self.reset_after}


class GRU(CellRNN):
    """(batch, time, features) to (batch, units), or (batch, time, units) with ``return_sequences``. See ``RNN`` and ``GRUCell``."""

    cell_arguments = ("units", "activation", "recurrent_activation", "use_bias", *WEIGHT_ARGUMENTS, "dropout", "recurrent_dropout", "reset_after", "seed")

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
                 kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False, return_state: bool = False,
                 go_backwards: bool = False, stateful: bool = False, unroll: bool = False, reset_after: bool = True, use_cudnn: Any = "auto",
                 **kwargs: Any):
        cell = GRUCell(units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
                       kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout,
                       recurrent_dropout, reset_after, seed, dtype=kwargs.get("dtype"), trainable=kwargs.get("trainable", True), name="gru_cell",
                       implementation=kwargs.pop("implementation", 2))
        super().__init__(cell, return_sequences, return_state, go_backwards, stateful, unroll, activity_regularizer=activity_regularizer, **kwargs)
        self.use_cudnn = check_cudnn("GRU", use_cudnn)
        self.input_spec = InputSpec(ndim=3)
