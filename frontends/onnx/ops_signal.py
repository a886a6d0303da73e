"""Fourier transforms and determinants. A complex tensor's last axis holds (real, imaginary), a real one's has one element."""

from __future__ import annotations

from ...compiler import ops
from ...compiler.ir.graph import Node
from .call import Call
from .registry import operator


@operator("Det")
def _det(call: Call) -> Node:
    return ops.det(call.node(0))


def _parts(call: Call, x: Node) -> tuple[Node, Node | None]:
    """(real, imaginary part or None) without the last axis."""
    if x.rank < 2 or x.shape[-1] not in (1, 2):
        raise call.invalid(f"needs one or two elements (real, imaginary) in the last axis, has shape {list(x.shape)}")
    parts = [ops.squeeze(p, (x.rank - 1,)) for p in ops.split(x, [1] * int(x.shape[-1]), x.rank - 1)]
    return parts[0], parts[1] if len(parts) == 2 else None


def _resized(x: Node, axis: int, n: int) -> Node:
    return ops.pad(x, [(0, n - x.shape[axis]) if a == axis else (0, 0) for a in range(x.rank)])


@operator("DFT")
def _dft(call: Call) -> Node:
    x = call.node(0)
    axis = call.attr("axis") if call.version < 20 else int(call.scalar(2)) if call.has(2) else -2
    axis = call.normal(int(axis), x.rank)
    if axis == x.rank - 1:
        raise call.invalid("can't transform along the last axis, which holds real and imaginary parts", "axis")
    inverse, onesided = bool(call.attr("inverse")), bool(call.attr("onesided"))
    re, im = _parts(call, x)
    length = call.scalar(1) if call.has(1) else None
    if length is not None and length < 1:
        raise call.invalid(f"has the length {length}")
    if inverse and onesided:
        y = ops.irfft((re, ops.zeros_like(re) if im is None else im), length, axis)
        return ops.cast(ops.expand_dims(y, y.rank), x.dtype)
    n = re.shape[axis] if length is None else length
    if onesided and im is None:
        pair = ops.rfft(re, n, axis)
    else:
        re = _resized(re, axis, n)
        im = ops.zeros_like(re) if im is None else _resized(im, axis, n)
        pair = (ops.ifft if inverse else ops.fft)((re, im), axis)
        if onesided:
            pair = tuple(_resized(p, axis, n // 2 + 1) for p in pair)
    return ops.cast(ops.stack(list(pair), re.rank), x.dtype)


@operator("STFT")
def _stft(call: Call) -> Node:
    """(batch, frames, bins, 2) of a signal (batch, samples, 1 or 2), or (batch, samples)."""
    x = call.node(0)
    re, im = _parts(call, x) if x.rank == 3 else (x, None)
    step = int(call.scalar(1))
    window = call.optional(2)
    if not call.has(3) and window is None:
        raise call.invalid("needs a window or a frame_length")
    length = int(call.scalar(3)) if call.has(3) else int(window.shape[0])  # type: ignore[union-attr]
    if step < 1 or length < 1:
        raise call.invalid(f"has frames of {length} samples every {step}")
    onesided = bool(call.attr("onesided"))

    def framed(p: Node) -> Node:
        y = ops.frames(p, length, step)
        return y if window is None else ops.mul(y, ops.cast(window, y.dtype))

    if im is None and onesided:
        pair = ops.rfft(framed(re), length)
    else:
        frames = framed(re)
        pair = ops.fft((frames, ops.zeros_like(frames) if im is None else framed(im)))
        if onesided:
            pair = tuple(_resized(p, p.rank - 1, length // 2 + 1) for p in pair)
    return ops.cast(ops.stack(list(pair), pair[0].rank), x.dtype)
