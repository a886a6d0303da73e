"""Discrete Fourier transforms as matrix products: a complex array is real, its last axis (real, imaginary).

The length is factored (Cooley and Tukey, 1965): n = a * b is b transforms of a, a product with twiddle factors, and a transforms of b, each
a contraction with a small constant matrix, so that transforms run on the contraction templates of every backend. Factors are at most
``LARGEST``; a length with a greater prime factor is Bluestein's convolution ("A linear filtering approach to the computation of the
discrete Fourier transform", 1970) of a length that has none. All constants are computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...runtime.dim import Dim
from ...runtime.dtype import DType, as_dtype, float32, float64, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from . import functional as f
from .base import BadSample, Composite, Sample, shape_text

LARGEST = 64
DIRECT = 32  # lengths up to which one matrix is cheaper than two and the passes between them


def _points(n: int) -> int:
    """A transform's length decides the form of its kernels: it is a number, and guards hold a free one to it."""
    if type(n) is Dim:
        for value in (int(n),):
            if n == value:
                return value
    return int(n)


@dataclass(frozen=True, eq=False)
class DFT(Composite):
    """The transform over the last axis but one of (..., n, 2), without a factor: y[k] = sum of x[j] * exp(-2 pi i j k / n), or with +i where
    ``inverse``. Float32 or float64."""

    inverse: bool = False

    kind = "composite"

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.dtype not in (float32, float64):
            raise DTypeError(f"DFT needs float32 or float64, got {x}")
        if x.rank < 2 or not _is_two(x.shape[-1]):
            raise ShapeError(f"DFT needs (real, imaginary) in the last axis, got {x}")
        return x

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        (x,) = arrays
        z = x[..., 0].astype(np.float64) + 1j * x[..., 1].astype(np.float64)
        if z.shape[-1]:
            z = np.fft.ifft(z, norm="forward") if self.inverse else np.fft.fft(z)
        return np.stack([z.real, z.imag], -1).astype(x.dtype)

    def decompose(self, *inputs: Node) -> Node:
        (x,) = inputs
        n = _points(x.shape[-2])
        if n <= 1 or x.type.size == 0:
            return f.mul(x, 1.0)
        rows = x.type.size // (2 * n)
        y = _transform(f.transpose(f.reshape(x, (rows, n, 2)), (0, 2, 1)), n, -1 if not self.inverse else 1)
        return f.reshape(f.transpose(y, (0, 2, 1)), x.shape)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        # the matrix is symmetric: its conjugate transpose is the transform of the other sign
        return (f.node(DFT(not self.inverse), ct),)

    def flops(self, node: Node) -> int:
        n = node.shape[-2]
        return 5 * (node.type.size // 2) * max(1, int(n).bit_length())

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(cls(inverse), ((rng.standard_normal((*shape, 2)) / max(1, shape[-1]) ** 0.5).astype(dtype),), tags=(tag,))
            for shape, inverse, dtype, tag in [
                ((3, 5), False, np.float32, "odd"),
                ((2, 1, 12), True, np.float64, "broadcast"),
                ((4, 1), False, np.float32, "size1"),
                ((0, 6), False, np.float32, "size0"),
                ((3, 0), True, np.float32, "size0"),
                ((105,), False, np.float64, "odd"),
                ((2, 67), False, np.float32, "odd"),
                ((134,), True, np.float64, "odd"),
                ((128,), True, np.float32, "odd"),
            ]
        ]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x = TensorType((3, 2), float32)
        return [BadSample(cls(), (x.with_shape((3, 3)),), ShapeError, "in the last axis"), BadSample(cls(), (x.with_dtype(int32),), DTypeError, "float32 or float64"),
                BadSample(cls(), (x.with_shape((2,)),), ShapeError, "in the last axis")]


def _is_two(n: int) -> bool:
    return type(n) is not Dim and n == 2


def _split(n: int) -> int:
    """The factor of n, other than 1 and n, that is nearest to its root and at most LARGEST; 1 where there is none."""
    factors = [d for d in range(2, min(LARGEST, n - 1) + 1) if n % d == 0]
    return min(factors, key=lambda d: max(d, n // d), default=1)


def _smooth(n: int) -> bool:
    """Whether the prime factors of n are at most LARGEST."""
    for p in range(2, LARGEST + 1):
        while n % p == 0:
            n //= p
    return n == 1


def _matrix(n: int, sign: int, dtype: DType) -> Node:
    """The transform of n points as the real array [part, j, part', k]."""
    w = _roots(np.outer(np.arange(n), np.arange(n)), n, sign)
    return f.constant(np.stack([np.stack([w.real, w.imag], 1), np.stack([-w.imag, w.real], 1)]).astype(dtype.np))


def _roots(exponents: np.ndarray, n: int, sign: int) -> np.ndarray:
    """exp(sign * 2 pi i * e / n); e is reduced first, so that large ones lose nothing."""
    return np.exp(sign * 2j * np.pi * (exponents % n) / n)


def _transform(x: Node, n: int, sign: int) -> Node:
    """Along the last axis of (rows, 2, n): parts before points, so that neighbours in memory are neighbouring points."""
    if n == 1:
        return x
    if not _smooth(n):
        return _bluestein(x, n, sign)
    a = _split(n)
    if n <= DIRECT or a == 1:
        return f.dot_general(x, _matrix(n, sign, x.dtype), ((1, 2), (0, 1)))
    b, rows = n // a, x.shape[0]
    # j = b * j1 + j2, k = k1 + a * k2: transforms of a over j1, twiddles of j2 * k1, transforms of b over j2
    y = f.dot_general(f.reshape(x, (rows, 2, a, b)), _matrix(a, sign, x.dtype), ((1, 2), (0, 1)))  # (rows, j2, part, k1)
    w = _roots(np.outer(np.arange(b), np.arange(a)), n, sign)
    y = _turn(y, 2, w[None, :, :])
    if b <= LARGEST:
        y = f.dot_general(y, _matrix(b, sign, x.dtype), ((2, 1), (0, 1)))  # (rows, k1, part, k2)
        return f.reshape(f.transpose(y, (0, 2, 3, 1)), (rows, 2, n))
    y = _transform(f.reshape(f.transpose(y, (0, 3, 2, 1)), (rows * a, 2, b)), b, sign)
    return f.reshape(f.transpose(f.reshape(y, (rows, a, 2, b)), (0, 2, 3, 1)), (rows, 2, n))


def _turn(x: Node, axis: int, w: np.ndarray) -> Node:
    """x, whose ``axis`` holds the two parts, times complex constants (of x's shape without that axis, or broadcast to it)."""
    dtype = x.dtype.np
    re, im = (f.squeeze(p, (axis,)) for p in f.split(x, [1, 1], axis))
    u, v = f.constant(np.ascontiguousarray(w.real).astype(dtype)), f.constant(np.ascontiguousarray(w.imag).astype(dtype))
    return f.stack([f.sub(f.mul(re, u), f.mul(im, v)), f.add(f.mul(re, v), f.mul(im, u))], axis)


def _bluestein(x: Node, n: int, sign: int) -> Node:
    """With j * k = (j^2 + k^2 - (k - j)^2) / 2 the sum is a convolution with a chirp."""
    m = 2 * n - 1
    while not _smooth(m):
        m += 1
    j = np.arange(n)
    chirp = _roots(j * j, 2 * n, sign)
    kernel = np.zeros(m, np.complex128)
    kernel[:n] = chirp.conj()
    kernel[m - n + 1:] = chirp[1:][::-1].conj()
    spectrum = np.fft.fft(kernel) / m
    y = f.pad(_turn(x, 1, chirp), ((0, 0), (0, 0), (0, m - n)))
    y = _transform(_turn(_transform(y, m, -1), 1, spectrum), m, 1)
    return _turn(f.slice_(y, (0, 0, 0), (y.shape[0], 2, n)), 1, chirp)


def take_part(x: Node, i: int) -> Node:
    """The real (0) or imaginary (1) part of (..., 2)."""
    return f.squeeze(f.slice_(x, (0,) * (x.rank - 1) + (i,), (*x.shape[:-1], i + 1)), (x.rank - 1,))


def pair(re, im) -> Node:
    """(..., 2) of two real arrays."""
    return f.stack([re, im], -1)


def _computable(name: str, *parts) -> list[Node]:
    nodes = list(f.operands(name, *[f.floating(p) for p in parts]))
    if nodes[0].dtype not in (float32, float64):
        nodes = [f.cast(v, float32) for v in nodes]
    return nodes


def _complex(name: str, x) -> tuple[Node, Node]:
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ArgumentError(f"{name} takes a pair (real, imaginary), got {type(x).__name__}")
    re, im = _computable(name, *x)
    if not re.type.same(im.type):
        raise ShapeError(f"{name}: the real part has shape {shape_text(re.shape)}, the imaginary part {shape_text(im.shape)}")
    return re, im


def _resized(x: Node, axis: int, n: int) -> Node:
    """Cut or filled up with zeros at the end of the axis."""
    have = x.shape[axis]
    return x if type(n) is not Dim and type(have) is not Dim and n == have else f.pad(x, [(0, n - have) if i == axis else (0, 0) for i in range(x.rank)])


def _along(name: str, re: Node, im: Node, axis: int, inverse: bool) -> tuple[Node, Node]:
    axis = f.one_axis(name, axis, re.rank)
    perm = [*[i for i in range(re.rank) if i != axis], axis]
    back = [perm.index(i) for i in range(re.rank)]
    y = f.node(DFT(inverse), pair(f.transpose(re, perm), f.transpose(im, perm)))
    return f.transpose(take_part(y, 0), back), f.transpose(take_part(y, 1), back)


def _scaled(x: tuple[Node, Node], by: float) -> tuple[Node, Node]:
    return f.mul(x[0], by), f.mul(x[1], by)


def fft(x, axis: int = -1) -> tuple[Node, Node]:
    """The transform of a pair (real, imaginary) along an axis."""
    re, im = _complex("fft", x)
    return _along("fft", re, im, axis, False)


def ifft(x, axis: int = -1) -> tuple[Node, Node]:
    """The inverse of ``fft``."""
    re, im = _complex("ifft", x)
    n = _points(re.shape[f.one_axis("ifft", axis, re.rank)])
    return _scaled(_along("ifft", re, im, axis, True), 1 / max(n, 1))


def fft2(x) -> tuple[Node, Node]:
    """``fft`` over the last two axes."""
    return fft(fft(x, -1), -2)


def ifft2(x) -> tuple[Node, Node]:
    return ifft(ifft(x, -1), -2)


def rfft(x, n: int | None = None, axis: int = -1) -> tuple[Node, Node]:
    """The n // 2 + 1 first terms of a real array's transform along ``axis``, cut or filled up to ``n`` elements. An even length is a
    transform of half the length."""
    (x,) = _computable("rfft", x)
    axis = f.one_axis("rfft", axis, x.rank)
    n = _points(x.shape[axis] if n is None else n)
    if n < 1:
        raise ArgumentError(f"rfft needs at least one point, got {n}")
    x = _resized(x, axis, n)
    perm = [*[i for i in range(x.rank) if i != axis], axis]
    back = [perm.index(i) for i in range(x.rank)]
    x = f.transpose(x, perm)
    outer = x.shape[:-1]
    if n % 2 or n < 4:
        y = f.node(DFT(), pair(x, f.zeros_like(x)))
        y = f.slice_(y, (0,) * y.rank, (*outer, n // 2 + 1, 2))
        return f.transpose(take_part(y, 0), back), f.transpose(take_part(y, 1), back)
    # neighbours are one complex number z: with Z its transform, X[k] = (Z[k] + conj Z[h-k]) / 2 - i e^(-2 pi i k / n) (Z[k] - conj Z[h-k]) / 2
    h = n // 2
    z = f.node(DFT(), f.reshape(x, (*outer, h, 2)))
    index = np.arange(h + 1)
    axis_of = z.rank - 2
    head = f.slice_(z, (0,) * z.rank, (*outer, 1, 2))
    one, other = f.concat([z, head], axis_of), f.concat([head, f.flip(z, (axis_of,))], axis_of)
    even = pair(f.mul(f.add(take_part(one, 0), take_part(other, 0)), 0.5), f.mul(f.sub(take_part(one, 1), take_part(other, 1)), 0.5))
    odd = pair(f.mul(f.add(take_part(one, 1), take_part(other, 1)), 0.5), f.mul(f.sub(take_part(other, 0), take_part(one, 0)), 0.5))
    y = f.add(even, _turn(odd, odd.rank - 1, _roots(index, n, -1)))
    return f.transpose(take_part(y, 0), back), f.transpose(take_part(y, 1), back)


def irfft(x, n: int | None = None, axis: int = -1) -> Node:
    """The real array of ``n`` elements (None: 2 * (m - 1)) whose transform begins with the m terms given; imaginary parts of the first,
    and of the middle one, count as 0."""
    re, im = _complex("irfft", x)
    axis = f.one_axis("irfft", axis, re.rank)
    n = _points(2 * (re.shape[axis] - 1) if n is None else n)
    if n < 1:
        raise ArgumentError(f"irfft needs at least one point, got {n}; give n for a spectrum of one term")
    half = n // 2 + 1
    re, im = _resized(re, axis, half), _resized(im, axis, half)
    index = np.arange(n)
    mirrored = f.constant(np.where(index < half, index, n - index).astype(np.int32))
    sign = np.where(index < half, 1.0, -1.0)
    sign[0] = 0
    if n % 2 == 0:
        sign[n // 2] = 0
    shape = [n if i == axis else 1 for i in range(re.rank)]
    re = f.take(re, mirrored, axis)
    im = f.mul(f.take(im, mirrored, axis), f.constant(sign.reshape(shape).astype(im.dtype.np)))
    return f.mul(_along("irfft", re, im, axis, True)[0], 1 / n)


def frames(x, length: int, stride: int) -> Node:
    """The windows of ``length`` elements that begin every ``stride`` elements of the last axis: (..., frames, length)."""
    x = f.constant(x)
    n = x.shape[-1]
    if length < 1 or stride < 1:
        raise ArgumentError(f"frames: length and stride are at least 1, got {length} and {stride}")
    if type(n) is not Dim and n < length:
        raise ShapeError(f"frames: an axis of {n} elements holds no window of {length}")
    windows = f.im2col(f.reshape(x, (-1, n, 1)), (length,), (stride,))
    return f.reshape(windows, (*x.shape[:-1], *windows.shape[1:3]))


def overlap_add(x, stride: int) -> Node:
    """The sum of windows (..., frames, length) laid out every ``stride`` elements: the transpose of ``frames``."""
    x = f.constant(x)
    count, length = x.shape[-2:]
    total = stride * (count - 1) + length
    added = f.col2im(f.reshape(x, (-1, count, length, 1)), (total,), (stride,))
    return f.reshape(added, (*x.shape[:-2], total))


def window_of(name: str | None, length: int, size: int, dtype: DType) -> np.ndarray:
    """A periodic window ("hann", "hamming", None: ones) of ``length`` in the middle of ``size`` zeros."""
    k = np.arange(length)
    if name == "hann":
        w = 0.5 - 0.5 * np.cos(2 * np.pi * k / length)
    elif name == "hamming":
        w = 0.54 - 0.46 * np.cos(2 * np.pi * k / length)
    elif name is None:
        w = np.ones(length)
    else:
        raise ArgumentError(f"a window is 'hann', 'hamming', None or an array, got {name!r}")
    left = (size - length) // 2
    return np.pad(w, (left, size - length - left)).astype(as_dtype(dtype).np)


def _window(name: str, window, length: int, size: int, dtype: DType) -> Node:
    if length > size:
        raise ArgumentError(f"{name}: sequence_length {length} is greater than fft_length {size}")
    if window is None or isinstance(window, str):
        return f.constant(window_of(window, length, size, dtype))
    w = f.cast(f.constant(window), dtype)
    if w.rank != 1 or w.shape[0] != length:
        raise ShapeError(f"{name}: the window must have {length} elements, has shape {shape_text(w.shape)}")
    left = (size - length) // 2
    return f.pad(w, ((left, size - length - left),))


def stft(x, sequence_length: int, sequence_stride: int, fft_length: int, window="hann", center: bool = True) -> tuple[Node, Node]:
    """Transforms of windowed frames of the last axis: a pair (..., frames, fft_length // 2 + 1). ``center``: the signal is reflected at its
    ends by half a transform (Keras' and SciPy's conventions)."""
    (x,) = _computable("stft", x)
    if not 1 <= sequence_length <= fft_length or sequence_stride < 1:
        raise ArgumentError(f"stft: 1 <= sequence_length <= fft_length and sequence_stride >= 1 are needed, got {sequence_length}, {fft_length} and {sequence_stride}")
    if center:
        x = _reflect(x, fft_length // 2)
    w = _window("stft", window, sequence_length, fft_length, x.dtype)
    return rfft(f.mul(frames(x, fft_length, sequence_stride), w), fft_length)


def _reflect(x: Node, by: int) -> Node:
    n = x.shape[-1]
    if type(n) is not Dim and n <= by:
        raise ShapeError(f"stft: {n} elements can't be reflected by {by}; give center=False or a longer signal")
    at = f.sub(f.iota((n + 2 * by,), 0), by)
    at = f.abs_(at)
    last = f.sub(f.constant(n, int32), 1)
    return f.take(x, f.sub(last, f.abs_(f.sub(last, at))), x.rank - 1)


def istft(x, sequence_length: int, sequence_stride: int, fft_length: int, length: int | None = None, window="hann", center: bool = True) -> Node:
    """The signal whose ``stft`` is the pair given: frames overlap and are added, over the sum of squared windows."""
    re, im = _complex("istft", x)
    if not 1 <= sequence_length <= fft_length or sequence_stride < 1:
        raise ArgumentError(f"istft: 1 <= sequence_length <= fft_length and sequence_stride >= 1 are needed, got {sequence_length}, {fft_length} and {sequence_stride}")
    expected = sequence_stride * (re.shape[-2] - 1) + fft_length
    w = _window("istft", window, sequence_length, fft_length, re.dtype)
    y = overlap_add(f.mul(irfft((re, im), fft_length), w), sequence_stride)
    weight = overlap_add(f.broadcast_to(f.square(w), (re.shape[-2], fft_length)), sequence_stride)
    y = f.where(f.gt(f.broadcast_to(weight, y.shape), 1e-10), f.div(y, f.where(f.gt(weight, 1e-10), weight, 1.0)), y)
    start = fft_length // 2 if center else 0
    end = start + length if length is not None else expected - start if center else expected
    return f.slice_(f.pad(y, [(0, 0)] * (y.rank - 1) + [(0, _more(end, expected))]), (0,) * (y.rank - 1) + (start,), (*y.shape[:-1], end))


def _more(end: int, have: int) -> int:
    """Elements missing at the end."""
    return 0 if end <= have else end - have


