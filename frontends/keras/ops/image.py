"""``ops.image``: resizing, cropping, patches, colours, filters, sampling at transformed coordinates. Images are (H, W, C) or (N, H, W, C),
channels last or first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....compiler.ops.lift import operands
from ....runtime.dim import Dim
from ....runtime.dtype import float32
from ....runtime.errors import ArgumentError, DTypeError, ShapeError
from .. import config
from ..tensor import known_shape
from .arithmetic import floating
from .define import operation
from .spatial import padding_pairs, per_axis

IMAGE = "keras.src.ops.image"
INTERPOLATIONS = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic", "lanczos3": "lanczos3", "lanczos5": "lanczos5"}
FILL_MODES = {"constant": "constant", "nearest": "border", "wrap": "wrap", "mirror": "mirror", "reflect": "reflect"}


def _images(name: str, images: Any, data_format: str | None, rank: int = 4) -> tuple[Node, Callable[[Node], Node]]:
    """A batch with channels last, and what brings a result of this form back to the form of ``images``."""
    x = F.constant(images)
    if x.rank not in (rank - 1, rank):
        raise ShapeError(f"ops.image.{name} needs images of rank {rank - 1}, or {rank} for a batch; got shape {known_shape(x.shape)}")
    single, first = x.rank == rank - 1, config.standardize_data_format(data_format) == "channels_first"
    x = F.expand_dims(x, 0) if single else x
    x = F.transpose(x, (0, *range(2, rank), 1)) if first else x

    def back(y: Node) -> Node:
        y = F.transpose(y, (0, rank - 1, *range(1, rank - 1), *range(rank, y.rank))) if first else y
        return F.squeeze(y, 0) if single else y

    return x, back


def _known(name: str, x: Node) -> tuple[int, int]:
    h, w = x.shape[1:3]
    if type(h) is Dim or type(w) is Dim:
        raise ShapeError(f"ops.image.{name}: the height and width of the images must be known, got shape {known_shape(x.shape)}")
    return h, w


def _choose(name: str, argument: str, value: Any, table: dict) -> Any:
    if value not in table:
        raise ArgumentError(f"ops.image.{name}: {argument} must be one of {', '.join(table)}, got {value!r}")
    return table[value]


@operation(IMAGE)
def resize(images: Any, size: Any, interpolation: str = "bilinear", antialias: bool = False, crop_to_aspect_ratio: bool = False,
           pad_to_aspect_ratio: bool = False, fill_mode: str = "constant", fill_value: float = 0.0, data_format: str | None = None) -> Any:
    """Images of ``size`` (height, width). The aspect ratio changes, unless the middle of the right ratio is cut out first
    (``crop_to_aspect_ratio``), or ``fill_value`` put around (``pad_to_aspect_ratio``). Integers become floats, but by "nearest"."""
    method = _choose("resize", "interpolation", interpolation, INTERPOLATIONS)
    if fill_mode != "constant":
        raise ArgumentError(f"ops.image.resize: fill_mode can only be 'constant', got {fill_mode!r}")
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ArgumentError("ops.image.resize: only one of crop_to_aspect_ratio and pad_to_aspect_ratio can be True")
    height, width = per_axis(size, 2, "size")
    x, back = _images("resize", images, data_format)
    if method != "nearest":
        x = floating(x)
    if crop_to_aspect_ratio or pad_to_aspect_ratio:
        h, w = _known("resize", x)
        wanted = int(float(w * height) / width), int(float(h * width) / height)
        if crop_to_aspect_ratio:
            ch, cw = max(min(h, wanted[0]), 1), max(min(w, wanted[1]), 1)
            top, left = (h - ch) // 2, (w - cw) // 2
            x = F.slice_(x, (0, top, left, 0), (x.shape[0], top + ch, left + cw, x.shape[3]))
        else:
            top, left = (max(h, wanted[0]) - h) // 2, (max(w, wanted[1]) - w) // 2
            left = 0 if top else left
            x = F.pad(x, ((0, 0), (top, top), (left, left), (0, 0)), fill_value)
    return back(F.resize(x, (height, width), (1, 2), method, antialias=antialias, exclude_outside=True, rounding="round_prefer_ceil", cubic_a=-0.5))


def _margins(name: str, what: str, size: int, before: Any, after: Any, target: Any, growth: int) -> tuple[int, int]:
    """(before, after) of one axis, of which two of three are given: target = size + growth (before + after)."""
    if [before, after, target].count(None) != 1:
        raise ArgumentError(f"ops.image.{name}: give exactly two of the margin before, the margin behind and the target of the {what}, got "
                            f"{before}, {after} and {target}")
    if target is not None:
        total = (target - size) * growth
        before, after = (total - after, after) if before is None else (before, total - before)
    for v in (before, after):
        if type(v) is not Dim and v < 0:
            raise ArgumentError(f"ops.image.{name}: margins {before} and {after} of the {what} ({size}) can't be negative")
    return before, after


@operation(IMAGE)
def pad_images(images: Any, top_padding: Any = None, left_padding: Any = None, bottom_padding: Any = None, right_padding: Any = None,
               target_height: Any = None, target_width: Any = None, data_format: str | None = None) -> Any:
    """Zeros around images; of each axis two of the three: what comes before, what comes behind, the size aimed at."""
    x, back = _images("pad_images", images, data_format)
    rows = _margins("pad_images", "height", x.shape[1], top_padding, bottom_padding, target_height, 1)
    columns = _margins("pad_images", "width", x.shape[2], left_padding, right_padding, target_width, 1)
    return back(F.pad(x, ((0, 0), rows, columns, (0, 0))))


@operation(IMAGE)
def crop_images(images: Any, top_cropping: Any = None, left_cropping: Any = None, bottom_cropping: Any = None, right_cropping: Any = None,
                target_height: Any = None, target_width: Any = None, data_format: str | None = None) -> Any:
    """A part of images; of each axis two of the three: what goes before, what goes behind, the size that stays."""
    x, back = _images("crop_images", images, data_format)
    top, bottom = _margins("crop_images", "height", x.shape[1], top_cropping, bottom_cropping, target_height, -1)
    left, right = _margins("crop_images", "width", x.shape[2], left_cropping, right_cropping, target_width, -1)
    for n, a, b, what in ((x.shape[1], top, bottom, "height"), (x.shape[2], left, right, "width")):
        if type(n) is not Dim and a + b > n:
            raise ShapeError(f"ops.image.crop_images: {a} + {b} are more than the {what} {n}")
    return back(F.pad(x, ((0, 0), (-top, -bottom), (-left, -right), (0, 0))))


def _patches(name: str, images: Any, size: Any, strides: Any, dilation_rate: Any, padding: str, data_format: str | None, d: int) -> Node:
    window = per_axis(size, d, "size")
    strides = window if strides is None else per_axis(strides, d, "strides")
    dilation = per_axis(dilation_rate, d, "dilation_rate")
    x, back = _images(name, images, data_format, d + 2)
    pads = padding_pairs(padding.lower(), x.shape[1:-1], window, strides, dilation)
    out = F.im2col(x, window, strides, pads, dilation)
    return back(F.reshape(out, (*out.shape[:1 + d], math.prod(window) * x.shape[-1])))


@operation(IMAGE)
def extract_patches(images: Any, size: Any, strides: Any = None, dilation_rate: Any = 1, padding: str = "valid", data_format: str | None = None) -> Any:
    """Patches of images (of volumes where ``size`` has three numbers), each one's elements side by side as channels."""
    d = 2 if isinstance(size, int) else len(size)
    if d not in (2, 3):
        raise ArgumentError(f"ops.image.extract_patches: size needs one, two or three numbers, got {size!r}")
    return _patches("extract_patches", images, size, strides, dilation_rate, padding, data_format, d)


def extract_patches_3d(volumes: Any, size: Any, strides: Any = None, dilation_rate: Any = 1, padding: str = "valid", data_format: str | None = None) -> Any:
    """Patches of volumes (D, H, W, C), each one's elements side by side as channels."""
    return extract_patches(volumes, per_axis(size, 3, "size"), strides, dilation_rate, padding, data_format)


def _colours(name: str, images: Any, data_format: str | None) -> tuple[list[Node], Callable[[Node], Node]]:
    """The three channels of images, each (N, H, W, 1)."""
    x, back = _images(name, images, data_format)
    if not x.dtype.is_float:
        raise DTypeError(f"ops.image.{name} needs floats in [0, 1], got {x.dtype}")
    if x.shape[-1] != 3:
        raise ShapeError(f"ops.image.{name} needs 3 channels, got {x.shape[-1]} (shape {known_shape(F.constant(images).shape)})")
    return F.split(x, 3, -1), back


@operation(IMAGE, name="RGBToGrayscale")
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Any:
    """The brightness, 0.2989 R + 0.5870 G + 0.1140 B, as one channel; of one channel: itself."""
    x, back = _images("rgb_to_grayscale", images, data_format)
    if x.shape[-1] == 1:
        return F.constant(images)
    if x.shape[-1] != 3:
        raise ShapeError(f"ops.image.rgb_to_grayscale needs 3 channels, or 1, got {x.shape[-1]}")
    wide = floating(x)
    share = F.constant(np.array([0.2989, 0.5870, 0.1140]), wide.dtype)
    return back(F.cast(F.sum_(F.mul(wide, share), 3, True), x.dtype))


@operation(IMAGE, name="RGBToHSV")
def rgb_to_hsv(images: Any, data_format: str | None = None) -> Any:
    """Hue, saturation and value, each in [0, 1], of colours in [0, 1]."""
    channels, back = _colours("rgb_to_hsv", images, data_format)
    import ml_dtypes

    least = float(ml_dtypes.finfo(channels[0].dtype.np).eps)
    r, g, b = (F.where(F.lt(F.abs_(c), least), 0.0, c) for c in channels)
    value = F.maximum(F.maximum(r, g), b)
    span = F.sub(value, F.minimum(F.minimum(r, g), b))
    coloured = F.gt(span, 0)
    saturation = F.where(F.gt(value, 0), F.div(span, F.where(F.gt(value, 0), value, 1.0)), 0.0)
    norm = F.div(1.0, F.mul(F.where(coloured, span, 1.0), 6.0))
    hue = F.where(F.eq(value, g), F.add(F.mul(norm, F.sub(b, r)), 2 / 6), F.add(F.mul(norm, F.sub(r, g)), 4 / 6))
    hue = F.where(F.eq(value, r), F.mul(norm, F.sub(g, b)), hue)
    hue = F.add(F.where(coloured, hue, 0.0), F.cast(F.lt(hue, 0.0), hue.dtype))
    return back(F.concat([hue, saturation, value], -1))


@operation(IMAGE, name="HSVToRGB")
def hsv_to_rgb(images: Any, data_format: str | None = None) -> Any:
    """Colours in [0, 1] of hue, saturation and value."""
    (hue, saturation, value), back = _colours("hsv_to_rgb", images, data_format)
    turn = F.mul(F.mod(hue, 1.0), 6.0)
    shares = (F.sub(F.abs_(F.sub(turn, 3.0)), 1.0), F.sub(2.0, F.abs_(F.sub(turn, 2.0))), F.sub(2.0, F.abs_(F.sub(turn, 4.0))))
    rest = F.sub(1.0, saturation)
    return back(F.concat([F.mul(value, F.add(rest, F.mul(saturation, F.clip(s, 0.0, 1.0)))) for s in shares], -1))


def _filtered(x: Node, rows: np.ndarray, columns: np.ndarray, padding: str) -> Node:
    """Every channel with the product of two vectors: one convolution an axis."""
    channels = x.shape[-1]
    for axis, weights in ((0, rows), (1, columns)):
        shape = (len(weights), 1) if axis == 0 else (1, len(weights))
        kernel = F.broadcast_to(F.reshape(F.constant(weights, x.dtype), (*shape, 1, 1)), (*shape, 1, channels))
        pads = padding_pairs(padding, x.shape[1:3], shape, (1, 1), (1, 1))
        x = F.conv(x, kernel, (1, 1), pads, (1, 1), channels)
    return x


def _gaussian(size: int, sigma: float) -> np.ndarray:
    if size < 1 or sigma <= 0:
        raise ArgumentError(f"a Gaussian filter needs a positive size and sigma, got {size} and {sigma}")
    weights = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    return weights / weights.sum()


@operation(IMAGE)
def gaussian_blur(images: Any, kernel_size: Any = (3, 3), sigma: Any = (1.0, 1.0), data_format: str | None = None) -> Any:
    """Images smoothed by a Gaussian of ``kernel_size`` and ``sigma`` (width first, then height, as Keras' code has it); zeros outside."""
    x, back = _images("gaussian_blur", images, data_format)
    x = floating(x)
    (kw, kh), (sw, sh) = per_axis(kernel_size, 2, "kernel_size"), [float(v) for v in np.broadcast_to(np.asarray(sigma), 2)]
    return back(_filtered(x, _gaussian(kh, sh), _gaussian(kw, sw), "same"))


@operation(IMAGE)
def sobel_edges(images: Any, data_format: str | None = None) -> Any:
    """(..., 2): how brightness grows downwards and to the right, by Sobel's filters; zeros outside."""
    x, back = _images("sobel_edges", images, data_format)
    x = floating(x)
    slope, smooth = np.array([-1.0, 0, 1]), np.array([1.0, 2, 1])
    return back(F.stack([_filtered(x, slope, smooth, "same"), _filtered(x, smooth, slope, "same")], -1))


@operation(IMAGE, 2, name="SSIM")
def ssim(image1: Any, image2: Any, max_val: float = 1.0, filter_size: int = 11, filter_sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03,
         data_format: str | None = None) -> Any:
    """The structural similarity of images (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861): a number for each image."""
    a, b = operands("ops.image.ssim", image1, image2)
    if a.shape != b.shape:
        raise ShapeError(f"ops.image.ssim: images of shapes {known_shape(a.shape)} and {known_shape(b.shape)} can't be compared")
    single, dtype = a.rank == 3, a.dtype
    x, y = (floating(_images("ssim", v, data_format)[0]) for v in (a, b))
    weights = _gaussian(filter_size, filter_sigma)

    def mean(v: Node) -> Node:
        return _filtered(v, weights, weights, "valid")

    mx, my = mean(x), mean(y)
    vx, vy = F.sub(mean(F.square(x)), F.square(mx)), F.sub(mean(F.square(y)), F.square(my))
    common = F.sub(mean(F.mul(x, y)), F.mul(mx, my))
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    above = F.mul(F.add(F.mul(F.mul(mx, my), 2.0), c1), F.add(F.mul(common, 2.0), c2))
    below = F.mul(F.add(F.add(F.square(mx), F.square(my)), c1), F.add(F.add(vx, vy), c2))
    out = F.cast(F.mean(F.div(above, below), (1, 2, 3)), dtype)
    return F.squeeze(out, 0) if single else out


def _rounded(points: Node) -> Node:
    """To whole numbers, halves away from zero."""
    return F.mul(F.sign(points), F.floor(F.add(F.abs_(points), 0.5)))


@operation(IMAGE, 2)
def map_coordinates(inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0) -> Any:
    """``inputs`` at ``coordinates`` (rank of inputs, *shape of the result), by the nearest element (order 0) or linearly (1)."""
    x, at = F.constant(inputs), floating(coordinates)
    boundary = _choose("map_coordinates", "fill_mode", fill_mode, FILL_MODES)
    if order not in (0, 1):
        raise ArgumentError(f"ops.image.map_coordinates: order must be 0 or 1, got {order!r}")
    if at.rank < 2 or at.shape[0] != x.rank:
        raise ShapeError(f"ops.image.map_coordinates: inputs of shape {known_shape(x.shape)} need coordinates ({x.rank}, ...), got {known_shape(at.shape)}")
    at = _rounded(at) if order == 0 else at
    parts = [F.squeeze(p, 0) for p in F.split(at, [1] * x.rank, 0)]
    return F.map_coordinates(x, parts, "linear" if order else "nearest", boundary, float(fill_value))


def _sampled(x: Node, points: Node, interpolation: str, boundary: str, fill_value: float) -> Node:
    points = _rounded(points) if interpolation == "nearest" else points
    return F.sample(x, points, interpolation, boundary, float(fill_value))


def _projected(x: Node, m: list[Node]) -> Node:
    """(N, H, W, 2): where each pixel reads, by projective maps given as 8 numbers (N, 1, 1)."""
    n, (h, w) = x.shape[0], x.shape[1:3]
    row, column = (F.cast(F.iota((1, h, w), a), float32) for a in (1, 2))

    def line(a: Node, b: Node, c: Any) -> Node:
        return F.add(F.add(F.mul(a, column), F.mul(b, row)), c)

    below = line(m[6], m[7], 1.0)
    both = [F.div(line(*m[3:6]), below), F.div(line(*m[:3]), below)]
    return F.broadcast_to(F.stack(both, -1), (n, h, w, 2))


def _coefficients(name: str, maps: Node, batch: int) -> list[Node]:
    maps = F.expand_dims(maps, 0) if maps.rank == 1 else maps
    if maps.rank != 2 or maps.shape[1] != 8 or type(maps.shape[0]) is not Dim and type(batch) is not Dim and maps.shape[0] not in (1, batch):
        raise ShapeError(f"ops.image.{name}: {batch} images need a transform of 8 numbers, or one for each image, got shape {known_shape(maps.shape)}")
    return [F.reshape(c, (-1, 1, 1)) for c in F.split(F.cast(maps, float32), [1] * 8, 1)]


@operation(IMAGE, 2)
def affine_transform(images: Any, transform: Any, interpolation: str = "bilinear", fill_mode: str = "constant", fill_value: float = 0,
                     data_format: str | None = None) -> Any:
    """Images whose pixel (x, y) is read at ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k), k = c0 x + c1 y + 1, for ``transform``
    [a0, a1, a2, b0, b1, b2, c0, c1] (one, or one for each image)."""
    method = _choose("affine_transform", "interpolation", interpolation, {"nearest": "nearest", "bilinear": "linear"})
    boundary = _choose("affine_transform", "fill_mode", fill_mode, FILL_MODES)
    x, back = _images("affine_transform", images, data_format)
    return back(_sampled(x, _projected(x, _coefficients("affine_transform", F.constant(transform), x.shape[0])), method, boundary, fill_value))


@operation(IMAGE, 3)
def perspective_transform(images: Any, start_points: Any, end_points: Any, interpolation: str = "bilinear", fill_value: float = 0,
                          data_format: str | None = None) -> Any:
    """Images warped so that four points (x, y) of ``start_points`` (4, 2), or (N, 4, 2), come to ``end_points``."""
    method = _choose("perspective_transform", "interpolation", interpolation, {"nearest": "nearest", "bilinear": "linear"})
    x, back = _images("perspective_transform", images, data_format)
    start, end = (F.cast(F.constant(p), float32) for p in (start_points, end_points))
    if start.shape != end.shape or start.rank not in (2, 3) or start.shape[-2:] != (4, 2):
        raise ShapeError(f"ops.image.perspective_transform needs points (4, 2) or (N, 4, 2), got {known_shape(start.shape)} and {known_shape(end.shape)}")
    start, end = (F.reshape(p, (-1, 4, 2)) for p in (start, end))
    (sx, sy), (ex, ey) = ([F.squeeze(c, 2) for c in F.split(p, 2, 2)] for p in (start, end))
    one, zero = F.ones_like(ex), F.zeros_like(ex)
    rows = [F.stack(r, -1) for r in ([ex, ey, one, zero, zero, zero, F.neg(F.mul(sx, ex)), F.neg(F.mul(sx, ey))],
                                     [zero, zero, zero, ex, ey, one, F.neg(F.mul(sy, ex)), F.neg(F.mul(sy, ey))])]
    maps = F.solve(F.concat(rows, 1), F.expand_dims(F.concat([sx, sy], 1), 2))
    points = _projected(x, _coefficients("perspective_transform", F.squeeze(maps, 2), x.shape[0]))
    return back(_sampled(x, points, method, "constant", fill_value))


__all__ = [
    "affine_transform", "crop_images", "extract_patches", "extract_patches_3d", "gaussian_blur", "hsv_to_rgb", "map_coordinates", "pad_images",
    "perspective_transform", "resize", "rgb_to_grayscale", "rgb_to_hsv", "sobel_edges", "ssim",
]
