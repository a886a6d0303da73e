"""Regions of images resampled to one size (He et al., Mask R-CNN, https://arxiv.org/abs/1703.06870; ONNX's RoiAlign)."""

from __future__ import annotations

from ...runtime.dtype import float32, int64
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.graph import Node
from . import functional as f


def roi_align(
    x, boxes, images, size: tuple[int, int], samples: int, scale: float = 1.0, half_pixel: bool = True, maximum: bool = False
) -> Node:
    """(R, *size, C): regions ``boxes`` (R, 4: x1, y1, x2, y2, times ``scale`` in elements) of the images (N, H, W, C) that
    ``images`` (R) numbers.

    Each bin joins ``samples`` x ``samples`` points, evenly spread, interpolated between their four neighbours: their mean, or with
    ``maximum`` the greatest weighted neighbour of all (as ONNX and ORT define it). ``half_pixel``: elements' centres lie at halves;
    without it regions are at least one element wide. Points more than one element outside count as 0.
    """
    x, boxes, images = f.constant(x), f.constant(boxes), f.constant(images)
    if x.rank != 4 or boxes.rank != 2 or images.rank != 1 or boxes.shape[1] != 4 or boxes.shape[0] != images.shape[0]:
        raise ShapeError(f"roi_align needs images (N, H, W, C), boxes (R, 4) and R image numbers, got {x.type}, {boxes.type}, {images.type}")
    if samples < 1 or min(size) < 1:
        raise ArgumentError(f"roi_align: at least one sample a bin and one bin an axis are needed, got {samples} and {size}")
    dtype = x.dtype
    x, boxes = (v if v.dtype.itemsize >= 4 and v.dtype.is_float else f.cast(v, float32) for v in (x, boxes))
    regions = boxes.shape[0]
    wide = (regions, *size, samples, samples, 2, 2)
    places, weight, inside = [f.broadcast_to(f.reshape(f.cast(images, int64), (regions, *[1] * 6)), wide)], None, None
    for axis in range(2):
        place, share, valid = _points(boxes, 1 - axis, x.shape[1 + axis], size[axis], samples, scale, half_pixel)
        shape = (regions, *[size[a] if a == axis else 1 for a in range(2)], *[samples if a == axis else 1 for a in range(2)])
        ends = tuple([2 if a == axis else 1 for a in range(2)])
        places.append(f.broadcast_to(f.reshape(place, (*shape, *ends)), wide))
        share = f.broadcast_to(f.reshape(share, (*shape, *ends)), wide)
        valid = f.broadcast_to(f.reshape(valid, (*shape, 1, 1)), wide)
        weight = share if weight is None else f.mul(weight, share)
        inside = valid if inside is None else f.logical_and(inside, valid)
    weight = f.cast(f.where(inside, weight, 0.0), x.dtype)
    values = f.gather_nd(x, f.stack(places, -1))
    values = f.mul(values, f.broadcast_to(f.expand_dims(weight, (-1,)), values.shape))
    if maximum:
        return f.cast(f.max_(values, (3, 4, 5, 6)), dtype)
    return f.cast(f.mul(f.sum_(values, (3, 4, 5, 6)), 1.0 / samples**2), dtype)


def _points(
    boxes: Node, axis: int, n: int, bins: int, samples: int, scale: float, half_pixel: bool
) -> tuple[Node, Node, Node]:
    """On one axis of ``n`` elements: the neighbours of each point (R, bins, samples, 2), their shares, which points count."""
    low, high = (
        f.sub(f.mul(f.slice_(boxes, (0, c), (boxes.shape[0], c + 1)), scale), 0.5 if half_pixel else 0.0) for c in (axis, axis + 2)
    )
    span = f.sub(high, low)
    span = span if half_pixel else f.maximum(span, 1.0)
    step = f.div(span, float(bins))
    each = f.cast(f.iota((1, bins * samples), 1), boxes.dtype)
    bin_ = f.floor(f.div(f.add(each, 0.5), float(samples)))
    point = f.sub(each, f.mul(bin_, float(samples)))
    at = f.add(f.add(low, f.mul(bin_, step)), f.div(f.mul(f.add(point, 0.5), step), float(samples)))
    valid = f.logical_and(f.ge(at, -1.0), f.le(at, f.constant(n, at.dtype)))
    at = f.minimum(f.maximum(at, 0.0), f.constant(n - 1, at.dtype))
    below = f.stop_gradient(f.floor(at))
    share = f.sub(at, below)
    first = f.cast(below, int64)
    second = f.minimum(f.add(first, 1), n - 1)
    shape = (boxes.shape[0], bins, samples)
    pair = (*shape, 2)
    places = f.reshape(f.stack([first, second], -1), pair)
    return places, f.reshape(f.stack([f.sub(1.0, share), share], -1), pair), f.reshape(valid, shape)
