"""SimpleRNN: the output is the next step's state."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..input_spec import InputSpec
from ..structure import is_nested
from .recurrent_cell import WEIGHT_ARGUMENTS, RecurrentCell
from .rnn import CellRNN


class SimpleRNNCell(RecurrentCell):
    """``h' = activation(x @ kernel + h @ recurrent_kernel + bias)``."""

    def __init__(self, units: int, activation: Any = "tanh", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 recurrent_regularizer: Any = None, bias_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None,
                 bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(units, activation, use_bias, dropout, recurrent_dropout, seed, kwargs=kwargs, kernel_initializer=kernel_initializer,
                         recurrent_initializer=recurrent_initializer, bias_initializer=bias_initializer, kernel_regularizer=kernel_regularizer,
                         recurrent_regularizer=recurrent_regularizer, bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
                         recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint)

    def call(self, sequence: Any, states: Any, training: Any = False) -> tuple[Any, Any]:
        h = states[0] if is_nested(states) else states
        z = self._input_projection(sequence, training)
        if self.bias is not None:
            z = ops.add(z, self.bias)
        output = self.activation(ops.add(z, self._recurrent_projection(h, training)))
        return output, [output] if is_nested(states) else output


class SimpleRNN(CellRNN):
    """(batch, time, features) to (batch, units), or (batch, time, units) with ``return_sequences``. See ``RNN`` and ``SimpleRNNCell``."""

    cell_arguments = ("units", "activation", "use_bias", *WEIGHT_ARGUMENTS, "dropout", "recurrent_dropout")

    def __init__(self, units: int, activation: Any = "tanh", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
                 recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False, stateful: bool = False, unroll: bool = False,
                 seed: int | None = None, **kwargs: Any):
        cell = SimpleRNNCell(units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer, kernel_regularizer,
                             recurrent_regularizer, bias_regularizer, kernel_constraint, recurrent_constraint, bias_constraint, dropout,
                             recurrent_dropout, seed, dtype=kwargs.get("dtype"), trainable=kwargs.get("trainable", True), name="simple_rnn_cell")
        super().__init__(cell, return_sequences, return_state, go_backwards, stateful, unroll, activity_regularizer=activity_regularizer, **kwargs)
        self.input_spec = InputSpec(ndim=3)
