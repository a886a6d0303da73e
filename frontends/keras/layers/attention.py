"""Attention without projections: Attention (dot products) and AdditiveAttention."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError, ShapeError
from .. import ops, random
from ..layer import Layer
from .arguments import choice, number
from .regularization import check_seed


class Attention(Layer):
    """Dot-product attention of ``[query, value]`` or ``[query, value, key]``, of shapes (batch, Tq, dim), (batch, Tv, dim'), (batch, Tv, dim).

    ``mask``: a list with that of the query (its rows of the result are 0) and that of the value (whose steps take no part).
    ``score_mode="concat"``: the sum of tanh(query + key) in place of the product. Result (batch, Tq, dim').
    """

    def __init__(self, use_scale: bool = False, score_mode: str = "dot", dropout: float = 0.0, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        what = type(self).__name__
        self.use_scale, self.seed = use_scale, check_seed(seed, what)
        self.score_mode = choice(what, "score_mode", score_mode, "dot", "concat")
        self.dropout = number(what, "dropout", dropout, 0, 1)
        if dropout > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self._check_list(input_shape, "input shapes")
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones") if self.use_scale else None
        concat = self.score_mode == "concat"
        self.concat_score_weight = self.add_weight(name="concat_score_weight", shape=(), initializer="ones") if concat else None

    def _check_list(self, inputs: Any, what: str) -> None:
        label = f"{type(self).__name__} '{self.name}'"
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ArgumentError(f"{label} is called on a list [query, value] or [query, value, key]; got "
                                f"{len(inputs) if isinstance(inputs, (list, tuple)) else 'one'} as {what}")

    def _scores(self, query: Any, key: Any) -> Any:
        if query.shape[-1] != key.shape[-1]:
            raise ShapeError(f"{type(self).__name__} '{self.name}': query and key must have as many features, got shapes {query.shape} and {key.shape}")
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else ops.multiply(scores, self.scale)
        sums = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        return self.concat_score_weight * ops.sum(ops.tanh(sums if self.scale is None else self.scale * sums), axis=-1)

    def call(self, inputs: Any, mask: Any = None, training: Any = False, return_attention_scores: bool = False, use_causal_mask: bool = False) -> Any:
        self._check_list(inputs, "inputs")
        if mask is not None:
            self._check_list(mask, "mask")
        query, value = inputs[0], inputs[1]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = (None, None) if mask is None else mask[:2]
        scores = self._scores(query, key)
        allowed = None if value_mask is None else ops.expand_dims(ops.cast(value_mask, "bool"), -2)
        if use_causal_mask:
            below = causal_mask(scores.shape[-2], scores.shape[-1])
            allowed = below if allowed is None else ops.logical_and(allowed, below)
        if allowed is not None:
            scores = ops.where(allowed, scores, scores - (65504.0 if scores.dtype == "float16" else 1e9))
        weights = ops.softmax(scores, axis=-1)
        if training and self.dropout > 0:
            weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
        result = ops.matmul(weights, value)
        if query_mask is not None:
            result = ops.where(ops.expand_dims(ops.cast(query_mask, "bool"), -1), result, 0.0)
        return (result, weights) if return_attention_scores else result

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if isinstance(mask, (list, tuple)) else None

    def get_config(self) -> dict:
        return {**super().get_config(), "use_scale": self.use_scale, "score_mode": self.score_mode, "dropout": self.dropout, "seed": self.seed}


class AdditiveAttention(Attention):
    """Attention by the sum of scale * tanh(query + key) over the features (Bahdanau et al., 2014); ``scale`` has one weight for each."""

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        self._check_list(input_shape, "input shapes")
        features = input_shape[0][-1]
        self.scale = self.add_weight(name="scale", shape=(features,), initializer="glorot_uniform") if self.use_scale else None

    def _scores(self, query: Any, key: Any) -> Any:
        sums = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(sums if self.scale is None else self.scale * sums, axis=-1)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["score_mode"]
        return config


def causal_mask(queries: int, keys: int) -> Any:
    """(1, queries, keys), True where the key is no later than the query."""
    return ops.expand_dims(ops.greater_equal(ops.expand_dims(ops.arange(queries), 1), ops.expand_dims(ops.arange(keys), 0)), 0)


def window_mask(queries: int, keys: int, width: int) -> Any:
    """(1, queries, keys), True where query and key are less than ``width`` steps apart."""
    apart = ops.absolute(ops.expand_dims(ops.arange(queries), 1) - ops.expand_dims(ops.arange(keys), 0))
    return ops.expand_dims(ops.less(apart, width), 0)
