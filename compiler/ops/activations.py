"""Activations: composites of one operand, each element by itself. Their ``eval`` is written independently of ``decompose``."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np

from ...runtime.dtype import as_dtype, int32
from ...runtime.errors import DTypeError
from ..ir.graph import Node
from ..ir.types import TensorType
from . import functional as f
from .base import BadSample, Composite, Sample

Cotangents = tuple[Node | None, ...]


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Activation(Composite):
    """A function of each element."""

    kind = ""

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        if not x.dtype.is_float:
            raise DTypeError(f"{self.name} needs a floating type, got {x}")
        return x

    def flops(self, node: Node) -> int:
        return node.type.size

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = []
        for shape, tag in [((3, 5), "odd"), ((0, 3), "size0"), ((), "size1"), ((2, 1, 7), "broadcast"), ((9,), "odd")]:
            x = np.asarray(rng.uniform(-4, 4, shape)).astype(np.float32)
            out.append(Sample(cls(), (np.asarray(np.where(np.abs(x) < 0.1, x + np.float32(0.3), x), np.float32),), tags=(tag,)))
        extremes = np.array([-1e30, -100, -40, -0.0, 0.0, 40, 100, 1e30], np.float32)
        return [
            *out,
            Sample(cls(), (extremes,), smooth=False),
            Sample(cls(), (rng.standard_normal((3, 5)).astype(as_dtype("bfloat16").np),), tags=("odd",)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [BadSample(cls(), (TensorType((3,), int32),), DTypeError, r"needs a floating type, got int32\[3\]")]


@dataclass(frozen=True, eq=False)
class Relu(_Activation):
    """max(x, 0); the gradient at 0 is 0."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(arrays[0], arrays[0].dtype.type(0)))

    def decompose(self, *inputs: Node) -> Node:
        return f.maximum(inputs[0], 0)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.where(f.gt(node.inputs[0], 0), ct, 0),)


@dataclass(frozen=True, eq=False)
class Silu(_Activation):
    """x * sigmoid(x)."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = _wide(arrays[0])
        with np.errstate(all="ignore"):
            return np.asarray(x / (1 + np.exp(-x))).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        return f.mul(inputs[0], f.sigmoid(inputs[0]))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        g = f.sigmoid(x)
        return (f.mul(ct, f.mul(g, f.add(f.mul(x, f.sub(1, g)), 1))),)


@dataclass(frozen=True, eq=False)
class Softplus(_Activation):
    """log(1 + exp(x)), without overflow."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return np.asarray(np.logaddexp(_wide(arrays[0]), 0)).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        return f.add(f.maximum(x, 0), f.log1p(f.exp(f.neg(f.abs_(x)))))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.sigmoid(node.inputs[0])),)


@dataclass(frozen=True, eq=False)
class Gelu(_Activation):
    """x times the normal distribution function of x; ``approximate`` takes the tanh formula (Hendrycks and Gimpel, 2016)."""

    approximate: bool = False

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        from math import erfc

        x = _wide(arrays[0])
        with np.errstate(all="ignore"):
            if self.approximate:
                out = 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
            else:
                out = x * 0.5 * np.vectorize(erfc, otypes=[np.float64])(-x / sqrt(2))
        return np.asarray(out).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        return f.mul(x, self._share(x))

    def _share(self, x: Node) -> Node:
        if self.approximate:
            inner = f.mul(f.add(x, f.mul(f.mul(x, f.mul(x, x)), 0.044715)), sqrt(2 / pi))
            return f.mul(f.add(f.tanh(inner), 1), 0.5)
        return f.mul(f.add(f.erf(f.mul(x, 1 / sqrt(2))), 1), 0.5)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        share = self._share(x)
        if self.approximate:
            slope = f.mul(f.add(f.mul(f.mul(x, x), 3 * 0.044715), 1), 2 * sqrt(2 / pi))
            derivative = f.add(share, f.mul(f.mul(x, slope), f.mul(share, f.sub(1, share))))
        else:
            derivative = f.add(share, f.mul(f.mul(x, f.exp(f.mul(f.mul(x, x), -0.5))), 1 / sqrt(2 * pi)))
        return (f.mul(ct, derivative),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [*super().samples(rng), *[Sample(cls(True), x.arrays, x.smooth, x.tags) for x in super().samples(rng)]]


def relu(x) -> Node:
    """max(x, 0)."""
    x = f.constant(x)
    return f.node(Relu(), x) if x.dtype.is_float else f.maximum(x, 0)


def silu(x) -> Node:
    return f.node(Silu(), f.floating(x))


def softplus(x) -> Node:
    return f.node(Softplus(), f.floating(x))


def gelu(x, approximate: bool = False) -> Node:
    return f.node(Gelu(bool(approximate)), f.floating(x))
