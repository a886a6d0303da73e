"""Convolutions in the form that CPU templates read: one direction, and a border that a kernel leaves out rather than reads.

* A template skips what lies in the border (``codegen.llvm.direct``), where it knows which pixels of a row that concerns. So zeros put around an image
  become the convolution's padding. Else padding becomes a ``Pad`` of the image, which fuses into the kernel that makes the image or is one copy.
* The gradient of the image is a convolution of the cotangent, spread by the stride, with the kernel turned round.
"""

from __future__ import annotations

from dataclasses import replace

from ...runtime.dim import Dim
from ..ir.graph import Node, node
from ..kernel.split import LEAST
from ..ops import functional as f
from ..ops.conv import Conv, ConvInputGrad, ConvWeightGrad
from ..ops.geometry import Pairs
from ..ops.slicing import Pad
from .canonicalize import Rule

PHASES = 4  # strides whose gradients fall into phases (as in ``schedule.contraction``)
TAPS = 16  # of a kernel's last spatial axis, up to which tiles at the edge are written out (as in ``schedule.contraction``)


def _has_padding(padding: Pairs) -> bool:
    return any(w != 0 for pair in padding for w in pair)


def _padded(x: Node, padding: Pairs, stride: tuple[int, ...] | None = None) -> Node:
    """``x`` (N, *spatial, C) with zeros around, and between, its spatial elements."""
    interior = None if stride is None else (0, *[s - 1 for s in stride], 0)
    return f.pad(x, ((0, 0), *padding, (0, 0)), 0, interior)


def _image(x: Node) -> tuple[Node, Pairs]:
    """``x`` without zeros around its spatial axes, and these zeros' widths."""
    if isinstance(x.op, Pad) and x.op.value == 0 and not any(x.op.interior):
        widths = tuple(zip(x.op.lo, x.op.hi))
        if not any(type(w) is Dim or w < 0 for pair in widths for w in pair) and widths[0] == widths[-1] == (0, 0):
            return x.inputs[0], widths[1:-1]
    return x, ((0, 0),) * (x.rank - 2)


def _in_vectors(n: Node, w: Node, groups: int) -> bool:
    """Whether the channels of a grouped result are vectors: each is a group (depthwise), or there are enough in one (``kernel.split``)."""
    return (groups == n.shape[-1] and w.shape[-2] == 1 and w.shape[-1] == groups) or n.shape[-1] // groups >= LEAST


def _static(*sizes: int) -> bool:
    return all(type(n) is not Dim for n in sizes)


def _bounded(n: Node, padding: Pairs) -> bool:
    """Whether the direct template takes ``n`` with this padding (``schedule.contraction.match_contraction`` says what it needs)."""
    x, other = n.inputs
    if not (n.op.groups == 1 or (isinstance(n.op, Conv) and _in_vectors(n, other, n.op.groups))) or not n.dtype.is_float or not _static(x.shape[-1], other.shape[-1]):
        return False
    kernel, out = (other.shape[:-2], n.shape[1:-1]) if isinstance(n.op, Conv) else (n.shape[:-2], other.shape[1:-1])
    if not _static(*kernel):
        return False
    if isinstance(n.op, Conv):  # a condition on a tap that is the only one is no bound; the last axis' pixels make the tiles
        taps = all(k > 1 for k, pair in zip(kernel, padding) if pair != (0, 0))
        return taps and kernel[-1] <= TAPS and _static(out[-1], x.shape[-2]) and out[-1] > 1
    return x.shape[-1] > 1 and all(type(o) is Dim or o > 1 for o, pair in zip(out, padding) if pair != (0, 0))


def _conv(n: Node) -> Node | None:
    """Zeros around the image belong to the convolution where it can leave them out, else they are a Pad."""
    x, other = n.inputs
    image, widths = _image(x)
    padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(n.op.padding, widths))
    if _bounded(n, padding):
        return None if image is x else node(replace(n.op, padding=padding), image, other)
    if not _has_padding(n.op.padding):
        return None
    return node(replace(n.op, padding=((0, 0),) * len(padding)), _padded(x, n.op.padding), other)


def _input_grad(n: Node) -> Node | None:
    """dx[i] = sum over k of ct[(i + low - k*d) / s] * w[k], where that is whole: with ct spread by s and k counted from the far end
    it is a convolution of stride 1 whose low padding is (K - 1)*d - low. Where it falls into phases (``kernel.split``) it stays as it is."""
    if any(s > 1 for s in n.op.strides) and _in_phases(n):
        return _whole_phases(n)
    if n.op.groups != 1:
        return None
    ct, w = n.inputs
    rank = ct.rank - 2
    padding = []
    for i in range(rank):
        reach = (w.shape[i] - 1) * n.op.dilation[i]
        low = reach - n.op.padding[i][0]
        spread = (ct.shape[1 + i] - 1) * n.op.strides[i] + 1
        padding.append((low, n.shape[1 + i] - spread - low + reach))
    turned = f.transpose(f.flip(w, tuple(range(rank))), (*range(rank), rank + 1, rank))
    op = Conv((1,) * rank, ((0, 0),) * rank, n.op.dilation, 1, n.op.precision)
    if all(k == 1 for k in w.shape[:-2]) and not _has_padding(n.op.padding):  # each pixel reaches one: spread what comes out
        return _padded(node(op, ct, turned), tuple(padding), n.op.strides)
    if all(s == 1 for s in n.op.strides) and _static(*[v for pair in padding for v in pair]):
        return node(replace(op, padding=tuple(padding)), ct, turned)
    return node(op, _padded(ct, tuple(padding), n.op.strides), turned)


def _in_phases(n: Node) -> bool:
    """Whether ``kernel.split`` and the direct template take a strided gradient: all is static, and each axis has taps for it to share out."""
    ct, w = n.inputs
    if not _static(*ct.shape[1:], *w.shape, *n.shape[1:]) or not n.dtype.is_float:
        return False
    if n.shape[-2] <= n.op.strides[-1] or (n.op.groups != 1 and not _in_vectors(n, w, n.op.groups)):
        return False
    axes = zip(n.op.strides, n.op.dilation, w.shape, n.op.padding)
    return all(d == 1 and s <= PHASES and s <= k <= TAPS and (k > 1 or pad == (0, 0)) for s, d, k, pad in axes)


def _whole_phases(n: Node) -> Node | None:
    """Phases are of one size: of an image whose sizes the strides don't divide, some elements more are computed, and cut off."""
    more = [-size % s for size, s in zip(n.op.sizes, n.op.strides)]
    if not any(more):
        return None
    op = replace(n.op, sizes=tuple(a + b for a, b in zip(n.op.sizes, more)), padding=tuple((lo, hi - b) for (lo, hi), b in zip(n.op.padding, more)))
    return f.pad(node(op, *n.inputs), ((0, 0), *[(0, -b) for b in more], (0, 0)))


RULES: dict[type, tuple[Rule, ...]] = {Conv: (_conv,), ConvInputGrad: (_input_grad,), ConvWeightGrad: (_conv,)}
