"""What the cells of SimpleRNN, LSTM and GRU share: their arguments, weights and configuration."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....runtime.errors import ArgumentError
from .. import activations, ops, random
from ..layer import Layer
from .arguments import known_size, make_weight, positive, set_weight, weight_config
from .dropout_rnn_cell import DropoutRNNCell, rate
from .regularization import check_seed

WEIGHTS = ("kernel", "recurrent", "bias")
WEIGHT_ARGUMENTS = tuple([f"{w}_{what}" for what in ("initializer", "regularizer", "constraint") for w in WEIGHTS])


class RecurrentCell(Layer, DropoutRNNCell):
    """A cell with ``gates`` blocks of ``units`` columns in its kernels: kernel (features, gates * units), recurrent_kernel (units, gates * units), bias."""

    gates = 1
    has_recurrent_activation = False
    bias_initializer: Any
    bias_regularizer: Any
    bias_constraint: Any

    def __init__(self, units: int, activation: Any, use_bias: bool, dropout: float, recurrent_dropout: float, seed: int | None,
                 recurrent_activation: Any = None, implementation: int = 2, kwargs: dict | None = None, **weights: Any):
        kwargs = dict(kwargs or {})
        implementation = kwargs.pop("implementation", implementation)
        super().__init__(**kwargs)
        what = type(self).__name__
        self.units = positive(what, "units", units)
        self.activation = activations.get(activation)
        if self.has_recurrent_activation:
            self.recurrent_activation = activations.get(recurrent_activation)
        self.use_bias = use_bias
        for name in WEIGHTS:
            set_weight(self, name, weights[f"{name}_initializer"], weights[f"{name}_regularizer"], weights[f"{name}_constraint"])
        self.dropout, self.recurrent_dropout = rate(what, "dropout", dropout), rate(what, "recurrent_dropout", recurrent_dropout)
        # Keras' implementation 1 draws a mask for every gate; recurrent dropout implies it. How products are computed is the compiler's business.
        if implementation not in (0, 1, 2):
            raise ArgumentError(f"{what}: implementation must be 1 or 2, got {implementation!r}")
        self.implementation = 1 if self.gates > 1 and self.recurrent_dropout else implementation
        if self.gates > 1 and self.implementation == 1:
            self.dropout_mask_count = self.gates
        self.seed = check_seed(seed, what)
        self.seed_generator = random.SeedGenerator(seed)
        self.state_size: Any = self.units
        self.output_size = self.units

    def build(self, input_shape: Any) -> None:
        width = self.gates * self.units
        self.kernel = make_weight(self, "kernel", (known_size(self, input_shape, -1, "last axis"), width))
        self.recurrent_kernel = make_weight(self, "recurrent", (self.units, width), "recurrent_kernel")
        self.bias = self.add_weight(name="bias", shape=self._bias_shape(), initializer=self._bias_initializer(), regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def _bias_initializer(self) -> Any:
        return self.bias_initializer

    def get_initial_state(self, batch_size: Any = None) -> list:
        """Zeros (batch_size, units) for each state."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [ops.zeros((batch_size, d), dtype=self.compute_dtype) for d in sizes]

    def _input_projection(self, inputs: Any, training: Any) -> Any:
        """``inputs @ kernel`` (batch, gates * units) with dropout: a mask of its own for every gate, where there are several."""
        mask = self.get_dropout_mask(inputs) if training and 0 < self.dropout < 1 else None
        return _product(inputs, mask, self.kernel, self.units)

    def _recurrent_projection(self, state: Any, training: Any) -> Any:
        """``state @ recurrent_kernel`` with recurrent dropout."""
        return _product(state, self._recurrent_mask(state, training), self.recurrent_kernel, self.units)

    def _recurrent_mask(self, state: Any, training: Any) -> Any:
        return self.get_recurrent_dropout_mask(state) if training and 0 < self.recurrent_dropout < 1 else None

    def get_config(self) -> dict:
        config = {**super().get_config(), "units": self.units, "activation": activations.serialize(self.activation), "use_bias": self.use_bias}
        if self.has_recurrent_activation:
            config["recurrent_activation"] = activations.serialize(self.recurrent_activation)
        return {**config, **weight_config(self, *WEIGHTS), "dropout": self.dropout, "recurrent_dropout": self.recurrent_dropout, "seed": self.seed}


def _product(x: Any, mask: Any, kernel: Any, units: int) -> Any:
    if mask is None:
        return ops.matmul(x, kernel)
    if not isinstance(mask, list):
        return ops.matmul(x * mask, kernel)
    return ops.concatenate([ops.matmul(x * m, kernel[:, i * units:(i + 1) * units]) for i, m in enumerate(mask)], axis=-1)


def with_forget_ones(initializer: Any, units: int) -> Any:
    """A bias initializer for gates (i, f, c, o) whose forget gate begins with ones."""

    def initial(shape: Any, dtype: Any = None, **kwargs: Any) -> np.ndarray:
        first, rest = np.asarray(initializer((units,), dtype=dtype)), np.asarray(initializer((2 * units,), dtype=dtype))
        return np.concatenate([first, np.ones((units,), first.dtype), rest])

    return initial
