"""The Attention operator (opset 23 on): dot-product attention with grouped heads, a cache of keys and values, masks and windows."""

from __future__ import annotations

import math

from ...compiler import ops
from ...compiler.ir.graph import Node
from ...runtime.dim import Dim, key
from ...runtime.dtype import bool_, int64
from .call import Call
from .registry import operator

_SWAP = (0, 2, 1, 3)


@operator("Attention")
def _attention(call: Call) -> tuple[Node | None, ...] | None:
    """Queries that see no key give zeros. None (the standard's own body is taken) where the scores themselves are wanted."""
    if call.wants(3):
        return None
    flat = call.rank(0) == 3
    q, k, v = (_heads(call, i, attribute) for i, attribute in enumerate(("q_num_heads", "kv_num_heads", "kv_num_heads")))
    past = call.has(4)
    offset: int = 0
    if past:
        offset = call.shape(4)[2]
        k, v = ops.concat([call.node(4), k], 2), ops.concat([call.node(5), v], 2)
    elif call.has(5):
        raise call.invalid("past_value comes without past_key")
    batch, _, queries, depth = q.shape
    keys = k.shape[2]
    bias, mask = _given_mask(call, keys)
    causal = bool(call.attr("is_causal", 0))
    left, right = (call.attr(f"{side}_window_size", -1) for side in ("left", "right"))
    where: Node | int = offset  # of the first query among the keys
    if call.has(6):
        length = ops.reshape(ops.cast(call.node(6), int64), (batch, 1, 1, 1))
        shape = (1, 1, 1, keys)
        mask = _both(mask, ops.lt(ops.iota(shape, 3, int64), length))
        if not past:
            where = ops.sub(length, ops.constant(queries, int64))
    if causal and not isinstance(where, int):
        right, causal = 0 if right < 0 else min(right, 0), False  # a window that ends at the query
    if left >= 0 or right >= 0:
        shape = (1, 1, queries, keys)
        behind = ops.sub(ops.add(ops.iota(shape, 2, int64), where), ops.iota(shape, 3, int64))
        if left >= 0:
            mask = _both(mask, ops.le(behind, left))
        if right >= 0:
            mask = _both(mask, ops.ge(behind, -right))
    if not call.has_attr("scale") and type(depth) is Dim:
        raise call.refuse("needs a fixed depth of its heads, or the attribute scale")
    scale = call.attr("scale") if call.has_attr("scale") else 1 / math.sqrt(depth)
    out = ops.attention(q, k, v, bias, mask, scale, causal, "BHTD", offset, "zero", call.attr("softcap", 0.0))
    out = ops.cast(out, call.dtype(0))
    if flat:
        out = ops.transpose(out, _SWAP)
        out = ops.reshape(out, (*out.shape[:2], out.shape[2] * out.shape[3]))
    return (out, k, v)[: max(1, call.n_outputs)]


def _heads(call: Call, i: int, attribute: str) -> Node:
    """Input ``i`` as (batch, heads, time, depth)."""
    x = call.node(i)
    if x.rank == 4:
        return x
    if x.rank != 3 or not call.has_attr(attribute):
        raise call.invalid(f"input {i} has rank {x.rank}: 4, or 3 with {attribute}, is needed", attribute)
    heads = call.attr(attribute)
    if heads < 1 or (type(x.shape[2]) is not Dim and x.shape[2] % heads):
        raise call.invalid(f"{attribute}={heads} does not divide the {x.shape[2]} features of input {i}", attribute)
    return ops.transpose(ops.reshape(x, (*x.shape[:2], heads, x.shape[2] // heads)), _SWAP)


def _given_mask(call: Call, keys: int) -> tuple[Node | None, Node | None]:
    """(bias, mask): one of them is attn_mask; keys that it does not reach are left out."""
    if not call.has(3):
        return None, None
    given = call.node(3)
    is_mask = given.dtype is bool_
    if key(given.shape[-1]) != key(keys):
        edges = (*[(0, 0)] * (given.rank - 1), (0, keys - given.shape[-1]))
        given = ops.pad(given, edges, False if is_mask else -math.inf)
    return (None, given) if is_mask else (given, None)


def _both(a: Node | None, b: Node) -> Node:
    return b if a is None else ops.logical_and(a, b)
