"""Images read at computed coordinates: interpolation between the neighbours of each point, differentiable in image and points."""

from __future__ import annotations

from collections.abc import Sequence

from ...runtime.dtype import float32, int64
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from . import functional as f

METHODS = ("nearest", "linear", "cubic")
BOUNDARIES = ("constant", "border", "wrap", "mirror", "reflect")


def sample(x, points, method: str = "linear", boundary: str = "constant", fill: float = 0.0, cubic_a: float = -0.75) -> Node:
    """(N, *out, C): x (N, *spatial, C) at ``points`` (N, *out, number of spatial axes), in elements of ``x``.

    ``method``: nearest (halves to even), linear, cubic (Keys' kernel, slope ``cubic_a``). ``boundary``: what lies outside:
    constant (``fill``), border (the nearest element), wrap, mirror (about the centres of the outermost elements), reflect (about
    their outer edges).
    """
    x, points = f.constant(x), f.constant(points)
    d = x.rank - 2
    if d < 1 or points.rank < 2 or points.shape[-1] != d or points.shape[0] != x.shape[0]:
        raise ShapeError(f"sample of (N, *spatial, C) at points (N, *out, {max(d, 1)}), got {x.type} and {points.type}")
    if not points.dtype.is_float:
        raise DTypeError(f"sample needs coordinates that are floats, got {points.type}")
    if method not in METHODS or boundary not in BOUNDARIES:
        raise ArgumentError(
            f"sample: method {method!r} of {', '.join(METHODS)}, boundary {boundary!r} of {', '.join(BOUNDARIES)}")
    dtype = x.dtype
    x = x if dtype.is_float and dtype.itemsize >= 4 else f.cast(x, float32)
    points = points if points.dtype.itemsize >= 4 else f.cast(points, float32)
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[method]
    out = points.shape[:-1]
    wide = (*out, *(taps,) * d)
    places, inside, weight = [], None, None
    for a in range(d):
        shape = (*out, *[taps if i == a else 1 for i in range(d)])
        v = _coordinate(points, a)
        near = f.round_(v) if method == "nearest" else f.floor(v)
        first = {"nearest": 0, "linear": 0, "cubic": -1}[method]
        tap = f.stop_gradient(f.add(f.expand_dims(near, (-1,)), f.iota((*out, taps), len(out), points.dtype)))
        tap = f.add(tap, float(first)) if first else tap
        n = x.shape[a + 1]
        place, valid = _placed(tap, n, boundary)
        places.append(f.broadcast_to(f.reshape(f.cast(place, int64), shape), wide))
        if valid is not None:
            valid = f.broadcast_to(f.reshape(valid, shape), wide)
            inside = valid if inside is None else f.logical_and(inside, valid)
        if method != "nearest":
            w = f.broadcast_to(f.reshape(_weights(f.sub(v, near), method, cubic_a), shape), wide)
            weight = w if weight is None else f.mul(weight, w)
    values = f.gather_nd(x, f.stack(places, -1), 1)  # (N, *out, *taps, C)
    if inside is not None:
        values = f.where(f.broadcast_to(f.expand_dims(inside, (-1,)), values.shape), values, float(fill))
    if weight is not None:
        weight = f.cast(weight, x.dtype)
        values = f.mul(values, f.broadcast_to(f.expand_dims(weight, (-1,)), values.shape))
    total = f.sum_(values, tuple(range(len(out), len(out) + d)))
    return f.cast(total if dtype.is_float else f.round_(total), dtype)


def _coordinate(points: Node, a: int) -> Node:
    """Coordinate ``a`` of every point."""
    start = (0,) * (points.rank - 1) + (a,)
    return f.squeeze(f.slice_(points, start, (*points.shape[:-1], a + 1)), points.rank - 1)


def _weights(r: Node, method: str, a: float) -> Node:
    """The weights of the taps around a point at ``r`` in [0, 1) behind the tap below it, along a new last axis."""
    if method == "linear":
        return f.stack([f.sub(1.0, r), r], -1)

    def near(t: Node) -> Node:
        return f.add(f.mul(f.mul(f.sub(f.mul(t, a + 2), a + 3), t), t), 1.0)

    def far(t: Node) -> Node:
        return f.sub(f.mul(f.add(f.mul(f.sub(f.mul(t, a), 5 * a), t), 8 * a), t), 4 * a)

    return f.stack([far(f.add(r, 1.0)), near(r), near(f.sub(1.0, r)), far(f.sub(2.0, r))], -1)


def _placed(tap: Node, n: int, boundary: str) -> tuple[Node, Node | None]:
    """The elements that taps (whole numbers, as floats) read on an axis of ``n``; which of them lie inside, where that counts."""
    valid = None
    if boundary == "constant":
        valid = f.logical_and(f.ge(tap, 0), f.le(tap, n - 1))
    elif boundary == "wrap":
        tap = f.mod(tap, n)
    elif boundary == "reflect":
        tap = reflected(tap, -0.5, n)
    elif boundary == "mirror":
        tap = reflected(tap, 0.0, n - 1)
    return f.maximum(f.minimum(tap, n - 1), 0), valid  # clamped in any case: coordinates may be nan


def reflected(v: Node, low: float, span: int) -> Node:
    """``v`` reflected at ``low`` and at ``low + span`` until it lies between them."""
    length = f.constant(span, v.dtype)
    period = f.maximum(f.mul(length, 2), 1e-30)  # an axis of one element reflects to it
    t = f.mod(f.sub(v, low), period)
    return f.add(f.minimum(t, f.sub(f.mul(length, 2), t)), low)


def map_coordinates(x, coordinates: Sequence, method: str = "linear", boundary: str = "constant", fill: float = 0.0) -> Node:
    """SciPy's map_coordinates: ``x`` at points given by one array of coordinates an axis, all of one shape (the result's)."""
    x = f.constant(x)
    nodes = [f.constant(c) for c in coordinates]
    nodes = [c if c.dtype.is_float else f.cast(c, float32) for c in nodes]
    if len(nodes) != x.rank or any(c.shape != nodes[0].shape for c in nodes):
        raise ShapeError(f"map_coordinates of {x.type} needs {x.rank} arrays of one shape, got {[str(c.type) for c in nodes]}")
    y = sample(f.expand_dims(x, (0, x.rank + 1)), f.expand_dims(f.stack(nodes, -1), (0,)), method, boundary, fill)
    return f.reshape(y, nodes[0].shape)
