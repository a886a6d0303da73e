"""Elementwise functions made of others, where a rule of their own is more accurate: their values near special points, or
their slope.

``eval`` is written independently of ``decompose``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import factorial, inf, log, pi

import numpy as np

from ...runtime.dtype import DType, as_dtype, bfloat16, float32, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node, node
from ..ir.types import TensorType
from ..kernel import special
from . import functional as f
from .base import BadSample, Composite, Sample
from .lift import broadcast

Cotangents = tuple[Node | None, ...]
Range = tuple[float, float]
_SHAPES = [((3, 5), "odd"), ((0, 3), "size0"), ((), "size1"), ((2, 1, 7), "broadcast"), ((9,), "odd")]
_HARD = (0.0, -0.0, inf, -inf, float("nan"), 1.0, -1.0, 0.5, 1e-30, 40.0, -100.5, 3e38)


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Composed(Composite):
    """A function of each element; all operands are floats of one type."""

    kind = ""

    def infer(self, *types: TensorType) -> TensorType:
        want = len(self.ranges())
        if len(types) != want:
            raise ShapeError(f"{self.name} takes {want} operands, got {len(types)}")
        first = types[0]
        if not first.dtype.is_float:
            raise DTypeError(f"{self.name} needs a floating type, got {first}")
        if any(not t.same(first) for t in types[1:]):
            raise ShapeError(f"{self.name} needs operands of one type, got {' and '.join(map(str, types))}")
        return first

    def flops(self, node: Node) -> int:
        return node.type.size

    @classmethod
    def ranges(cls) -> Sequence[Range]:
        """Where the samples' operands are drawn from."""
        return ((-3.0, 3.0),)

    @classmethod
    def variants(cls) -> Sequence[_Composed]:
        return (cls(),)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        def draw(shape: tuple[int, ...], dtype: DType = float32) -> tuple[np.ndarray, ...]:
            return tuple([np.asarray(rng.uniform(*r, shape)).astype(dtype.np) for r in cls.ranges()])

        out = []
        for op in cls.variants():
            out += [Sample(op, draw(shape), tags=(tag,)) for shape, tag in _SHAPES]
            out += [Sample(op, draw((3, 5), d), tags=("odd",)) for d in (as_dtype("float64"), bfloat16)]
            hard = [
                np.array(_HARD, np.float32)[rng.permutation(len(_HARD)) if i else slice(None)] for i in range(len(cls.ranges()))
            ]
            out.append(Sample(op, tuple(hard), smooth=False))
        return out

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        n = len(cls.ranges())
        out = [BadSample(cls.variants()[0], (TensorType((3,), int32),) * n, DTypeError, r"needs a floating type, got int32\[3\]")]
        if n == 2:
            out.append(BadSample(cls(), (TensorType((3,), float32), TensorType((1,), float32)), ShapeError, "one type"))
        return out


@dataclass(frozen=True, eq=False)
class LogAddExp(_Composed):
    """log(exp(a) + exp(b)), without overflow."""

    kind = "composite"

    @classmethod
    def ranges(cls) -> Sequence[Range]:
        return ((-3.0, 3.0), (-3.0, 3.0))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(np.logaddexp(*map(_wide, arrays))).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        a, b = inputs
        apart = f.add(f.maximum(a, b), f.log1p(f.exp(f.neg(f.abs_(f.sub(a, b))))))
        return f.where(f.eq(a, b), f.add(a, log(2)), apart)  # equal infinities too

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        a, b = node.inputs
        share = f.where(f.eq(a, b), 0.5, f.sigmoid(f.sub(a, b)))
        return f.mul(ct, share), f.mul(ct, f.sub(1, share))


@dataclass(frozen=True, eq=False)
class Sinc(_Composed):
    """sin(pi x) / (pi x), 1 at 0."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        x = _wide(arrays[0])
        with np.errstate(all="ignore"):
            return np.asarray(np.where(x == 0, 1.0, special.sinpi(x) / (pi * np.where(x == 0, 1.0, x)))).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        zero = f.eq(x, 0)
        return f.where(zero, 1, f.div(f.sinpi(x), f.mul(f.where(zero, 1, x), pi)))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        """(cos(pi x) - sinc x) / x cancels near 0: there its power series."""
        x = node.inputs[0]
        near = f.lt(f.abs_(x), 0.25)
        z = f.mul(x, x)
        series: Node = f.full(x.shape, 0, x.dtype)
        for k in range(9, 0, -1):
            series = f.add(f.mul(series, z), (-1) ** k * 2 * k * pi ** (2 * k) / factorial(2 * k + 1))
        away = f.where(near, 1, x)
        return (f.mul(ct, f.where(near, f.mul(series, x), f.div(f.sub(f.cospi(away), f.sinc(away)), away))),)


def _scaled(scaled: Callable[[Node], Node], x: Node) -> Node:
    """exp(|x|) times the scaled function, in two halves: exp(|x|) overflows before the product does."""
    half = f.exp(f.mul(f.abs_(x), 0.5))
    return f.mul(f.mul(half, scaled(x)), half)


def _bessel(scaled: Callable, x: np.ndarray) -> np.ndarray:
    wide = _wide(x)
    with np.errstate(all="ignore"):
        half = np.exp(np.abs(wide) / 2)
        out = half * scaled(wide) * half
    return np.asarray(np.where(np.isinf(wide), np.copysign(np.inf, wide) if scaled is special.i1e else np.inf, out)).astype(
        x.dtype
    )


@dataclass(frozen=True, eq=False)
class BesselI0(_Composed):
    """The modified Bessel function of the first kind, order 0."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return _bessel(special.i0e, arrays[0])

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        return f.where(f.isinf(x), inf, _scaled(f.bessel_i0e, x))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.bessel_i1(node.inputs[0])),)


@dataclass(frozen=True, eq=False)
class BesselI1(_Composed):
    """The modified Bessel function of the first kind, order 1."""

    kind = "composite"

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        return _bessel(special.i1e, arrays[0])

    def decompose(self, *inputs: Node) -> Node:
        x = inputs[0]
        return f.where(f.isinf(x), x, _scaled(f.bessel_i1e, x))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        zero = f.eq(x, 0)
        return (f.mul(ct, f.sub(f.bessel_i0(x), f.where(zero, 0.5, f.div(node, f.where(zero, 1, x))))),)


def _cotangent_slopes(order: int) -> list[int]:
    """Coefficients of the polynomial Q with (d/dx)^order (pi cot(pi x)) = pi^(order + 1) Q(cot(pi x)): Q' = -(1 + c^2) dQ/dc."""
    q = [0, 1]
    for _ in range(order):
        slope = [k * v for k, v in enumerate(q)][1:]
        q = [0] * (len(slope) + 2)
        for k, v in enumerate(slope):
            q[k] -= v
            q[k + 2] -= v
    return q


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # B2, B4, ...


@dataclass(frozen=True, eq=False)
class Polygamma(_Composed):
    """The derivative of digamma of this order (1 is trigamma): inf or nan at 0, -1, -2, ..."""

    order: int = 1

    kind = "composite"

    @classmethod
    def ranges(cls) -> Sequence[Range]:
        return ((0.3, 9.0),)

    @classmethod
    def variants(cls) -> Sequence[_Composed]:
        return (cls(1), cls(2))

    def infer(self, *types: TensorType) -> TensorType:
        if self.order < 1:
            raise ArgumentError(f"Polygamma needs an order of at least 1, got {self.order} (order 0 is digamma)")
        return super().infer(*types)

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """The recurrence up to 40, which holds on the negative axis too, then Euler and Maclaurin's sum."""
        n, sign = self.order, -1 if self.order % 2 == 0 else 1

        def at(x: float) -> float:
            if x != x or x == -inf:
                return float("nan")
            if x == inf or x > 1e30:
                return sign * factorial(n - 1) * x**-n
            if x <= 0 and x == int(x):
                return inf if n % 2 else float("nan")
            total = 0.0
            while x < 40:
                total += x ** -(n + 1)
                x += 1
            total = total * factorial(n) + factorial(n - 1) * x**-n + factorial(n) / 2 * x ** -(n + 1)
            for j, b in enumerate(_BERNOULLI[:5], 1):
                total += b * factorial(2 * j + n - 1) / factorial(2 * j) * x ** -(2 * j + n)
            return sign * total

        each = np.frompyfunc(at, 1, 1)
        return np.asarray(each(_wide(arrays[0])), np.float64).astype(arrays[0].dtype)

    def decompose(self, *inputs: Node) -> Node:
        n = self.order
        x = inputs[0]
        if x.dtype.itemsize == 2:
            return f.cast(self.decompose(f.cast(x, float32)), x.dtype)
        sign = -1 if n % 2 == 0 else 1
        negative = f.lt(x, 0)
        y = f.where(negative, f.sub(1, x), x)
        positive = f.mul(self._positive(y), sign)
        # psi_n(-a) = (-1)^n ((d/da)^n (pi cot(pi a)) + psi_n(1 + a))
        a = f.where(negative, f.neg(x), 0.25)
        cot = f.div(f.cospi(a), f.sinpi(a))
        q = _cotangent_slopes(n)
        slope: Node = f.full(x.shape, q[-1], x.dtype)
        for c in reversed(q[:-1]):
            slope = f.add(f.mul(slope, cot), c)
        reflected = f.mul(f.add(f.mul(slope, pi ** (n + 1)), positive), -sign)
        pole = f.logical_and(f.le(x, 0), f.eq(f.floor(x), x))
        return f.where(
            pole, f.where(f.isinf(x), float("nan"), inf if n % 2 else float("nan")), f.where(negative, reflected, positive)
        )

    def _positive(self, x: Node) -> Node:
        """n! sum of (x + k)^-(n + 1), k < 8 + n one by one, the rest by Euler and Maclaurin's sum."""
        n = self.order
        count = 8 + n
        total: Node | None = None
        for k in range(count):
            term = _inverse_power(f.add(x, k), n + 1)
            total = term if total is None else f.add(total, term)
        assert total is not None
        y = f.add(x, count)
        i = f.reciprocal(y)
        z = f.mul(i, i)
        series: Node = f.full(x.shape, 0, x.dtype)
        for j in range(len(_BERNOULLI), 0, -1):
            series = f.add(f.mul(series, z), _BERNOULLI[j - 1] * factorial(2 * j + n - 1) / factorial(2 * j))
        tail = f.add(f.add(f.mul(i, factorial(n) / 2), factorial(n - 1)), f.mul(series, z))
        return f.add(f.mul(total, factorial(n)), f.mul(tail, _inverse_power(y, n)))

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.polygamma(self.order + 1, node.inputs[0])),)

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        return [
            *super().bad_samples(),
            BadSample(cls(0), (TensorType((3,), float32),), ArgumentError, "order of at least 1, got 0"),
        ]


def _inverse_power(x: Node, n: int) -> Node:
    """x^-n for n >= 1, of the reciprocal: x^n may overflow."""
    return f.power(f.reciprocal(x), n)


def logaddexp(a, b) -> Node:
    """log(exp(a) + exp(b))."""
    a, b = f.operands("logaddexp", a, b)
    return node(LogAddExp(), *broadcast("logaddexp", f.floating(a), f.floating(b)))


def sinc(x) -> Node:
    return node(Sinc(), f.floating(x))


def bessel_i0(x) -> Node:
    return node(BesselI0(), f.floating(x))


def bessel_i1(x) -> Node:
    return node(BesselI1(), f.floating(x))


def polygamma(order: int, x) -> Node:
    """The derivative of digamma of ``order`` (0: digamma itself)."""
    return f.digamma(x) if order == 0 else node(Polygamma(int(order)), f.floating(x))


def ldexp(x, n) -> Node:
    """x * 2 ** n for integers n, rounded once (musl's scalbn: at most two steps before the last, which alone may round)."""
    x, n = f.floating(x), f.constant(n)
    if not n.dtype.is_int:
        raise DTypeError(f"ldexp: the exponent must be an integer, got {n.dtype}")
    if x.dtype.itemsize == 2:
        return f.cast(ldexp(f.cast(x, float32), n), x.dtype)
    double = x.dtype.itemsize == 8
    bits, mantissa, bias = ("int64", 52, 1023) if double else ("int32", 23, 127)
    low = -(bias - 1) + mantissa + 1  # the step down leaves room for the mantissa, so that only the last step rounds
    n = f.cast(f.clip(f.cast(n, "int64") if n.dtype.name == "uint64" else n, *_limits(n.dtype, 5 * bias)), bits)
    x, n = broadcast("ldexp", x, n)

    def power(e) -> Node:
        return f.bitcast(f.shift_left(f.add(e, bias), mantissa), x.dtype)

    for _ in range(2):
        up, down = f.gt(n, bias), f.lt(n, -(bias - 1))
        x = f.mul(x, f.where(up, f.constant(2.0**bias, x.dtype), f.where(down, f.constant(2.0**low, x.dtype), 1.0)))
        n = f.sub(n, f.where(up, bias, f.where(down, low, 0)))
    return f.mul(x, power(f.clip(n, -(bias - 1), bias)))


def _limits(dtype: DType, n: int) -> tuple[int, int]:
    return max(int(dtype.min), -n), min(int(dtype.max), n)


def nextafter(a, b) -> Node:
    """The number after ``a`` towards ``b``; ``b`` where they are equal, nan where either is."""
    a, b = f.operands("nextafter", a, b)
    a, b = broadcast("nextafter", f.floating(a), f.floating(b))
    bits = {8: "int64", 4: "int32", 2: "int16"}[a.dtype.itemsize]
    zero = f.eq(a, 0)
    raw = f.bitcast(f.where(zero, 1, a), bits)
    away = f.eq(f.lt(a, b), f.gt(a, 0))
    moved = f.bitcast(f.add(raw, f.where(away, f.constant(1, bits), -1)), a.dtype)
    least = f.copysign(f.bitcast(f.full(a.shape, 1, bits), a.dtype), b)
    out = f.where(f.eq(a, b), b, f.where(zero, least, moved))
    return f.where(f.logical_or(f.isnan(a), f.isnan(b)), float("nan"), out)


def lcm(a, b) -> Node:
    """The least common multiple of magnitudes (it wraps as products do); 0 where either is 0."""
    a, b = f.operands("lcm", a, b)
    a, b = broadcast("lcm", a, b)
    divisor = f.gcd(a, b)
    return f.abs_(f.mul(f.trunc_div(a, f.where(f.eq(divisor, 0), 1, divisor)), b))
