"""Scaled dot-product attention: softmax(scale q k^T + bias, masked) v, and its derivative, each one op that targets claim whole.

The derivative is an op of its own, so that a training step over a claimed attention never stores the scores: it is computed from q, k, v and
the cotangent alone (Dao et al., FlashAttention, 2022, section 3: the scores are recomputed tile by tile).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...runtime.dim import Dim, key, text
from ...runtime.dtype import as_dtype, bool_, float32, float64, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node, leaf
from ..ir.types import TensorType, TupleType, items_of
from ..kernel.attention import MASKED, Attend, AttendGrad, AttendKeyGrad, AttendQueryGrad
from ..kernel.ir import Buffer
from . import functional as f
from .base import BadSample, Composite, Sample, is_one, shape_text

LAYOUTS = ("BTHD", "BHTD")


@dataclass(frozen=True)
class Sizes:
    """The sizes of an attention: ``heads`` of the queries, ``groups`` of keys and values (heads is a multiple), ``depth`` of a query,
    ``width`` of a value."""

    batch: int
    queries: int
    keys: int
    heads: int
    groups: int
    depth: int
    width: int

    @property
    def scores(self) -> tuple[int, int, int, int]:
        return (self.batch, self.heads, self.queries, self.keys)


def _parts(t: TensorType, layout: str) -> tuple[int, int, int, int]:
    """(batch, time, heads, depth) of an operand."""
    b, x, y, d = t.shape
    return (b, x, y, d) if layout == "BTHD" else (b, y, x, d)


def _arranged(layout: str, batch: int, time: int, heads: int, depth: int) -> tuple[int, ...]:
    return (batch, time, heads, depth) if layout == "BTHD" else (batch, heads, time, depth)


@dataclass(frozen=True, eq=False)
class _Attention(Composite):
    """What the op and its derivatives share. Operands: q, k, v, then the bias (of q's type) and the mask (bool: which scores count) where there
    are such; both have rank 4 and broadcast to [batch, heads, queries, keys].

    ``causal``: query t sees keys up to t + ``offset``. ``soft_cap`` c > 0: scores become c tanh(score / c) before bias and mask.
    ``empty``: what a query without any key to see gives: "uniform" (masked scores are a large negative number, so all keys count alike; Keras and JAX) or
    "zero" (they are -inf, and the row is zeros; ONNX). ``layouts``: of q, k, v and the result.
    """

    scale: float
    causal: bool = False
    offset: int = 0
    empty: str = "uniform"
    soft_cap: float = 0.0
    bias: bool = False
    mask: bool = False
    layouts: tuple[str, ...] = ("BTHD",) * 4

    kind = ""

    @property
    def operands(self) -> int:
        return 3 + self.bias + self.mask

    def sizes(self, types: Sequence[TensorType]) -> Sizes:
        """The sizes, where the types fit each other; raises ShapeError and DTypeError."""
        if len(self.layouts) != 4 or any(layout not in LAYOUTS for layout in self.layouts) or self.empty not in ("uniform", "zero"):
            raise ArgumentError(f"{self.name}: layouts are four of {', '.join(LAYOUTS)}, and empty is uniform or zero, got {self}")
        if len(types) < self.operands:
            raise ArgumentError(f"{self.name} takes {self.operands} operands, got {len(types)}")
        q, k, v = types[:3]
        for what, t in zip(("queries", "keys", "values"), (q, k, v)):
            if t.rank != 4:
                raise ShapeError(f"{self.name}: {what} need rank 4, got {t}")
            if not t.dtype.is_float or t.dtype is not q.dtype:
                raise DTypeError(f"{self.name} needs queries, keys and values of one floating type, got {q}, {k} and {v}")
        batch, queries, heads, depth = _parts(q, self.layouts[0])
        batch_k, keys, groups, depth_k = _parts(k, self.layouts[1])
        batch_v, keys_v, groups_v, width = _parts(v, self.layouts[2])
        if batch != batch_k or batch != batch_v or depth != depth_k or keys != keys_v or groups != groups_v:
            raise ShapeError(f"{self.name}: queries {q}, keys {k} and values {v} ({self.layouts[0]}, {self.layouts[1]}, {self.layouts[2]})"
                             " need one batch, keys and values one length and number of heads, queries and keys one depth")
        if groups != heads and (groups == 0 or heads % groups):
            raise ShapeError(f"{self.name}: {text(heads)} heads of queries are no multiple of {text(groups)} heads of keys")
        out = Sizes(batch, queries, keys, heads, groups, depth, width)
        for what, t in zip([n for n, on in (("bias", self.bias), ("mask", self.mask)) if on], types[3:]):
            wanted = bool_ if what == "mask" else q.dtype
            if t.dtype is not wanted:
                raise DTypeError(f"{self.name}: the {what} needs type {wanted}, got {t}")
            if t.rank != 4 or any(not is_one(n) and n != m for n, m in zip(t.shape, out.scores)):
                raise ShapeError(f"{self.name}: the {what} {t} does not broadcast to {shape_text(out.scores)}")
        return out

    def flops(self, node: Node) -> int:
        s = self.sizes([i.type for i in node.inputs])
        whole = s.batch * s.heads * s.queries * s.keys * (2 * s.depth + 2 * s.width)
        return whole // 2 if self.causal else whole

    # -- whole

    def has_routine(self, node: Node) -> bool:
        """Depths are a matter of the code's text."""
        s = self.sizes([i.type for i in node.inputs])
        return all(type(n) is not Dim and n > 0 for n in (s.depth, s.width))

    def _routine(self, cls: type[Attend], name: str, node: Node, results: Sequence[str]) -> Attend:
        types = [i.type for i in node.inputs]
        s = self.sizes(types)
        names = ["q", "k", "v", *["bias"] * self.bias, *["mask"] * self.mask, *["ct", "top", "inverse", "delta"][: len(types) - self.operands]]
        buffers = [Buffer(n, t.shape, t.dtype) for n, t in zip((*names, *results), (*types, *items_of(node.type)))]
        extra = [tuple([not is_one(n) for n in t.shape]) for t in types[3 : self.operands]]
        return cls(
            name, tuple(buffers), len(results), (s.batch, s.queries, s.keys, s.heads, s.groups, self.offset),
            depth=s.depth, width=s.width, scale=self.scale, causal=self.causal, sees=type(self.offset) is not Dim and self.offset >= 0,
            empty=self.empty, soft_cap=self.soft_cap, bias=extra[0] if self.bias else None, mask=extra[-1] if self.mask else None, layouts=self.layouts)

    # -- as ops: scores of shape [batch, groups, heads per group, queries, keys] are never transposed

    def _letters(self, i: int) -> str:
        """The einsum letters of operand i (3: the result): b batch, g group, h head of the group, t query, s key, d depth, e width."""
        time, head, depth = (("t", "gh", "d"), ("s", "g", "d"), ("s", "g", "e"), ("t", "gh", "e"))[i]
        return f"b{time}{head}{depth}" if self.layouts[i] == "BTHD" else f"b{head}{time}{depth}"

    def _split(self, x: Node, i: int, s: Sizes) -> Node:
        """Queries (or what has the result's shape) with heads split into groups."""
        b, t, _, d = _parts(x.type, self.layouts[i])
        per = 1 if key(s.groups) == key(s.heads) else s.heads // s.groups
        return f.reshape(x, (b, t, s.groups, per, d) if self.layouts[i] == "BTHD" else (b, s.groups, per, t, d))

    def _join(self, x: Node, i: int, s: Sizes) -> Node:
        depth = s.depth if i == 0 else s.width
        return f.reshape(x, _arranged(self.layouts[i], s.batch, s.queries, s.heads, depth))

    def _grouped(self, x: Node, s: Sizes) -> Node:
        """A bias or mask, [batch or 1, heads or 1, ...], over groups and their heads."""
        b, h, t, k = x.shape
        per = 1 if key(s.groups) == key(s.heads) else s.heads // s.groups
        return f.reshape(x, (b, 1, 1, t, k) if is_one(h) else (b, s.groups, per, t, k))

    def _allowed(self, inputs: Sequence[Node], s: Sizes) -> Node | None:
        """Which scores count; None where all do."""
        allowed = self._grouped(inputs[3 + self.bias], s) if self.mask else None
        if self.causal:
            shape = (1, 1, 1, s.queries, s.keys)
            seen = f.le(f.iota(shape, 4), f.add(f.iota(shape, 3), self.offset))
            allowed = seen if allowed is None else f.logical_and(allowed, seen)
        return allowed

    def probabilities(self, inputs: Sequence[Node]) -> tuple[Node, Node | None, Node | None]:
        """(softmax of the scores, which of them count, the slope of the soft cap), over [batch, group, head, query, key], in float32 or wider."""
        x, allowed, slope = self.scores(inputs)
        top = f.max_(x, 4, True)
        e = f.exp(f.sub(x, f.where(f.eq(top, -math.inf), 0.0, top)))
        return f.div(e, f.maximum(f.sum_(e, 4, True), 1e-30)), allowed, slope  # a row of -inf alone sums to 0, any other to 1 at least

    def scores(self, inputs: Sequence[Node]) -> tuple[Node, Node | None, Node | None]:
        """As ``probabilities``, before the softmax."""
        s = self.sizes([i.type for i in inputs])
        q, k = self._split(_wide(inputs[0]), 0, s), _wide(inputs[1])
        x = f.mul(f.einsum(f"{self._letters(0)},{self._letters(1)}->bghts", q, k), self.scale)
        slope = None
        if self.soft_cap:
            bent = f.tanh(f.div(x, self.soft_cap))
            x, slope = f.mul(bent, self.soft_cap), f.sub(1.0, f.square(bent))
        if self.bias:
            x = f.add(x, self._grouped(_wide(inputs[3]), s))
        allowed = self._allowed(inputs, s)
        if allowed is not None:
            x = f.where(allowed, x, MASKED if self.empty == "uniform" else -math.inf)
        return x, allowed, slope

    def score_gradient(self, inputs: Sequence[Node], ct: Node, p: Node, allowed: Node | None) -> Node:
        """The cotangent of the scores after the soft cap: p (dp - <p, dp>), where dp is that of the probabilities."""
        dp = self.probability_gradient(inputs, ct)
        ds = f.mul(p, f.sub(dp, f.sum_(f.mul(p, dp), 4, True)))
        return ds if allowed is None else f.where(allowed, ds, 0.0)  # a row that nothing counts in has probabilities, but no slope

    def probability_gradient(self, inputs: Sequence[Node], ct: Node) -> Node:
        ct = self._split(_wide(ct), 3, self.sizes([i.type for i in inputs]))
        return f.einsum(f"{self._letters(3)},{self._letters(2)}->bghts", ct, _wide(inputs[2]))

    # -- in NumPy

    def _arrays(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """q, k, v as [batch, heads, time, depth] in float64, keys and values repeated for every head."""
        q, k, v = (x.astype(np.float64) if lay == "BHTD" else x.astype(np.float64).transpose(0, 2, 1, 3) for x, lay in zip(arrays[:3], self.layouts))
        if q.shape[1] != k.shape[1]:
            k, v = (np.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
        return q, k, v

    def _softmax(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(probabilities, which scores count, the soft cap's slope) in float64."""
        q, k, _ = self._arrays(arrays)
        scores = self.scale * np.matmul(q, np.swapaxes(k, 2, 3))
        slope = np.ones_like(scores)
        if self.soft_cap:
            slope = 1 - np.tanh(scores / self.soft_cap) ** 2
            scores = self.soft_cap * np.tanh(scores / self.soft_cap)
        if self.bias:
            scores = scores + arrays[3].astype(np.float64)
        t, s = scores.shape[2:]
        allowed = np.ones(scores.shape, bool)
        if self.mask:
            allowed &= arrays[3 + self.bias]
        if self.causal:
            allowed &= np.arange(s) <= np.arange(t)[:, None] + int(self.offset)
        p = np.zeros(scores.shape)
        if s:
            scores = np.where(allowed, scores, MASKED if self.empty == "uniform" else -np.inf)
            seen = ~np.isneginf(scores.max(-1, keepdims=True)) & np.ones(scores.shape, bool)
            with np.errstate(invalid="ignore"):
                e = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0)
            p = e / np.where(e.sum(-1, keepdims=True) == 0, 1, e.sum(-1, keepdims=True))
        return p, allowed, slope

    def _score_gradient(self, arrays: Sequence[np.ndarray], p: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        ct = self._cotangent(arrays)
        dp = np.matmul(ct, np.swapaxes(self._arrays(arrays)[2], 2, 3))
        return np.where(allowed, p * (dp - (p * dp).sum(-1, keepdims=True)), 0)

    def _cotangent(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        ct = arrays[self.operands].astype(np.float64)
        return ct if self.layouts[3] == "BHTD" else ct.transpose(0, 2, 1, 3)

    def back_in(self, x: np.ndarray, i: int, dtype: Any, groups: int | None = None) -> np.ndarray:
        """[batch, heads, time, depth] in the layout of operand i; summed over the heads of each group."""
        if groups is not None and groups != x.shape[1]:
            b, h, t, d = x.shape
            x = x.reshape(b, groups, h // groups, t, d).sum(2)
        return np.ascontiguousarray(x if self.layouts[i] == "BHTD" else x.transpose(0, 2, 1, 3)).astype(dtype)


def _wide(x: Node) -> Node:
    """16-bit floats in float32: scores and probabilities are never rounded to 16 bits."""
    return f.cast(x, float32) if x.dtype.itemsize == 2 else x


@dataclass(frozen=True, eq=False)
class Attention(_Attention):
    """softmax(scale q k^T + bias where the mask holds) v, of q's type and in ``layouts[3]``."""

    kind = "composite"

    def infer(self, *types: TensorType) -> TensorType:
        s = self.sizes(types)
        return TensorType(_arranged(self.layouts[3], s.batch, s.queries, s.heads, s.width), types[0].dtype)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return self.back_in(np.matmul(self._softmax(arrays)[0], self._arrays(arrays)[2]), 3, arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        p = self.probabilities(inputs)[0]
        out = f.einsum(f"bghts,{self._letters(2)}->{self._letters(3)}", p, _wide(inputs[2]))
        return f.cast(self._join(out, 3, self.sizes([i.type for i in inputs])), inputs[0].dtype)

    def routine(self, node: Node) -> Attend:
        return self._routine(Attend, "attention", node, ["out"])

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        from .result import results

        fields = {x.name: getattr(self, x.name) for x in dataclasses.fields(self)}
        out: list[Node | None] = list(results(f.node(AttentionGrad(**fields), *node.inputs, ct)))
        if self.bias:
            bias = node.inputs[3]
            axes = tuple([i for i, n in enumerate(bias.shape) if is_one(n)])
            whole = f.node(AttentionScoreGrad(**fields), *node.inputs, ct)
            out.append(f.cast(f.reshape(f.sum_(whole, axes, True), bias.shape), bias.dtype))
        return (*out, *([None] if self.mask else []))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(op, arrays, smooth, tags) for op, arrays, smooth, tags in _cases(cls, rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad(cls, 0)


@dataclass(frozen=True, eq=False)
class AttentionGrad(_Attention):
    """The cotangents of q, k and v, in their layouts, for that of the result (the last operand)."""

    kind = "composite"

    def infer(self, *types: TensorType) -> TupleType:
        _check_cotangent(self, types)
        return TupleType(tuple(types[:3]))

    def eval(self, *arrays: np.ndarray) -> Any:
        q, k, _ = self._arrays(arrays)
        p, allowed, slope = self._softmax(arrays)
        ds = self.scale * slope * self._score_gradient(arrays, p, allowed)
        groups = arrays[1].shape[2 if self.layouts[1] == "BTHD" else 1]
        return (
            self.back_in(np.matmul(ds, k), 0, arrays[0].dtype),
            self.back_in(np.matmul(np.swapaxes(ds, 2, 3), q), 1, arrays[1].dtype, groups),
            self.back_in(np.matmul(np.swapaxes(p, 2, 3), self._cotangent(arrays)), 2, arrays[2].dtype, groups),
        )

    def decompose(self, *inputs: Node) -> Any:
        s = self.sizes([i.type for i in inputs])
        ct = inputs[self.operands]
        p, allowed, slope = self.probabilities(inputs)  # the forward's own nodes, where it is decomposed too
        ds = self.score_gradient(inputs, ct, p, allowed)
        ds = f.mul(ds if slope is None else f.mul(ds, slope), self.scale)
        dq = self._join(f.einsum(f"bghts,{self._letters(1)}->{self._letters(0)}", ds, _wide(inputs[1])), 0, s)
        dk = f.einsum(f"bghts,{self._letters(0)}->{self._letters(1)}", ds, self._split(_wide(inputs[0]), 0, s))
        dv = f.einsum(f"bghts,{self._letters(3)}->{self._letters(2)}", p, self._split(_wide(ct), 3, s))
        return tuple([f.cast(x, i.dtype) for x, i in zip((dq, dk, dv), inputs)])

    def has_routine(self, node: Node) -> bool:
        return not self.soft_cap and super().has_routine(node)  # the template keeps no scores from before the soft cap

    def routine(self, node: Node) -> Attend:
        return self._routine(AttendGrad, "attention_grad", node, ["dq", "dk", "dv"])

    def flops(self, node: Node) -> int:
        return super().flops(node) * 5 // 2

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(op, (*arrays, _like(op, arrays, rng)), smooth, tags) for op, arrays, smooth, tags in _cases(cls, rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad(cls, 1)


@dataclass(frozen=True, eq=False)
class AttentionQueryGrad(_Attention):
    """The half of ``AttentionGrad`` whose sums are over keys, for targets that compute it in two steps: dq, and for each query of each head, in
    float32 or wider, its largest score (0 where all are -inf), the reciprocal of its sum of exponentials (negative where no score of it has a
    cotangent) and its sum of probabilities times their cotangents."""

    kind = "composite"

    def infer(self, *types: TensorType) -> TupleType:
        _check_cotangent(self, types)
        s = self.sizes(types)
        rows = TensorType((s.batch, s.heads, s.queries), _wide_type(types[0]))
        return TupleType((types[0], rows, rows, rows))

    def eval(self, *arrays: np.ndarray) -> Any:
        return self.routine(_placed(self, arrays)).compute(*arrays)

    def decompose(self, *inputs: Node) -> Any:
        s = self.sizes([i.type for i in inputs])
        x, allowed, _ = self.scores(inputs)
        top = f.max_(x, 4, True)
        top = f.where(f.eq(top, -math.inf), 0.0, top)
        e = f.exp(f.sub(x, top))
        total = f.sum_(e, 4, True)
        inverse = f.where(f.eq(total, 0.0), 0.0, f.div(1.0, total))
        p = f.mul(e, inverse)
        dp = self.probability_gradient(inputs, inputs[self.operands])
        delta = f.sum_(f.mul(p, dp), 4, True)
        ds = f.mul(p, f.sub(dp, delta))
        if allowed is not None:
            ds = f.where(allowed, ds, 0.0)
            inverse = f.where(f.any_(f.broadcast_to(allowed, x.shape), 4, True), inverse, f.neg(inverse))
        dq = self._join(f.einsum(f"bghts,{self._letters(1)}->{self._letters(0)}", f.mul(ds, self.scale), _wide(inputs[1])), 0, s)
        return (f.cast(dq, inputs[0].dtype), *[f.reshape(r, (s.batch, s.heads, s.queries)) for r in (top, inverse, delta)])

    def has_routine(self, node: Node) -> bool:
        return not self.soft_cap and super().has_routine(node)

    def routine(self, node: Node) -> Attend:
        return self._routine(AttendQueryGrad, "attention_query_grad", node, ["dq", "top", "inverse", "delta"])

    def flops(self, node: Node) -> int:
        return super().flops(node) * 5 // 2

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(op, (*arrays, _like(op, arrays, rng)), False, tags) for op, arrays, _, tags in _cases(cls, rng) if not op.soft_cap]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad(cls, 1)


@dataclass(frozen=True, eq=False)
class AttentionKeyGrad(_Attention):
    """The half of ``AttentionGrad`` whose sums are over queries: dk and dv, from the operands, the cotangent, and what ``AttentionQueryGrad`` gives
    beside dq."""

    kind = "composite"

    def infer(self, *types: TensorType) -> TupleType:
        _check_cotangent(self, types[:-3])
        s = self.sizes(types)
        rows = TensorType((s.batch, s.heads, s.queries), _wide_type(types[0]))
        if any(not t.same(rows) for t in types[-3:]):
            raise ShapeError(f"{self.name}: the last three operands are of type {rows}, got {types[-3:]}")
        return TupleType(tuple(types[1:3]))

    def eval(self, *arrays: np.ndarray) -> Any:
        return self.routine(_placed(self, arrays)).compute(*arrays)

    def decompose(self, *inputs: Node) -> Any:
        s = self.sizes([i.type for i in inputs])
        ct, *rows = inputs[self.operands :]
        per = s.heads if key(s.groups) != key(s.heads) else s.groups
        top, inverse, delta = (f.reshape(r, (s.batch, s.groups, 1 if per is s.groups else per // s.groups, s.queries, 1)) for r in rows)
        p = f.mul(f.exp(f.sub(self.scores(inputs)[0], top)), f.abs_(inverse))
        ds = f.mul(p, f.sub(self.probability_gradient(inputs, ct), delta))
        ds = f.mul(f.where(f.lt(inverse, 0.0), 0.0, ds), self.scale)
        dk = f.einsum(f"bghts,{self._letters(0)}->{self._letters(1)}", ds, self._split(_wide(inputs[0]), 0, s))
        dv = f.einsum(f"bghts,{self._letters(3)}->{self._letters(2)}", p, self._split(_wide(ct), 3, s))
        return f.cast(dk, inputs[1].dtype), f.cast(dv, inputs[2].dtype)

    def has_routine(self, node: Node) -> bool:
        return not self.soft_cap and super().has_routine(node)

    def routine(self, node: Node) -> Attend:
        return self._routine(AttendKeyGrad, "attention_key_grad", node, ["dk", "dv"])

    def flops(self, node: Node) -> int:
        return super().flops(node) * 2

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for op, arrays, _, tags in _cases(cls, rng):
            if not op.soft_cap:
                given = (*arrays, _like(op, arrays, rng))
                first = AttentionQueryGrad(**{x.name: getattr(op, x.name) for x in dataclasses.fields(op)})
                out.append(Sample(op, (*given, *first.eval(*given)[1:]), False, tags))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        q, k = TensorType((2, 3, 4, 5), float32), TensorType((2, 7, 2, 5), float32)
        rows = TensorType((2, 4, 3), float32)
        return [BadSample(cls(1.0), (q, k, k, q, rows, rows, rows.with_shape((2, 4, 5))), ShapeError, "the last three operands are of type"),
                BadSample(cls(1.0), (q, k, k.with_shape((2, 6, 2, 5)), q, rows, rows, rows), ShapeError, "need one batch")]


def _wide_type(t: TensorType) -> Any:
    return float64 if t.dtype is float64 else float32


def _placed(op: _Attention, arrays: Sequence[np.ndarray]) -> Node:
    """The node over inputs of the arrays' types."""
    return f.node(op, *[leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype))) for i, a in enumerate(arrays)])


@dataclass(frozen=True, eq=False)
class AttentionScoreGrad(_Attention):
    """The cotangent of the scores after the soft cap (which is the bias's), [batch, heads, queries, keys] in float32 or wider: wanted only where a bias is
    learned, and stored because it is as large as the bias."""

    kind = "composite"

    def infer(self, *types: TensorType) -> TensorType:
        _check_cotangent(self, types)
        return TensorType(self.sizes(types).scores, float64 if types[0].dtype is float64 else float32)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        p, allowed, _ = self._softmax(arrays)
        return self._score_gradient(arrays, p, allowed).astype(np.float64 if arrays[0].dtype == np.float64 else np.float32)

    def decompose(self, *inputs: Node) -> Node:
        p, allowed, _ = self.probabilities(inputs)
        return f.reshape(self.score_gradient(inputs, inputs[self.operands], p, allowed), self.sizes([i.type for i in inputs]).scores)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(op, (*arrays, _like(op, arrays, rng)), smooth, tags) for op, arrays, smooth, tags in _cases(cls, rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return _bad(cls, 1)


def _check_cotangent(op: _Attention, types: Sequence[TensorType]) -> None:
    s = op.sizes(types)
    wanted = TensorType(_arranged(op.layouts[3], s.batch, s.queries, s.heads, s.width), types[0].dtype)
    if len(types) != op.operands + 1 or not types[-1].same(wanted):
        raise ShapeError(f"{op.name}: the cotangent's type is {wanted}, got {types[-1]}")


def _like(op: _Attention, arrays: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    s = op.sizes([TensorType(a.shape, as_dtype(a.dtype)) for a in arrays])
    return rng.standard_normal(_arranged(op.layouts[3], s.batch, s.queries, s.heads, s.width)).astype(arrays[0].dtype)


def _cases(cls: type[_Attention], rng: np.random.Generator) -> list[tuple]:
    """(op, arrays, smooth, tags) of every form: shapes are batch, queries, keys, heads, groups, depth, width."""

    def draw(shape: tuple[int, ...], bias: tuple[int, ...] = (), mask: tuple[int, ...] = (), dtype: str = "float32", smooth: bool = True,
             tag: str = "odd", **fields: Any) -> tuple:
        b, t, s, h, g, d, e = shape
        op = cls(d**-0.5 if d else 1.0, bias=bool(bias), mask=bool(mask), **fields)
        form = [rng.standard_normal(_arranged(lay, *x)) for lay, x in zip(op.layouts, ((b, t, h, d), (b, s, g, d), (b, s, g, e)))]
        if bias:
            form.append(rng.standard_normal(bias))
        arrays = [x.astype(as_dtype(dtype).np) for x in form]
        if mask:
            arrays.append(rng.random(mask) < 0.7)
        return op, tuple(arrays), smooth, (tag,)

    heads_first = ("BHTD",) * 4
    return [
        draw((2, 3, 5, 2, 2, 3, 3)),
        draw((1, 5, 5, 2, 1, 3, 2), causal=True),
        draw((2, 3, 4, 4, 2, 3, 5), bias=(1, 4, 3, 4), tag="broadcast"),
        draw((2, 3, 7, 2, 2, 2, 3), mask=(2, 1, 1, 7), layouts=heads_first, tag="broadcast"),
        draw((1, 3, 5, 2, 2, 3, 3), bias=(1, 1, 1, 5), mask=(1, 2, 3, 5), causal=True, offset=2, empty="zero", soft_cap=2.0),
        draw((1, 4, 3, 1, 1, 2, 2), mask=(1, 1, 4, 3), causal=True, offset=-2, empty="uniform", smooth=False),
        draw((1, 4, 3, 1, 1, 2, 2), mask=(1, 1, 4, 3), causal=True, offset=-2, empty="zero", smooth=False),
        draw((1, 1, 1, 1, 1, 1, 1), tag="size1"),
        draw((0, 2, 3, 1, 1, 2, 2), tag="size0"),
        draw((1, 2, 0, 1, 1, 2, 2), tag="size0"),
        draw((1, 19, 37, 2, 1, 17, 9), bias=(1, 2, 19, 37), mask=(1, 1, 19, 37), layouts=("BTHD", "BHTD", "BHTD", "BTHD"), empty="zero"),
        draw((1, 3, 6, 2, 2, 4, 4), dtype="bfloat16", bias=(1, 2, 3, 6), smooth=False),
        draw((1, 3, 6, 2, 2, 4, 4), dtype="float16", causal=True, smooth=False),
        draw((1, 3, 6, 2, 2, 4, 4), dtype="float64", causal=True),
    ]


def _bad(cls: type[_Attention], cotangents: int) -> list[BadSample]:
    q, k = TensorType((2, 3, 4, 5), float32), TensorType((2, 7, 2, 5), float32)
    more = (q,) * cotangents
    return [
        BadSample(cls(1.0), (q, k, k.with_shape((2, 6, 2, 5)), *more), ShapeError, "need one batch, keys and values one length"),
        BadSample(cls(1.0), (q, k.with_shape((2, 7, 3, 5)), k.with_shape((2, 7, 3, 5)), *more), ShapeError, "4 heads of queries are no multiple of 3"),
        BadSample(cls(1.0), (q, k.with_dtype(float64), k, *more), DTypeError, "one floating type"),
        BadSample(cls(1.0, mask=True), (q, k, k, TensorType((1, 1, 1, 6), bool_), *more), ShapeError, "mask bool.* does not broadcast"),
        BadSample(cls(1.0, bias=True), (q, k, k, TensorType((1, 1, 1, 7), int32), *more), DTypeError, "bias needs type float32"),
    ]


def attention(q, k, v, bias=None, mask=None, scale: float | None = None, causal: bool = False, layout: str = "BTHD", offset: int = 0,
              empty: str = "uniform", soft_cap: float = 0.0) -> Node:
    """Scaled dot-product attention: softmax(scale q k^T + bias, masked) v.

    q [batch, queries, heads, depth], k [batch, keys, groups, depth], v [batch, keys, groups, width], or heads before time where
    ``layout`` is "BHTD"; heads is a multiple of groups. Result as q, with v's width. ``bias`` (added to the scores) and ``mask`` (bool: True where a key counts; other
    numbers: where not 0) broadcast to [batch, heads, queries, keys] (axes are added in front). ``scale``: 1 / sqrt(depth) by default. ``causal``,
    ``offset``, ``empty``, ``soft_cap``: see ``Attention``. Raises ShapeError and DTypeError with the sizes and types seen.
    """
    q, k, v = f.operands("attention", f.floating(q), f.floating(k), f.floating(v))
    for what, x in (("queries", q), ("keys", k), ("values", v)):
        if x.rank != 4:
            raise ShapeError(f"attention: {what} need rank 4, got {x.type}")
    if scale is None:
        if type(q.shape[3]) is Dim or q.shape[3] == 0:
            raise ShapeError(f"attention: the default scale 1 / sqrt(depth) needs a fixed depth of at least 1, got {q.type}")
        scale = 1.0 / math.sqrt(q.shape[3])
    extra = []
    if bias is not None:
        extra.append(_rank_four("bias", f.cast(f.constant(bias), q.dtype)))
    if mask is not None:
        extra.append(_rank_four("mask", f.cast(f.constant(mask), bool_)))
    op = Attention(float(scale), bool(causal), offset, empty, float(soft_cap), bias is not None, mask is not None, (layout,) * 4)
    return f.node(op, q, k, v, *extra)


def _rank_four(what: str, x: Node) -> Node:
    if x.rank > 4:
        raise ShapeError(f"attention: the {what} needs a rank of at most 4, got {x.type}")
    return f.reshape(x, (1,) * (4 - x.rank) + tuple(x.shape)) if x.rank < 4 else x
