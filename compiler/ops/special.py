"""Special functions of one and two operands, as scalar operations of their own."""

from __future__ import annotations

from math import log, pi, sqrt

from ..ir.graph import Node
from ..kernel import scalar_ops as s
from . import functional as f
from .elementwise import Elementwise

Cotangents = tuple[Node | None, ...]


class Exp2(Elementwise):
    """2 ** x."""

    kind = "elementwise"
    fn = s.exp2

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(f.mul(ct, log(2)), node),)


class Log2(Elementwise):
    """The logarithm to base 2; exact for powers of 2."""

    kind = "elementwise"
    fn = s.log2
    ranges = ((0.1, 3.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.div(f.mul(ct, 1 / log(2)), node.inputs[0]),)


class Log10(Elementwise):
    kind = "elementwise"
    fn = s.log10
    ranges = ((0.1, 3.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.div(f.mul(ct, 1 / log(10)), node.inputs[0]),)


class Cbrt(Elementwise):
    """The real cube root, of negative numbers too."""

    kind = "elementwise"
    fn = s.cbrt

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.div(f.mul(ct, 1 / 3), f.mul(node, node)),)


class Sinpi(Elementwise):
    """sin(pi x), exactly 0 at integers."""

    kind = "elementwise"
    fn = s.sinpi

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(f.mul(ct, pi), f.cospi(node.inputs[0])),)


class Cospi(Elementwise):
    """cos(pi x), exactly 0 at halves of odd numbers."""

    kind = "elementwise"
    fn = s.cospi

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(f.mul(ct, -pi), f.sinpi(node.inputs[0])),)


class Erfc(Elementwise):
    """1 - erf(x), with all its digits in the right tail."""

    kind = "elementwise"
    fn = s.erfc

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.mul(f.mul(ct, -2 / sqrt(pi)), f.exp(f.neg(f.mul(x, x)))),)


class Erfinv(Elementwise):
    """The y with erf(y) = x: infinite at 1 and -1, nan beyond."""

    kind = "elementwise"
    fn = s.erfinv
    ranges = ((-0.9, 0.9),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(f.mul(ct, sqrt(pi) / 2), f.exp(f.mul(node, node))),)


class Lgamma(Elementwise):
    """log |gamma(x)|: inf at 0, -1, -2, ..."""

    kind = "elementwise"
    fn = s.lgamma
    ranges = ((0.2, 11.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.digamma(node.inputs[0])),)


class Digamma(Elementwise):
    """The derivative of log gamma: nan at -1, -2, ..., and infinite at 0."""

    kind = "elementwise"
    fn = s.digamma
    ranges = ((0.2, 11.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.polygamma(1, node.inputs[0])),)


class BesselI0e(Elementwise):
    """exp(-|x|) I0(x), I0 the modified Bessel function of order 0. Its derivative at 0, a kink, counts as 0."""

    kind = "elementwise"
    fn = s.i0e

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.mul(ct, f.sub(f.bessel_i1e(x), f.mul(f.sign(x), node))),)


class BesselI1e(Elementwise):
    """exp(-|x|) I1(x), I1 the modified Bessel function of order 1."""

    kind = "elementwise"
    fn = s.i1e

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        zero = f.eq(x, 0)
        over = f.where(zero, 0.5, f.div(node, f.where(zero, 1, x)))
        return (f.mul(ct, f.sub(f.sub(f.bessel_i0e(x), f.mul(f.sign(x), node)), over)),)


class Hypot(Elementwise):
    """sqrt(a^2 + b^2), without overflow on the way. The derivative at the origin is 0."""

    kind = "elementwise"
    fn = s.hypot

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        a, b = node.inputs
        share = f.div(ct, f.where(f.eq(node, 0), 1, node))
        return f.mul(share, a), f.mul(share, b)


class CopySign(Elementwise):
    """The magnitude of the first operand with the sign of the second (of a zero or nan too)."""

    kind = "elementwise"
    fn = s.copysign

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        a, b = node.inputs
        return f.where(f.eq(f.signbit(a), f.signbit(b)), ct, f.neg(ct)), None
