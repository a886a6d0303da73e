"""Ops defined by others: activations, softmax and its kin, layer normalisation. Their ``eval`` is written independently of
``decompose``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.dim import size
from ...runtime.dtype import as_dtype, float32, int32
from ...runtime.errors import DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from . import functional as f
from .base import BadSample, Composite, Sample, shape_text

Cotangents = tuple[Node | None, ...]


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _needs_float(op: Composite, x: TensorType) -> None:
    if not x.dtype.is_float:
        raise DTypeError(f"{op.name} needs a floating type, got {x}")


@dataclass(frozen=True, eq=False)
class _AlongAxes(Composite):
    """``axes`` are sorted, unique and not negative."""

    axes: tuple[int, ...]

    kind = ""

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        _needs_float(self, x)
        if list(self.axes) != sorted(set(self.axes)) or any(not 0 <= a < x.rank for a in self.axes):
            raise ShapeError(f"{self.name}: {self.axes} are not sorted, distinct axes of {x}")
        return x

    def flops(self, node: Node) -> int:
        return 4 * node.inputs[0].type.size

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = [
            Sample(cls(axes), (np.asarray(rng.uniform(-5, 5, shape)).astype(np.float32),), tags=(tag,))
            for shape, axes, tag in [
                ((3, 5), (1,), "odd"),
                ((7, 3), (0,), "odd"),
                ((0, 3), (1,), "size0"),
                ((4, 1), (1,), "size1"),
                ((2, 1, 5), (0, 2), "broadcast"),
                ((2, 3, 33), (2,), "odd"),
            ]
        ]
        large = np.array([[1e4, 1e4 - 1, -1e4], [-1e30, 0, 3], [88.7, 89, -100]], np.float32)
        return [
            *out,
            Sample(cls((1,)), (large,), smooth=False),
            Sample(cls((0,)), (rng.standard_normal((5, 3)).astype(as_dtype("bfloat16").np),), smooth=False),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((2, 3), float32)
        return [
            BadSample(cls((2,)), (x,), ShapeError, r"\(2,\) are not sorted, distinct axes"),
            BadSample(cls((0,)), (x.with_dtype(int32),), DTypeError, "needs a floating type"),
        ]


def _shifted(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    top = x.max(axes, keepdims=True, initial=-np.inf)
    return x - np.where(np.isfinite(top), top, 0), np.where(np.isfinite(top), top, 0)


@dataclass(frozen=True, eq=False)
class Softmax(_AlongAxes):
    """exp(x) over its sum along ``axes``."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        e = np.exp(_shifted(_wide(arrays[0]), self.axes)[0])
        return (e / e.sum(self.axes, keepdims=True)).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        e = f.exp(f.sub(x, f.stop_gradient(f.max_(x, self.axes, True))))
        return f.div(e, f.sum_(e, self.axes, True))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        weighted = f.mul(ct, node)
        return (f.sub(weighted, f.mul(node, f.sum_(weighted, self.axes, True))),)


@dataclass(frozen=True, eq=False)
class LogSoftmax(_AlongAxes):
    """The logarithm of ``Softmax``, without its underflow."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = _shifted(_wide(arrays[0]), self.axes)[0]
        return (x - np.log(np.exp(x).sum(self.axes, keepdims=True))).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        shifted = f.sub(x, f.stop_gradient(f.max_(x, self.axes, True)))
        return f.sub(shifted, f.log(f.sum_(f.exp(shifted), self.axes, True)))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.sub(ct, f.mul(f.exp(node), f.sum_(ct, self.axes, True))),)


@dataclass(frozen=True, eq=False)
class LogSumExp(_AlongAxes):
    """log(sum(exp(x))) along ``axes``, which leave the shape; -inf where all are -inf."""

    kind = "composite"

    def infer(self, *types: TensorType) -> TensorType:
        x = super().infer(*types)
        return x.with_shape(tuple([n for i, n in enumerate(x.shape) if i not in self.axes]))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.asarray(
            np.logaddexp.reduce(
                np.moveaxis(_wide(arrays[0]), self.axes, range(len(self.axes))).reshape(
                    (
                        -1 if arrays[0].size else int(np.prod([arrays[0].shape[a] for a in self.axes])),
                        *[n for i, n in enumerate(arrays[0].shape) if i not in self.axes],
                    )
                ),
                0,
                initial=-np.inf,
            )
        ).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        top = f.max_(x, self.axes, True)
        top = f.stop_gradient(f.where(f.isfinite(top), top, 0))
        total = f.log(f.sum_(f.exp(f.sub(x, top)), self.axes))
        return f.add(total, f.reshape(top, total.shape))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        y, ct = f.expand_dims(node, self.axes), f.expand_dims(ct, self.axes)
        return (f.mul(ct, f.exp(f.sub(x, f.where(f.isfinite(y), y, 0)))),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        nothing = np.array([[-np.inf, -np.inf], [-np.inf, 2.0], [np.inf, 1.0]], np.float32)
        return [
            *super().samples(rng),
            Sample(cls((1,)), (nothing,), smooth=False),
            Sample(cls((0,)), (np.zeros((0, 3), np.float32),), smooth=False, tags=("size0",)),
        ]


@dataclass(frozen=True, eq=False)
class LayerNorm(_AlongAxes):
    """(x - mean) / sqrt(variance + epsilon) over ``axes``, times gamma plus beta, both of the axes' sizes in their order."""

    epsilon: float = 1e-3

    kind = "composite"

    def infer(self, *types: TensorType) -> TensorType:
        x, gamma, beta = types
        super().infer(x)
        inner = x.with_shape(tuple([x.shape[a] for a in self.axes]))
        if not gamma.same(inner) or not beta.same(inner):
            raise ShapeError(
                f"LayerNorm over axes {self.axes} of {x} needs gamma and beta of type {inner}, got {gamma} and {beta}"
            )
        return x

    def _spread(self, x: Node, shape: tuple[int, ...]) -> Node:
        return f.reshape(x, [n if i in self.axes else 1 for i, n in enumerate(shape)])

    def _normal(self, x: Node) -> tuple[Node, Node]:
        """The normalised values and the reciprocal deviation (16-bit floats: in float32)."""
        wide = f.cast(x, float32) if x.dtype.itemsize == 2 else x
        centred = f.sub(wide, f.mean(wide, self.axes, True))
        scale = f.rsqrt(f.add(f.mean(f.square(centred), self.axes, True), self.epsilon))
        return f.mul(centred, scale), scale

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x, gamma, beta = map(_wide, arrays)
        shape = [n if i in self.axes else 1 for i, n in enumerate(x.shape)]
        out = (x - x.mean(self.axes, keepdims=True)) / np.sqrt(x.var(self.axes, keepdims=True) + self.epsilon)
        return (out * gamma.reshape(shape) + beta.reshape(shape)).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        x, gamma, beta = inputs
        normal, _ = self._normal(x)
        gamma, beta = (self._spread(f.cast(p, normal.dtype), x.shape) for p in (gamma, beta))
        return f.cast(f.add(f.mul(normal, gamma), beta), x.dtype)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        """dx = (g - mean(g) - normal * mean(g * normal)) / deviation, with g = ct * gamma."""
        x, gamma, _ = node.inputs
        normal, scale = self._normal(x)
        wide = f.cast(ct, normal.dtype)
        g = f.mul(wide, self._spread(f.cast(gamma, normal.dtype), x.shape))
        inner = f.sub(f.sub(g, f.mean(g, self.axes, True)), f.mul(normal, f.mean(f.mul(g, normal), self.axes, True)))
        rows = tuple([i for i in range(x.rank) if i not in self.axes])
        return (
            f.cast(f.mul(inner, scale), x.dtype),
            f.cast(f.sum_(f.mul(wide, normal), rows), x.dtype),
            f.cast(f.sum_(wide, rows), x.dtype),
        )

    def flops(self, node: Node) -> int:
        return 8 * node.type.size

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(np.float32)

        return [
            Sample(
                cls(axes, epsilon),
                tuple(
                    [
                        a.astype(as_dtype(dtype).np)
                        for a in (draw(*shape) + 3, draw(*[shape[i] for i in axes]), draw(*[shape[i] for i in axes]))
                    ]
                ),
                tags=(tag,),
            )
            for shape, axes, epsilon, dtype, tag in [
                ((3, 5), (1,), 1e-3, "float32", "odd"),
                ((7, 3), (0,), 1e-5, "float32", "odd"),
                ((0, 3), (1,), 1e-3, "float32", "size0"),
                ((3, 1), (1,), 1e-3, "float32", "size1"),
                ((2, 1, 5), (1, 2), 1e-3, "float32", "broadcast"),
                ((2, 3, 5), (0, 2), 1e-6, "float32", "odd"),
                ((3, 9), (1,), 1e-3, "float16", "odd"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, g = TensorType((2, 3), float32), TensorType((3,), float32)
        return [
            BadSample(
                cls((1,)), (x, g, g.with_shape((2,))), ShapeError, r"of type float32\[3\], got float32\[3\] and float32\[2\]"
            ),
            BadSample(cls((2,)), (x, g, g), ShapeError, "not sorted, distinct axes"),
            BadSample(cls((1,)), (x.with_dtype(int32), g, g), DTypeError, "needs a floating type"),
        ]


def softmax(x, axis: int | Sequence[int] = -1) -> Node:
    """exp(x) over its sum along the axis (or axes)."""
    x = f.floating(x)
    return f.node(Softmax(tuple(sorted(f.axes_tuple("softmax", axis, x.rank)))), x)


def log_softmax(x, axis: int | Sequence[int] = -1) -> Node:
    x = f.floating(x)
    return f.node(LogSoftmax(tuple(sorted(f.axes_tuple("log_softmax", axis, x.rank)))), x)


def logsumexp(x, axes=None, keepdims: bool = False) -> Node:
    x = f.floating(x)
    at = tuple(sorted(f.axes_tuple("logsumexp", axes, x.rank)))
    out = f.node(LogSumExp(at), x)
    return f.expand_dims(out, at) if keepdims else out


def layer_norm(x, gamma=None, beta=None, axes: int | Sequence[int] = -1, epsilon: float = 1e-3) -> Node:
    """Normalised over ``axes``, scaled by gamma (None: 1) and shifted by beta (None: 0), both of the sizes of ``axes`` in
    ascending order.
    """
    x = f.floating(x)
    at = tuple(sorted(f.axes_tuple("layer_norm", axes, x.rank)))
    inner = tuple([x.shape[a] for a in at])
    if size(inner) == 0:
        raise ShapeError(f"layer_norm over axes {at} of {x.type}: nothing to normalise ({shape_text(inner)})")
    gamma = f.ones(inner, x.dtype) if gamma is None else f.cast(gamma, x.dtype)
    beta = f.zeros(inner, x.dtype) if beta is None else f.cast(beta, x.dtype)
    return f.node(LayerNorm(at, float(epsilon)), x, gamma, beta)
