"""Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC
2011).

The counter is (element number low, high, step, stream), the key the seed: the same seed, step and stream give the same numbers
on every backend, with any number of threads. An element takes one 32-bit word of its counter's four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from ...runtime.dim import Dim
from ...runtime.dtype import as_dtype, float32, float64, int64, uint32, uint64
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import scalar_ops as s
from ..kernel import simplify as ix
from ..kernel.expr import Cast, Const, Expr, op
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85


def philox(counter: Sequence[np.ndarray], key: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Ten rounds on four counter words and two key words, in 64-bit integers (the oracle)."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(x, np.uint64) for x in counter]
    k = [np.asarray(x, np.uint64) for x in key]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(_M0), c[2] * np.uint64(_M1)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(_W0)) & low, (k[1] + np.uint64(_W1)) & low]
    return [x.astype(np.uint32) for x in c]


@dataclass(frozen=True, eq=False)
class RandomBits(Op):
    """uint32 bits of ``shape`` from a key (uint32[2]) and a step (a scalar of 32 or 64 bits, of which the low 32 count)."""

    shape: tuple[int, ...]
    stream: int
    word: int = 0

    kind = "random"
    differentiable = False
    no_gradient = "it draws integers"

    def infer(self, *types: TensorType) -> TensorType:
        key, step = types
        if not key.same(TensorType((2,), uint32)):
            raise ShapeError(f"RandomBits needs a key of type uint32[2], got {key}")
        if step.rank or not step.dtype.is_int or step.dtype.itemsize < 4:
            raise DTypeError(f"RandomBits needs a step that is one integer of 32 or 64 bits, got {step}")
        if not 0 <= self.word < 4 or not 0 <= self.stream < 2**32:
            raise ArgumentError(f"RandomBits: word is 0 to 3 and stream 32 bits, got {self.word} and {self.stream}")
        if any(type(n) is not Dim and (isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0) for n in self.shape):
            raise ShapeError(f"random numbers need a shape of sizes >= 0, got {tuple(self.shape)}")
        return TensorType(self.shape, uint32)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        key, step = arrays
        shape = tuple(map(int, self.shape))
        element = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64).reshape(shape)
        step = np.uint64(int(step) & 0xFFFFFFFF)
        return np.asarray(
            philox((element & np.uint64(0xFFFFFFFF), element >> np.uint64(32), step, np.uint64(self.stream)), key)[self.word]
        )

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        def word(value: int) -> Expr:
            return Const(value, uint32)

        element = ix.ravel(at, self.shape)
        step = args[1](())
        c = [
            Cast(element, uint32),
            Cast(op(s.shr, Cast(element, uint64), Const(32, uint64)), uint32),
            step if step.dtype is uint32 else Cast(step, uint32),
            word(self.stream),
        ]
        k = [args[0]((ix.index(0),)), args[0]((ix.index(1),))]
        for i in range(10):
            c = [
                op(s.xor, op(s.xor, op(s.mulhi, c[2], word(_M1)), c[1]), k[0]),
                op(s.mul, c[2], word(_M1)),
                op(s.xor, op(s.xor, op(s.mulhi, c[0], word(_M0)), c[3]), k[1]),
                op(s.mul, c[0], word(_M0)),
            ]
            if i < 9:
                k = [op(s.add, k[0], word(_W0)), op(s.add, k[1], word(_W1))]
        return c[self.word]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        key = rng.integers(0, 2**32, 2, dtype=np.uint64).astype(np.uint32)
        return [
            Sample(cls((3, 5), 7), (key, np.array(11, np.uint32)), tags=("odd",)),
            Sample(cls((0, 3), 0), (key, np.array(2**40 + 5, np.int64)), tags=("size0",)),
            Sample(cls((), 2**32 - 1, 3), (key, np.array(-1, np.int32)), tags=("size1",)),
            Sample(cls((2, 1, 7), 1, 2), (key, np.array(0, np.uint64)), tags=("broadcast",)),
            Sample(cls((33,), 5, 1), (key, np.array(9, np.int64)), tags=("odd",)),
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        key, step = TensorType((2,), uint32), TensorType((), int64)
        return [
            BadSample(cls((3,), 0), (TensorType((3,), uint32), step), ShapeError, r"uint32\[2\], got uint32\[3\]"),
            BadSample(cls((3,), 0), (key, TensorType((1,), int64)), DTypeError, "one integer"),
            BadSample(cls((3,), 0), (key, step.with_dtype(float32)), DTypeError, "float32"),
            BadSample(cls((3,), 0, 4), (key, step), ArgumentError, "word is 0 to 3"),
            BadSample(cls((3,), 2**32), (key, step), ArgumentError, "stream 32 bits"),
            BadSample(cls((3, -1), 0), (key, step), ShapeError, r"sizes >= 0, got \(3, -1\)"),
        ]


def random_bits(key, step, shape: Sequence[int], stream: int = 0, word: int = 0) -> Node:
    """Uniform uint32 of ``shape``; ``key`` is uint32[2], ``step`` a scalar; different streams, steps and words are
    independent.
    """
    return f.node(RandomBits(tuple(shape), stream, word), f.constant(key), f.constant(step))


def _unit(key, step, shape: Sequence[int], stream: int, word: int, dtype) -> Node:
    """Uniform in [0, 1): as many random bits as the type's mantissa holds, so that no value rounds to 1."""
    bits = random_bits(key, step, shape, stream, word)
    if dtype is float64:
        high, low = (
            f.cast(f.shift_right(bits, 5), float64),
            f.cast(f.shift_right(random_bits(key, step, shape, stream, word + 1), 6), float64),
        )
        return f.mul(f.add(f.mul(high, 2.0**26), low), 2.0**-53)
    digits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
    return f.cast(f.mul(f.cast(f.shift_right(bits, 32 - digits), float32), 2.0**-digits), dtype)


def _floating(name: str, dtype):
    dtype = as_dtype(dtype)
    if not dtype.is_float:
        raise DTypeError(f"{name} draws floats, not {dtype}")
    return dtype


def random_uniform(key, step, shape: Sequence[int], stream: int = 0, dtype=float32, low=0.0, high=1.0) -> Node:
    """Uniform in [low, high)."""
    u = _unit(key, step, shape, stream, 0, _floating("random_uniform", dtype))
    if f.is_scalar(low) and f.is_scalar(high) and (low, high) == (0, 1):
        return u
    return f.add(f.mul(u, f.sub(f.constant(high, u.dtype), f.constant(low, u.dtype))), f.constant(low, u.dtype))


def random_normal(key, step, shape: Sequence[int], stream: int = 0, dtype=float32, mean=0.0, std=1.0) -> Node:
    """Normal, by Box and Muller's transform of two words of one counter, in float32 (float64 in float64)."""
    dtype = _floating("random_normal", dtype)
    wide = float64 if dtype is float64 else float32
    u, v = _unit(key, step, shape, stream, 0, wide), _unit(key, step, shape, stream, 2, wide)
    z = f.mul(f.sqrt(f.mul(f.log(f.sub(1, u)), -2.0)), f.cos(f.mul(v, 2 * pi)))
    return f.cast(f.add(f.mul(z, std), mean), dtype)
