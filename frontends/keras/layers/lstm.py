"""Long short-term memory (Hochreiter and Schmidhuber, 1997)."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError, UnsupportedOpError
from .. import ops
from ..input_spec import InputSpec
from .recurrent_cell import WEIGHT_ARGUMENTS, RecurrentCell, with_forget_ones
from .rnn import CellRNN


class LSTMCell(RecurrentCell):
    """Gates (i, f, c, o) from ``x @ kernel + h @ recurrent_kernel + bias``: ``c' = f * c + i * activation(c gate)``, ``h' = o * activation(c')``."""

    gates = 4
    has_recurrent_activation = True

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
                 unit_forget_bias: bool = True, kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None,
                 kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(units, activation, use_bias, dropout, recurrent_dropout, seed, recurrent_activation, kwargs=kwargs,
                         kernel_initializer=kernel_initializer, recurrent_initializer=recurrent_initializer, bias_initializer=bias_initializer,
                         kernel_regularizer=kernel_regularizer, recurrent_regularizer=recurrent_regularizer, bias_regularizer=bias_regularizer,
                         kernel_constraint=kernel_constraint, recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [self.units, self.units]

    def _bias_initializer(self) -> Any:
        return with_forget_ones(self.bias_initializer, self.units) if self.unit_forget_bias else self.bias_initializer

    def call(self, inputs: Any, states: Any, training: Any = False) -> tuple[Any, list]:
        h, c = states
        z = self._input_projection(inputs, training)
        if self.bias is not None:
            z = ops.add(z, self.bias)
        i, f, g, o = ops.split(ops.add(z, self._recurrent_projection(h, training)), 4, axis=-1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        h = self.recurrent_activation(o) * self.activation(c)
        return h, [h, c]

    def get_config(self) -> dict:
        return {**super().get_config(), "unit_forget_bias": self.unit_forget_bias}


def check_cudnn(layer: str, use_cudnn: Any) -> Any:
    if use_cudnn not in ("auto", True, False):
        raise ArgumentError(f"{layer}: use_cudnn is one of 'auto', True, False, not {use_cudnn!r}")
    if use_cudnn is True:
        raise UnsupportedOpError(f"{layer}: use_cudnn=True asks for cuDNN, which kerogen doesn't use (its loop is compiled); leave it 'auto'")
    return use_cudnn


class LSTM(CellRNN):
    """(batch, time, features) to (batch, units), or (batch, time, units) with ``return_sequences``; states h and c. See ``RNN`` and ``LSTMCell``."""

    cell_arguments = ("units", "activation", "recurrent_activation", "use_bias", "unit_forget_bias", *WEIGHT_ARGUMENTS, "dropout", "recurrent_dropout",
                      "seed")

    def __init__(self, units: int, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
                 unit_forget_bias: bool = True, kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None,
                 activity_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None,
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False,
                 return_state: bool = False, go_backwards: bool = False, stateful: bool = False, unroll: bool = False, use_cudnn: Any = "auto",
                 **kwargs: Any):
        cell = LSTMCell(units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
                        unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint,
                        bias_constraint, dropout, recurrent_dropout, seed, dtype=kwargs.get("dtype"), trainable=kwargs.get("trainable", True),
                        name="lstm_cell", implementation=kwargs.pop("implementation", 2))
        super().__init__(cell, return_sequences, return_state, go_backwards, stateful, unroll, activity_regularizer=activity_regularizer, **kwargs)
        self.use_cudnn = check_cudnn("LSTM", use_cudnn)
        self.input_spec = InputSpec(ndim=3)
