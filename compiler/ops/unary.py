"""Elementwise functions of one operand."""

from __future__ import annotations

from math import pi, sqrt

from ..ir.graph import Node
from ..kernel import scalar_ops as s
from . import functional as f
from .elementwise import Elementwise

Cotangents = tuple[Node | None, ...]


class Neg(Elementwise):
    kind = "elementwise"
    fn = s.neg

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.neg(ct),)


class Abs(Elementwise):
    """The gradient at 0 is 0."""

    kind = "elementwise"
    fn = s.abs_

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.sign(node.inputs[0])),)


class _Step(Elementwise):
    """Piecewise constant: the derivative is 0 almost everywhere."""

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (None,)


class Sign(_Step):
    """-1, 0 or 1; nan of nan."""

    kind = "elementwise"
    fn = s.sign


class Floor(_Step):
    kind = "elementwise"
    fn = s.floor


class Ceil(_Step):
    kind = "elementwise"
    fn = s.ceil


class Round(_Step):
    """To the nearest integer, halves to the even one."""

    kind = "elementwise"
    fn = s.round_


class Trunc(_Step):
    kind = "elementwise"
    fn = s.trunc


class Exp(Elementwise):
    kind = "elementwise"
    fn = s.exp

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, node),)


class Expm1(Elementwise):
    kind = "elementwise"
    fn = s.expm1

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.add(node, 1)),)


class Log(Elementwise):
    kind = "elementwise"
    fn = s.log
    ranges = ((0.1, 3.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.div(ct, node.inputs[0]),)


class Log1p(Elementwise):
    kind = "elementwise"
    fn = s.log1p
    ranges = ((-0.8, 3.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.div(ct, f.add(node.inputs[0], 1)),)


class Sqrt(Elementwise):
    kind = "elementwise"
    fn = s.sqrt
    ranges = ((0.1, 3.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.div(f.mul(ct, 0.5), node),)


class Rsqrt(Elementwise):
    kind = "elementwise"
    fn = s.rsqrt
    ranges = ((0.1, 3.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(f.mul(ct, -0.5), f.mul(node, f.mul(node, node))),)


class Sin(Elementwise):
    kind = "elementwise"
    fn = s.sin

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.cos(node.inputs[0])),)


class Cos(Elementwise):
    kind = "elementwise"
    fn = s.cos

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.neg(f.mul(ct, f.sin(node.inputs[0]))),)


class Tan(Elementwise):
    kind = "elementwise"
    fn = s.tan
    ranges = ((-1.2, 1.2),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.add(f.mul(node, node), 1)),)


class Asin(Elementwise):
    kind = "elementwise"
    fn = s.asin
    ranges = ((-0.8, 0.8),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.mul(ct, f.rsqrt(f.sub(1, f.mul(x, x)))),)


class Acos(Elementwise):
    kind = "elementwise"
    fn = s.acos
    ranges = ((-0.8, 0.8),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.neg(f.mul(ct, f.rsqrt(f.sub(1, f.mul(x, x))))),)


class Atan(Elementwise):
    kind = "elementwise"
    fn = s.atan

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.div(ct, f.add(f.mul(x, x), 1)),)


class Sinh(Elementwise):
    kind = "elementwise"
    fn = s.sinh

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.cosh(node.inputs[0])),)


class Cosh(Elementwise):
    kind = "elementwise"
    fn = s.cosh

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.sinh(node.inputs[0])),)


class Tanh(Elementwise):
    kind = "elementwise"
    fn = s.tanh

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.sub(1, f.mul(node, node))),)


class Asinh(Elementwise):
    kind = "elementwise"
    fn = s.asinh

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.mul(ct, f.rsqrt(f.add(f.mul(x, x), 1))),)


class Acosh(Elementwise):
    kind = "elementwise"
    fn = s.acosh
    ranges = ((1.1, 3.0),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.mul(ct, f.rsqrt(f.mul(f.sub(x, 1), f.add(x, 1)))),)


class Atanh(Elementwise):
    kind = "elementwise"
    fn = s.atanh
    ranges = ((-0.8, 0.8),)

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.div(ct, f.sub(1, f.mul(x, x))),)


class Erf(Elementwise):
    kind = "elementwise"
    fn = s.erf

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        x = node.inputs[0]
        return (f.mul(f.mul(ct, 2 / sqrt(pi)), f.exp(f.neg(f.mul(x, x)))),)


class Sigmoid(Elementwise):
    kind = "elementwise"
    fn = s.sigmoid

    def vjp(self, node: Node, ct: Node) -> Cotangents:
        return (f.mul(ct, f.mul(node, f.sub(1, node))),)
