"""Convolutions in the form that CPU templates read: no border, one direction.

* Padding becomes a ``Pad`` of the image, which fuses into the kernel that makes the image (or is one copy), so that inner loops have no border tests.
* The gradient of the image is a convolution of the cotangent, spread by the stride and padded, with the kernel turned round.
* The gradient of the kernel reads the padded image, which the forward pass made already.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir.graph import Node, node
from ..ops import functional as f
from ..ops.conv import Conv, ConvInputGrad, ConvWeightGrad
from .canonicalize import Rule


def _has_padding(n: Node) -> bool:
    return any(w != 0 for pair in n.op.padding for w in pair)


def _padded(x: Node, padding: tuple[tuple[int, int], ...], stride: tuple[int, ...] | None = None) -> Node:
    """``x`` (N, *spatial, C) with zeros around, and between, its spatial elements."""
    interior = None if stride is None else (0, *[s - 1 for s in stride], 0)
    return f.pad(x, ((0, 0), *padding, (0, 0)), 0, interior)


def _conv(n: Node) -> Node | None:
    if not _has_padding(n):
        return None
    x, w = n.inputs
    return node(replace(n.op, padding=((0, 0),) * len(n.op.padding)), _padded(x, n.op.padding), w)


def _weight_grad(n: Node) -> Node | None:
    if not _has_padding(n):
        return None
    x, ct = n.inputs
    return node(replace(n.op, padding=((0, 0),) * len(n.op.padding)), _padded(x, n.op.padding), ct)


def _input_grad(n: Node) -> Node | None:
    """dx[i] = sum over k of ct[(i + low - k*d) / s] * w[k], where that is whole: with ct spread by s and k counted from the far end
    it is a convolution of stride 1 whose low padding is (K - 1)*d - low."""
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
    return node(op, _padded(ct, tuple(padding), n.op.strides), turned)


RULES: dict[type, tuple[Rule, ...]] = {Conv: (_conv,), ConvInputGrad: (_input_grad,), ConvWeightGrad: (_weight_grad,)}
