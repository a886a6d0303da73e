"""Attention with projections: MultiHeadAttention (Vaswani et al., 2017) and GroupQueryAttention (Ainslie et al., 2023)."""

from __future__ import annotations

from string import ascii_lowercase as letters
from typing import Any

from ....compiler import ops as F
from ....runtime.errors import ArgumentError, ShapeError
from .. import constraints, initializers, ops, regularizers
from ..layer import Layer
from ..tensor import Tensor
from .arguments import integer, number, positive
from .attention import causal_mask, window_mask
from .einsum_dense import EinsumDense
from .regularization import Dropout, check_seed


class _Projected(Layer):
    """What both share: projections of query, key, value and result, the masks, the attention between them."""

    _dropout_layer: Dropout

    def __init__(self, dropout: float, use_bias: bool, sliding_window: int | None, flash_attention: bool | None, weights: dict, use_gate: bool,
                 seed: int | None, **kwargs: Any):
        super().__init__(**kwargs)
        what = type(self).__name__
        del flash_attention  # a hint about the computation, whose result is the same
        self._dropout = number(what, "dropout", dropout, 0, 1)
        self._use_bias, self._use_gate, self.seed = use_bias, use_gate, check_seed(seed, what)
        self._sliding_window = None if sliding_window is None else positive(what, "sliding_window", sliding_window)
        self.kernel_initializer, self.bias_initializer = (initializers.get(weights[f"{n}_initializer"]) for n in ("kernel", "bias"))
        self.kernel_regularizer, self.bias_regularizer = (regularizers.get(weights[f"{n}_regularizer"]) for n in ("kernel", "bias"))
        self.kernel_constraint, self.bias_constraint = (constraints.get(weights[f"{n}_constraint"]) for n in ("kernel", "bias"))
        self.projection_regularizer = regularizers.get(weights["activity_regularizer"])
        self.supports_masking = True

    def _projection(self, name: str, rank: int, summed: int, sizes: tuple, activation: Any = None) -> EinsumDense:
        """The dense layer from the last ``summed`` of ``rank`` axes to axes of these sizes."""
        free, inner, made = letters[: rank - summed], letters[rank - summed : rank], letters[rank : rank + len(sizes)]
        return EinsumDense(
            f"{free}{inner},{inner}{made}->{free}{made}", output_shape=(*[None] * (len(free) - 1), *sizes),
            bias_axes=made if self._use_bias else None, activation=activation, name=name, dtype=self.dtype_policy,
            kernel_initializer=_again(self.kernel_initializer), bias_initializer=_again(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer, bias_regularizer=self.bias_regularizer, activity_regularizer=self.projection_regularizer,
            kernel_constraint=self.kernel_constraint, bias_constraint=self.bias_constraint,
        )  # fmt: skip

    def _merged_mask(self, query: Any, value: Any, query_mask: Any, value_mask: Any, key_mask: Any, attention_mask: Any, causal: bool) -> Any:
        """All masks in one that broadcasts to (batch, Tq, Tv), or None; ``causal`` is in it where there are others."""
        parts = [ops.expand_dims(ops.cast(m, "bool"), axis) for m, axis in ((query_mask, -1), (value_mask, -2), (key_mask, -2)) if m is not None]
        if self._sliding_window is not None:
            parts.append(window_mask(query.shape[1], value.shape[1], self._sliding_window))
        if attention_mask is not None:
            parts.append(ops.cast(attention_mask, "bool"))
        if causal and parts:
            parts.append(causal_mask(query.shape[1], value.shape[1]))
        if not parts:
            return None
        whole = parts[0]
        for m in parts[1:]:
            whole = ops.logical_and(whole, m)
        return whole

    def _attend(self, query: Any, key: Any, value: Any, mask: Any, causal: bool, scale: float, training: Any, want_scores: bool) -> tuple[Any, Any]:
        """(result, weights or None) of projected tensors (batch, time, heads, depth); ``mask`` broadcasts to (batch, heads, Tq, Tv)."""
        if not (want_scores or (self._dropout > 0 and training)):
            # A query that sees nothing: with dropout Keras takes the way through the scores, whose weights are then 0.
            empty = "zero" if self._dropout > 0 else "uniform"
            nodes = [x.node for x in (query, key, value)]
            return Tensor(F.attention(*nodes, mask=None if mask is None else mask.node, scale=scale, causal=causal, empty=empty)), None
        repeats = query.shape[2] // key.shape[2]
        if repeats > 1:
            key, value = ops.repeat(key, repeats, axis=2), ops.repeat(value, repeats, axis=2)
        scores = ops.einsum("btnh,bsnh->bnts", ops.multiply(query, scale), key)
        if causal:
            below = ops.expand_dims(causal_mask(query.shape[1], key.shape[1]), 0)
            mask = below if mask is None else ops.logical_and(mask, below)
        weights = self._softmax(scores, mask)
        dropped = self._dropout_layer(weights, training=training) if self._dropout > 0 else weights
        return ops.einsum("bnts,bsnh->btnh", dropped, value), weights

    @staticmethod
    def _softmax(scores: Any, mask: Any, axis: Any = -1) -> Any:
        """As the Softmax layer: what the mask leaves out weighs exactly 0."""
        if mask is None:
            return ops.softmax(scores, axis=axis)
        low = -3e4 if scores.dtype == "float16" else -1e9
        weights = ops.softmax(ops.add(scores, ops.multiply(ops.subtract(1.0, ops.cast(mask, scores.dtype)), low)), axis=axis)
        return ops.multiply(weights, ops.cast(mask, scores.dtype))

    def get_config(self) -> dict:
        return {**super().get_config(), "dropout": self._dropout, "use_bias": self._use_bias, "use_gate": self._use_gate,
                "sliding_window": self._sliding_window, "seed": self.seed, "kernel_initializer": initializers.serialize(self.kernel_initializer),
                "bias_initializer": initializers.serialize(self.bias_initializer),
                "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
                "bias_regularizer": regularizers.serialize(self.bias_regularizer),
                "kernel_constraint": constraints.serialize(self.kernel_constraint),
                "bias_constraint": constraints.serialize(self.bias_constraint)}


class MultiHeadAttention(_Projected):
    """``num_heads`` attentions side by side over query (batch, ..., dim), value and key; the result has the query's shape, or ``output_shape`` last.

    ``attention_axes``: the axes attended over (all but batch and features by default). Masks of query, value and key, ``attention_mask``
    (batch, Tq, Tv), ``use_causal_mask`` and ``sliding_window`` are joined.
    """

    def __init__(self, num_heads: int, key_dim: int, value_dim: int | None = None, dropout: float = 0.0, use_bias: bool = True,
                 output_shape: Any = None, attention_axes: Any = None, sliding_window: int | None = None, flash_attention: bool | None = None,
                 kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
                 bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
                 use_gate: bool = False, seed: int | None = None, **kwargs: Any):
        weights = {"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer, "kernel_regularizer": kernel_regularizer,
                   "bias_regularizer": bias_regularizer, "activity_regularizer": activity_regularizer, "kernel_constraint": kernel_constraint,
                   "bias_constraint": bias_constraint}
        super().__init__(dropout, use_bias, sliding_window, flash_attention, weights, use_gate, seed, **kwargs)
        what = "MultiHeadAttention"
        self._num_heads, self._key_dim = positive(what, "num_heads", num_heads), positive(what, "key_dim", key_dim)
        self._value_dim = self._key_dim if value_dim is None else positive(what, "value_dim", value_dim)
        shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        self._output_shape = None if not shape else tuple([positive(what, "output_shape", n) for n in shape])
        axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        self._attention_axes = None if not axes else tuple([integer(what, "attention_axes", a) for a in axes])

    num_heads = property(lambda self: self._num_heads)
    key_dim = property(lambda self: self._key_dim)
    value_dim = property(lambda self: self._value_dim)
    dropout = property(lambda self: self._dropout)
    use_bias = property(lambda self: self._use_bias)
    attention_axes = property(lambda self: self._attention_axes)
    # The names under which files keep the projections.
    query_dense = property(lambda self: self._query_dense)
    key_dense = property(lambda self: self._key_dense)
    value_dense = property(lambda self: self._value_dense)
    output_dense = property(lambda self: self._output_dense)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        label = f"MultiHeadAttention '{self.name}'"
        if value_shape[1:-1] != key_shape[1:-1]:
            raise ShapeError(f"{label}: value and key must agree but for their features; got shapes {value_shape} and {key_shape}")
        rank = len(query_shape)
        if rank < 3 or len(value_shape) != rank:
            raise ShapeError(f"{label}: query and value need the shape (batch, time, ..., features), both; got {query_shape} and {value_shape}")
        self._query_dense = self._projection("query", rank, 1, (self._num_heads, self._key_dim))
        self._query_dense.build(query_shape)
        self._key_dense = self._projection("key", rank, 1, (self._num_heads, self._key_dim))
        self._key_dense.build(key_shape)
        if self._use_gate:
            self._gate_dense = self._projection("gate", rank, 1, (self._num_heads, self._value_dim), "sigmoid")
            self._gate_dense.build(query_shape)
        self._value_dense = self._projection("value", rank, 1, (self._num_heads, self._value_dim))
        self._value_dense.build(value_shape)
        if self._attention_axes is None:
            self._attention_axes = tuple(range(1, rank - 1))
        else:
            self._attention_axes = tuple([a if a >= 0 else rank + a for a in self._attention_axes])
        if any(not 1 <= a < rank - 1 for a in self._attention_axes):
            raise ArgumentError(f"{label}: attention_axes={self._attention_axes} must lie between the batch axis and the features of {query_shape}")
        self._dropout_layer = Dropout(self._dropout, seed=self.seed, dtype=self.dtype_policy)
        self._output_dense = self._projection("attention_output", rank + 1, 2, self._output_shape or (query_shape[-1],))
        self._output_dense.build((*query_shape[:-1], self._num_heads, self._value_dim))

    def call(self, query: Any, value: Any, key: Any = None, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None,
             attention_mask: Any = None, return_attention_scores: bool = False, training: Any = None, use_causal_mask: bool = False) -> Any:
        key = value if key is None else key
        mask = self._merged_mask(query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask)
        gate = self._gate_dense(query) if self._use_gate else None
        q, k, v = self._query_dense(query), self._key_dense(key), self._value_dense(value)
        scale = 1.0 / float(self._key_dim) ** 0.5
        if len(q.shape) == 4 and self._attention_axes == (1,):
            while mask is not None and len(mask.shape) < 4:
                mask = ops.expand_dims(mask, -3)
            result, weights = self._attend(q, k, v, mask, use_causal_mask and mask is None, scale, training, return_attention_scores)
        else:
            if use_causal_mask and mask is None:
                mask = causal_mask(query.shape[1], value.shape[1])
            result, weights = self._attend_axes(q, k, v, mask, scale, training)
        result = self._output_dense(result if gate is None else ops.multiply(result, gate))
        if query_mask is not None:
            result._keras_mask = query_mask
        return (result, weights) if return_attention_scores else result

    def _attend_axes(self, query: Any, key: Any, value: Any, mask: Any, scale: float, training: Any) -> tuple[Any, Any]:
        """Attention over any axes of projected tensors (batch, ..., heads, depth)."""
        rank, axes = len(query.shape), self._attention_axes
        target = letters[:rank]
        other = iter(letters[rank:])
        source = "".join([next(other) if i in axes else c for i, c in enumerate(target)])
        batch = "".join([c for i, c in enumerate(target) if i not in axes and i != rank - 1])
        product = batch + "".join([target[i] for i in axes]) + "".join([source[i] for i in axes])
        scores = ops.einsum(f"{source},{target}->{product}", key, ops.multiply(query, scale))
        while mask is not None and len(mask.shape) < len(scores.shape):
            mask = ops.expand_dims(mask, -2 * len(axes) - 1)
        weights = self._softmax(scores, mask, tuple(range(len(product) - len(axes), len(product))))
        dropped = self._dropout_layer(weights, training=training) if self._dropout > 0 else weights
        return ops.einsum(f"{product},{source}->{target}", dropped, value), weights

    def get_config(self) -> dict:
        return {**super().get_config(), "num_heads": self._num_heads, "key_dim": self._key_dim, "value_dim": self._value_dim,
                "output_shape": self._output_shape, "attention_axes": self._attention_axes,
                "activity_regularizer": regularizers.serialize(self.projection_regularizer)}


class GroupedQueryAttention(_Projected):
    """Attention in which every key and value head serves ``num_query_heads / num_key_value_heads`` query heads, over (batch, time, features)."""

    keras_name = "GroupQueryAttention"  # what Keras exports it as, and writes into files

    def __init__(self, head_dim: int, num_query_heads: int, num_key_value_heads: int, dropout: float = 0.0, use_bias: bool = True,
                 sliding_window: int | None = None, flash_attention: bool | None = None, kernel_initializer: Any = "glorot_uniform",
                 bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, use_gate: bool = False, seed: int | None = None, **kwargs: Any):
        weights = {"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer, "kernel_regularizer": kernel_regularizer,
                   "bias_regularizer": bias_regularizer, "activity_regularizer": activity_regularizer, "kernel_constraint": kernel_constraint,
                   "bias_constraint": bias_constraint}
        super().__init__(dropout, use_bias, sliding_window, flash_attention, weights, use_gate, seed, activity_regularizer=activity_regularizer,
                         **kwargs)
        what = "GroupQueryAttention"
        self.head_dim = positive(what, "head_dim", head_dim)
        self.num_query_heads = positive(what, "num_query_heads", num_query_heads)
        self.num_key_value_heads = positive(what, "num_key_value_heads", num_key_value_heads)
        if self.num_query_heads % self.num_key_value_heads:
            raise ArgumentError(f"{what}: num_query_heads={num_query_heads} is no multiple of num_key_value_heads={num_key_value_heads}")

    dropout = property(lambda self: self._dropout)
    use_bias = property(lambda self: self._use_bias)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        key_shape = value_shape if key_shape is None else key_shape
        if any(len(s) != 3 for s in (query_shape, value_shape, key_shape)):
            raise ShapeError(f"GroupQueryAttention '{self.name}': query, value and key need the shape (batch, time, features); got {query_shape}, "
                             f"{value_shape}, {key_shape}")
        many, few = (self.num_query_heads, self.head_dim), (self.num_key_value_heads, self.head_dim)
        self._query_dense = self._projection("query", 3, 1, many)
        self._query_dense.build(query_shape)
        self._key_dense = self._projection("key", 3, 1, few)
        self._key_dense.build(key_shape)
        if self._use_gate:
            self._gate_dense = self._projection("gate", 3, 1, many, "sigmoid")
            self._gate_dense.build(query_shape)
        self._value_dense = self._projection("value", 3, 1, few)
        self._value_dense.build(value_shape)
        self._dropout_layer = Dropout(self._dropout, seed=self.seed, dtype=self.dtype_policy)
        self._output_dense = self._projection("attention_output", 4, 2, (query_shape[-1],))
        self._output_dense.build((None, None, *many))

    def call(self, query: Any, value: Any, key: Any = None, query_mask: Any = None, value_mask: Any = None, key_mask: Any = None,
             attention_mask: Any = None, return_attention_scores: bool = False, training: Any = None, use_causal_mask: bool = False) -> Any:
        key = value if key is None else key
        mask = self._merged_mask(query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask)
        while mask is not None and len(mask.shape) < 4:
            mask = ops.expand_dims(mask, -3)
        gate = self._gate_dense(query) if self._use_gate else None
        q, k, v = self._query_dense(query), self._key_dense(key), self._value_dense(value)
        result, weights = self._attend(q, k, v, mask, use_causal_mask and mask is None, 1.0 / float(self.head_dim) ** 0.5, training,
                                       return_attention_scores)
        result = self._output_dense(result if gate is None else ops.multiply(result, gate))
        return (result, weights) if return_attention_scores else result

    def get_config(self) -> dict:
        return {**super().get_config(), "head_dim": self.head_dim, "num_query_heads": self.num_query_heads,
                "num_key_value_heads": self.num_key_value_heads,
                "activity_regularizer": regularizers.serialize(self.activity_regularizer)}


def _again(initializer: Any) -> Any:
    """A fresh initializer of the same configuration: one instance with a seed would give all projections the same values."""
    return type(initializer).from_config(initializer.get_config()) if hasattr(initializer, "get_config") else initializer


GroupQueryAttention = GroupedQueryAttention
