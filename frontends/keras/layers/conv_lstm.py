"""Convolutional LSTM (Shi et al., 2015, arXiv:1506.04214, without peepholes)."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import activations, config, ops, random
from ..input_spec import InputSpec
from ..layer import Layer
from ..ops.spatial import per_axis
from .arguments import choice, make_weight, positive, set_weight, weight_config
from .dropout_rnn_cell import DropoutRNNCell, rate
from .recurrent_cell import WEIGHT_ARGUMENTS, WEIGHTS, with_forget_ones
from .regularization import check_seed
from .rnn import CellRNN


class ConvLSTMCell(Layer, DropoutRNNCell):
    """``LSTMCell`` with convolutions: of the input (``strides``, ``padding``, ``dilation_rate``), and of the state ("same", so that it keeps its size).
    kernel (*kernel_size, channels, 4 * filters), recurrent_kernel (*kernel_size, filters, 4 * filters)."""

    dropout_mask_count = 4
    bias_initializer: Any
    bias_regularizer: Any
    bias_constraint: Any

    def __init__(self, rank: int, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None,
                 dilation_rate: Any = 1, activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True,
                 kernel_initializer: Any = "glorot_uniform", recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros",
                 unit_forget_bias: bool = True, kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None,
                 kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        what = type(self).__name__
        if rank not in (1, 2, 3):
            raise ArgumentError(f"{what}: rank is 1, 2 or 3, not {rank!r}")
        self.rank, self.filters = rank, positive(what, "filters", filters)
        self.kernel_size = per_axis(kernel_size, rank, f"{what}: kernel_size")
        self.strides = per_axis(strides, rank, f"{what}: strides")
        self.padding = choice(what, "padding", padding, "valid", "same")
        self.data_format = config.standardize_data_format(data_format)
        self.dilation_rate = per_axis(dilation_rate, rank, f"{what}: dilation_rate")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(f"{what}: strides {self.strides} and dilation_rate {self.dilation_rate} can't both exceed 1")
        self.activation, self.recurrent_activation = activations.get(activation), activations.get(recurrent_activation)
        self.use_bias, self.unit_forget_bias = use_bias, unit_forget_bias
        set_weight(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        set_weight(self, "recurrent", recurrent_initializer, recurrent_regularizer, recurrent_constraint)
        set_weight(self, "bias", bias_initializer, bias_regularizer, bias_constraint)
        self.dropout, self.recurrent_dropout = rate(what, "dropout", dropout), rate(what, "recurrent_dropout", recurrent_dropout)
        self.seed = check_seed(seed, what)
        self.seed_generator = random.SeedGenerator(seed)
        self.state_size = [-1, -1]  # images: their size follows from the input's
        self.input_spec = InputSpec(ndim=rank + 2)

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        last = self.data_format == "channels_last"
        self.spatial_dims = tuple(inputs_shape[1:-1] if last else inputs_shape[2:])
        channels = inputs_shape[-1 if last else 1]
        if None in self.spatial_dims or channels is None:
            raise ArgumentError(f"{type(self).__name__} '{self.name}': the sizes of the images and their channels must be known; got a step of shape "
                                f"{tuple(inputs_shape)}")
        self.input_dim = channels
        self.kernel = make_weight(self, "kernel", (*self.kernel_size, channels, 4 * self.filters))
        self.recurrent_kernel = make_weight(self, "recurrent", (*self.kernel_size, self.filters, 4 * self.filters), "recurrent_kernel")
        begin = with_forget_ones(self.bias_initializer, self.filters) if self.unit_forget_bias else self.bias_initializer
        self.bias = self.add_weight(name="bias", shape=(4 * self.filters,), initializer=begin, regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None

    def _state_shape(self, batch: Any) -> tuple:
        """The shape of h and c: of the input's convolution."""
        sizes = []
        for n, k, s, d in zip(self.spatial_dims, self.kernel_size, self.strides, self.dilation_rate):
            sizes.append(-(-n // s) if self.padding == "same" else (n - (k - 1) * d - 1) // s + 1)
        return (batch, *sizes, self.filters) if self.data_format == "channels_last" else (batch, self.filters, *sizes)

    def get_initial_state(self, batch_size: Any = None) -> list:
        """Zeros for h and c."""
        return [ops.zeros(self._state_shape(batch_size), dtype=self.compute_dtype) for _ in range(2)]

    def compute_output_shape(self, inputs_shape: Any, states_shape: Any = None) -> Any:
        if not self.built:
            self.spatial_dims = tuple(inputs_shape[1:-1] if self.data_format == "channels_last" else inputs_shape[2:])
        shape = self._state_shape(inputs_shape[0])
        return shape, [shape, shape]

    def call(self, inputs: Any, states: Any, training: Any = False) -> tuple[Any, list]:
        h, c = states
        axis = -1 if self.data_format == "channels_last" else 1
        x_mask = self.get_dropout_mask(inputs) if training and 0 < self.dropout < 1 else None
        h_mask = self.get_recurrent_dropout_mask(h) if training and 0 < self.recurrent_dropout < 1 else None
        x = self._convolved(inputs, x_mask, self.kernel, axis, strides=self.strides, padding=self.padding, dilation_rate=self.dilation_rate)
        if self.bias is not None:
            x = x + (self.bias if axis == -1 else ops.reshape(self.bias, (1, -1, *[1] * self.rank)))
        z = x + self._convolved(h, h_mask, self.recurrent_kernel, axis, strides=1, padding="same", dilation_rate=1)
        i, f, g, o = ops.split(z, 4, axis=axis)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        h = self.recurrent_activation(o) * self.activation(c)
        return h, [h, c]

    def _convolved(self, x: Any, masks: Any, kernel: Any, axis: int, **how: Any) -> Any:
        """All four gates at once; each with its own mask of the image, where there are masks."""
        if masks is None:
            return ops.conv(x, kernel, data_format=self.data_format, **how)
        n = self.filters
        return ops.concatenate([ops.conv(x * m, kernel[..., i * n:(i + 1) * n], data_format=self.data_format, **how) for i, m in enumerate(masks)], axis)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size, "strides": self.strides, "padding": self.padding,
                "data_format": self.data_format, "dilation_rate": self.dilation_rate, "activation": activations.serialize(self.activation),
                "recurrent_activation": activations.serialize(self.recurrent_activation), "use_bias": self.use_bias,
                "unit_forget_bias": self.unit_forget_bias, **weight_config(self, *WEIGHTS), "dropout": self.dropout, "recurrent_dropout": self.recurrent_dropout,
                "seed": self.seed}


class ConvLSTM(CellRNN):
    """(batch, time, *image, channels) to the last (batch, *image, filters), or all with ``return_sequences``. See ``RNN`` and ``ConvLSTMCell``."""

    cell_arguments = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "activation", "recurrent_activation", "use_bias",
                      "unit_forget_bias", *WEIGHT_ARGUMENTS, "dropout", "recurrent_dropout", "seed")

    def __init__(self, rank: int, filters: int, kernel_size: Any, return_sequences: bool, return_state: bool, go_backwards: bool, stateful: bool,
                 activity_regularizer: Any, kwargs: dict, **cell: Any):
        super().__init__(ConvLSTMCell(rank, filters, kernel_size, **cell, dtype=kwargs.get("dtype"), name="conv_lstm_cell"), return_sequences,
                         return_state, go_backwards, stateful, activity_regularizer=activity_regularizer, **kwargs)
        self.input_spec = InputSpec(ndim=rank + 3)

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        batch, time = sequences_shape[:2]
        state, states = self.cell.compute_output_shape((batch, *sequences_shape[2:]))
        output = (batch, time, *state[1:]) if self.return_sequences else state
        return (output, *states) if self.return_state else output


class ConvLSTM1D(ConvLSTM):
    """Over (batch, time, steps, channels)."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1,
                 activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", unit_forget_bias: bool = True,
                 kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False, return_state: bool = False,
                 go_backwards: bool = False, stateful: bool = False, **kwargs: Any):
        super().__init__(1, filters, kernel_size, return_sequences, return_state, go_backwards, stateful, activity_regularizer, kwargs,
                         strides=strides, padding=padding, data_format=data_format, dilation_rate=dilation_rate, activation=activation,
                         recurrent_activation=recurrent_activation, use_bias=use_bias, kernel_initializer=kernel_initializer,
                         recurrent_initializer=recurrent_initializer, bias_initializer=bias_initializer, unit_forget_bias=unit_forget_bias,
                         kernel_regularizer=kernel_regularizer, recurrent_regularizer=recurrent_regularizer, bias_regularizer=bias_regularizer,
                         kernel_constraint=kernel_constraint, recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint,
                         dropout=dropout, recurrent_dropout=recurrent_dropout, seed=seed)


class ConvLSTM2D(ConvLSTM):
    """Over (batch, time, rows, columns, channels)."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1,
                 activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", unit_forget_bias: bool = True,
                 kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False, return_state: bool = False,
                 go_backwards: bool = False, stateful: bool = False, **kwargs: Any):
        super().__init__(2, filters, kernel_size, return_sequences, return_state, go_backwards, stateful, activity_regularizer, kwargs,
                         strides=strides, padding=padding, data_format=data_format, dilation_rate=dilation_rate, activation=activation,
                         recurrent_activation=recurrent_activation, use_bias=use_bias, kernel_initializer=kernel_initializer,
                         recurrent_initializer=recurrent_initializer, bias_initializer=bias_initializer, unit_forget_bias=unit_forget_bias,
                         kernel_regularizer=kernel_regularizer, recurrent_regularizer=recurrent_regularizer, bias_regularizer=bias_regularizer,
                         kernel_constraint=kernel_constraint, recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint,
                         dropout=dropout, recurrent_dropout=recurrent_dropout, seed=seed)


class ConvLSTM3D(ConvLSTM):
    """Over (batch, time, depth, rows, columns, channels)."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1,
                 activation: Any = "tanh", recurrent_activation: Any = "sigmoid", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
                 recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", unit_forget_bias: bool = True,
                 kernel_regularizer: Any = None, recurrent_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, recurrent_constraint: Any = None, bias_constraint: Any = None, dropout: float = 0.0,
                 recurrent_dropout: float = 0.0, seed: int | None = None, return_sequences: bool = False, return_state: bool = False,
                 go_backwards: bool = False, stateful: bool = False, **kwargs: Any):
        super().__init__(3, filters, kernel_size, return_sequences, return_state, go_backwards, stateful, activity_regularizer, kwargs,
                         strides=strides, padding=padding, data_format=data_format, dilation_rate=dilation_rate, activation=activation,
                         recurrent_activation=recurrent_activation, use_bias=use_bias, kernel_initializer=kernel_initializer,
                         recurrent_initializer=recurrent_initializer, bias_initializer=bias_initializer, unit_forget_bias=unit_forget_bias,
                         kernel_regularizer=kernel_regularizer, recurrent_regularizer=recurrent_regularizer, bias_regularizer=bias_regularizer,
                         kernel_constraint=kernel_constraint, recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint,
                         dropout=dropout, recurrent_dropout=recurrent_dropout, seed=seed)
