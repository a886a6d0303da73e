"""Convolution and its two derivatives. The three are closed under differentiation: each one's vjp is made of the other two.

Layout: images x (N, *spatial, C), kernels w (*kernel, C / groups, O), results y (N, *out, O); 1 to 3 spatial axes. With
stride s, low padding l
and dilation d, along each spatial axis: y[o] = sum over k of x[o*s - l + k*d] * w[k], where x is 0 outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ...runtime import dim
from ...runtime.dtype import as_dtype, bool_, float32, float64, int32
from ...runtime.errors import ArgumentError, DTypeError, ShapeError
from ..ir.graph import Node
from ..ir.types import TensorType
from ..kernel import simplify as ix
from ..kernel.expr import TRUE, Const, Expr, Where, index
from . import functional as f
from .base import BadSample, IndexFn, LowerContext, Op, Sample, shape_text
from .contract import check_precision, contraction
from .geometry import Pairs, at_element, check_window, padded, reached, reaching, window_axes, window_sizes


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) if as_dtype(x.dtype).is_float else x


Spec = tuple[tuple[int, ...], Pairs, tuple[int, ...], int]  # strides, padding, dilation, groups


@dataclass(frozen=True, eq=False)
class _Convolution(Op):
    strides: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1
    precision: str = "highest"

    def _check(self, a: TensorType, b: TensorType, rank: int) -> None:
        check_precision(self, self.precision)
        if a.rank != b.rank or not 3 <= a.rank <= 5:
            raise ShapeError(f"{self.name} needs operands of one rank with 1 to 3 spatial axes, got {a} and {b}")
        if a.dtype is not b.dtype or a.dtype is bool_:
            raise DTypeError(f"{self.name} needs numbers of one type, got {a} and {b}")
        check_window(self, a.rank - 2, self.strides, self.padding, self.dilation)
        if self.groups < 1:
            raise ArgumentError(f"{self.name}: groups is {self.groups}, must be positive")

    @property
    def _settings(self) -> tuple:
        return self.strides, self.padding, self.dilation, self.groups, self.precision

    def _check_groups(self, channels: int, w: TensorType) -> None:
        if channels % self.groups != 0 or w.shape[-1] % self.groups != 0 or channels // self.groups != w.shape[-2]:
            raise ShapeError(
                f"{self.name}: {dim.text(channels)} input channels in {self.groups} groups"
                f" don't fit the kernel {shape_text(w.shape)}"
                f" ({dim.text(w.shape[-2])} input channels a group, {dim.text(w.shape[-1])} output channels)"
            )

    @staticmethod
    def _group_of(channel: Expr, per_group: int, groups: int) -> Expr:
        return index(0) if groups == 1 else ix.floordiv(channel, per_group)

    _CASES = [  # image, kernel, strides, padding, dilation, groups, tag
        ((2, 7, 9, 3), (3, 2, 3, 5), (1, 1), ((1, 1), (0, 1)), (1, 1), 1, "odd"),
        ((1, 9, 7, 4), (3, 3, 2, 6), (2, 3), ((1, 0), (2, 1)), (1, 1), 2, "odd"),
        ((2, 11, 3), (3, 3, 4), (2,), ((2, 2),), (3,), 1, "odd"),
        ((3, 8, 5, 3), (3, 3, 1, 6), (1, 2), ((1, 1), (1, 1)), (2, 1), 3, "broadcast"),
        ((1, 4, 5, 3, 2), (2, 3, 2, 2, 3), (1, 2, 1), ((0, 1), (1, 0), (1, 1)), (1, 1, 2), 1, "odd"),
        ((0, 5, 5, 2), (3, 3, 2, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, "size0"),
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, "size1"),
        ((2, 6, 5, 3), (1, 1, 3, 7), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, "size1"),
        ((1, 8, 9, 2), (3, 2, 2, 3), (2, 1), ((-1, 2), (1, -2)), (1, 2), 1, "odd"),
        ((1, 10, 3), (2, 3, 2), (3,), ((0, 0),), (1,), 1, "odd"),  # the last elements are never read
    ]

    @classmethod
    def _cases(cls, rng: np.random.Generator) -> Iterator[tuple[Spec, np.ndarray, np.ndarray, np.ndarray, str]]:
        for x, w, strides, padding, dilation, groups, tag in cls._CASES:
            y = (x[0], *window_sizes("", x[1:-1], w[:-2], strides, padding, dilation), w[-1])
            x_array, w_array, y_array = (rng.standard_normal(shape).astype(np.float32) for shape in (x, w, y))
            yield (strides, padding, dilation, groups), x_array, w_array, y_array, tag


@dataclass(frozen=True, eq=False)
class Conv(_Convolution):
    """y of x and w (see the module)."""

    kind = "contraction"

    def infer(self, *types: TensorType) -> TensorType:
        x, w = types
        self._check(x, w, x.rank)
        self._check_groups(x.shape[-1], w)
        out = window_sizes(self.name, x.shape[1:-1], w.shape[:-2], self.strides, self.padding, self.dilation)
        return x.with_shape((x.shape[0], *out, w.shape[-1]))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """The sum, over the kernel's elements, of the images seen through that element times its matrix (one for each group)."""
        x, w = arrays
        g = self.groups
        out = window_sizes(self.name, x.shape[1:-1], w.shape[:-2], self.strides, self.padding, self.dilation)
        wide = padded(_wide(x), self.padding)
        per_out = w.shape[-1] // g
        total = np.zeros((g, x.shape[0], *map(int, out), per_out), wide.dtype)
        for k in product(*map(range, w.shape[:-2])):
            seen = wide[at_element(k, out, self.strides, self.dilation)]
            for i in range(g):
                total[i] += seen[..., i * w.shape[-2] : (i + 1) * w.shape[-2]] @ _wide(w[k][:, i * per_out : (i + 1) * per_out])
        return np.concatenate(list(total), -1).astype(x.dtype)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        x, w = node.inputs
        return (
            f.node(ConvInputGrad(*self._settings, sizes=x.shape[1:-1]), ct, w),
            f.node(ConvWeightGrad(*self._settings, sizes=w.shape[:-2]), x, ct),
        )

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x, w = (n.type for n in node.inputs)
        n, *o, oc = at
        ks, over = window_axes(ctx, w.shape[:-2])
        (c,), channel = window_axes(ctx, w.shape[-2:-1], "c")
        where, inside = [], TRUE
        for e, k, size, s, (lo, _), d in zip(o, ks, x.shape[1:-1], self.strides, self.padding, self.dilation):
            p = reached(e, k, s, lo, d)
            where.append(p)
            inside = ix.both(inside, ix.within(p, 0, size))
        group = self._group_of(oc, w.shape[-1] // self.groups, self.groups)
        value = args[0]((n, *where, ix.add(ix.mul(group, w.shape[-2]), c)))
        value = value if inside is TRUE else Where(inside, value, Const(0, x.dtype))
        return contraction(over + channel, value, args[1]((*ks, c, oc)), node, self.precision)

    def flops(self, node: Node) -> int:
        w = node.inputs[1]
        return 2 * node.type.size * dim.size(w.shape[:-1])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        out = [Sample(cls(*spec), (x, w), tags=(tag,)) for spec, x, w, _, tag in cls._cases(rng)]
        return [*out, Sample(out[0].op, tuple([a.astype(as_dtype("bfloat16").np) for a in out[0].arrays]), tags=("odd",))]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, w = TensorType((2, 5, 5, 4), float32), TensorType((3, 3, 4, 6), float32)
        op, none = cls((1, 1), ((0, 0), (0, 0)), (1, 1)), ((0, 0), (0, 0))
        return [
            BadSample(
                op,
                (x, w.with_shape((3, 3, 5, 6))),
                ShapeError,
                r"4 input channels in 1 groups don't fit the kernel \[3, 3, 5, 6\]",
            ),
            BadSample(op, (x.with_shape((2, 2, 5, 4)), w), ShapeError, r"window of 3 .* larger than spatial axis 0 of size 2"),
            BadSample(op, (x.with_shape((2, 5, 4)), w), ShapeError, "one rank with 1 to 3 spatial axes"),
            BadSample(op, (x, w.with_dtype(float64)), DTypeError, "float64"),
            BadSample(cls((1,), none, (1, 1)), (x, w), ShapeError, "strides"),
            BadSample(cls((0, 1), none, (1, 1)), (x, w), ArgumentError, "must be positive"),
            BadSample(cls((1, 1), none, (1, 1), 3), (x, w), ShapeError, "in 3 groups"),
            BadSample(cls((1, 1), none, (1, 1), 0), (x, w), ArgumentError, "groups is 0"),
            BadSample(cls((1, 1), none, (1, 1), 1, "best"), (x, w), ArgumentError, "'best' is none of"),
        ]


@dataclass(frozen=True, eq=False)
class ConvInputGrad(_Convolution):
    """From a cotangent of y (N, *out, O) and w to that of x, whose spatial axes have ``sizes``; also the transposed
    convolution.
    """

    sizes: tuple[int, ...] = ()

    kind = "contraction"

    def infer(self, *types: TensorType) -> TensorType:
        ct, w = types
        self._check(ct, w, ct.rank)
        if len(self.sizes) != ct.rank - 2:
            raise ShapeError(f"{self.name}: sizes {shape_text(self.sizes)} are not for {ct.rank - 2} spatial axes")
        channels = w.shape[-2] * self.groups
        self._check_groups(channels, w)
        out = window_sizes(self.name, self.sizes, w.shape[:-2], self.strides, self.padding, self.dilation)
        if ct.shape[1:] != (*out, w.shape[-1]):
            raise ShapeError(
                f"{self.name}: a convolution of {shape_text(self.sizes)} with {shape_text(w.shape)}"
                f" gives {shape_text((*out, w.shape[-1]))},"
                f" not {shape_text(ct.shape[1:])}"
            )
        return ct.with_shape((ct.shape[0], *self.sizes, channels))

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """Adds each cotangent times the kernel's element onto a padded canvas, where the convolution had read."""
        ct, w = arrays
        g, per_in, per_out = self.groups, w.shape[-2], w.shape[-1] // self.groups
        canvas = np.zeros(
            (ct.shape[0], *[int(n + max(lo, 0) + max(hi, 0)) for n, (lo, hi) in zip(self.sizes, self.padding)], per_in * g),
            _wide(ct).dtype,
        )
        seen = canvas[
            (slice(None), *[slice(max(-lo, 0), canvas.shape[i + 1] - max(-hi, 0)) for i, (lo, hi) in enumerate(self.padding)])
        ]
        for k in product(*map(range, w.shape[:-2])):
            part = np.concatenate(
                [
                    _wide(ct[..., i * per_out : (i + 1) * per_out]) @ _wide(w[k][:, i * per_out : (i + 1) * per_out]).T
                    for i in range(g)
                ],
                -1,
            )
            seen[at_element(k, ct.shape[1:-1], self.strides, self.dilation)] += part
        inner = canvas[
            (slice(None), *[slice(int(max(lo, 0)), int(max(lo, 0) + n)) for n, (lo, _) in zip(self.sizes, self.padding)])
        ]
        return inner.astype(ct.dtype)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        u, w = node.inputs
        return f.node(Conv(*self._settings), ct, w), f.node(ConvWeightGrad(*self._settings, sizes=w.shape[:-2]), ct, u)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        u, w = (n.type for n in node.inputs)
        n, *i, c = at
        ks, over = window_axes(ctx, w.shape[:-2])
        per_out = w.shape[-1] // self.groups
        (oc,), channel = window_axes(ctx, [per_out], "c")
        group = self._group_of(c, w.shape[-2], self.groups)
        oc = ix.add(ix.mul(group, per_out), oc)
        local = c if self.groups == 1 else ix.mod(c, w.shape[-2])
        where, inside = [], TRUE
        for e, k, count, s, (lo, _), d in zip(i, ks, u.shape[1:-1], self.strides, self.padding, self.dilation):
            o, cond = reaching(e, k, s, lo, d, count)
            where.append(o)
            inside = ix.both(inside, cond)
        value = args[0]((n, *where, oc))
        value = value if inside is TRUE else Where(inside, value, Const(0, u.dtype))
        return contraction(over + channel, value, args[1]((*ks, local, oc)), node, self.precision)

    def flops(self, node: Node) -> int:
        u, w = node.inputs
        return 2 * u.type.size * dim.size(w.shape[:-1])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(*spec, "highest", sizes=x.shape[1:-1]), (y, w), tags=(tag,)) for spec, x, w, y, tag in cls._cases(rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        u, w, none = TensorType((2, 3, 3, 6), float32), TensorType((3, 3, 4, 6), float32), ((0, 0), (0, 0))
        return [
            BadSample(cls((1, 1), none, (1, 1), 1, "highest", (6, 5)), (u, w), ShapeError, r"gives \[4, 3, 6\], not \[3, 3, 6\]"),
            BadSample(cls((1, 1), none, (1, 1), 1, "highest", (5,)), (u, w), ShapeError, r"sizes \[5\] are not for 2"),
            BadSample(cls((1, 1), none, (1, 1), 4, "highest", (5, 5)), (u, w), ShapeError, "in 4 groups"),
            BadSample(
                cls((1, 1), none, (1, 1), 1, "highest", (5, 5)), (u.with_dtype(int32), w), DTypeError, "numbers of one type"
            ),
        ]


@dataclass(frozen=True, eq=False)
class ConvWeightGrad(_Convolution):
    """From x and a cotangent of y to that of w, whose spatial axes have ``sizes``."""

    sizes: tuple[int, ...] = ()

    kind = "contraction"

    def infer(self, *types: TensorType) -> TensorType:
        x, u = types
        self._check(x, u, x.rank)
        if len(self.sizes) != x.rank - 2:
            raise ShapeError(f"{self.name}: sizes {shape_text(self.sizes)} are not for {x.rank - 2} spatial axes")
        w = x.with_shape((*self.sizes, x.shape[-1] // self.groups, u.shape[-1]))
        self._check_groups(x.shape[-1], w)
        out = window_sizes(self.name, x.shape[1:-1], self.sizes, self.strides, self.padding, self.dilation)
        if u.shape[:-1] != (x.shape[0], *out):
            raise ShapeError(
                f"{self.name}: windows of {shape_text(self.sizes)} on {shape_text(x.shape)}"
                f" give {shape_text((x.shape[0], *out))}, not {shape_text(u.shape[:-1])}"
            )
        return w

    def eval(self, *arrays: np.ndarray) -> np.ndarray:
        """For each element of the kernel the images seen through it, times the cotangents, over all images and windows."""
        x, u = arrays
        g, per_in, per_out = self.groups, x.shape[-1] // self.groups, u.shape[-1] // self.groups
        wide = padded(_wide(x), self.padding)
        out = np.zeros((*map(int, self.sizes), per_in, u.shape[-1]), wide.dtype)
        for k in product(*map(range, map(int, self.sizes))):
            seen = wide[at_element(k, u.shape[1:-1], self.strides, self.dilation)]
            for i in range(g):
                left, right = seen[..., i * per_in : (i + 1) * per_in], _wide(u[..., i * per_out : (i + 1) * per_out])
                out[k][:, i * per_out : (i + 1) * per_out] = np.tensordot(left, right, [list(range(x.ndim - 1))] * 2)
        return out.astype(x.dtype)

    def vjp(self, node: Node, ct: Node) -> tuple[Node | None, ...]:
        x, u = node.inputs
        return f.node(ConvInputGrad(*self._settings, sizes=x.shape[1:-1]), u, ct), f.node(Conv(*self._settings), x, ct)

    def lower(self, node: Node, args: Sequence[IndexFn], at: tuple[Expr, ...], ctx: LowerContext) -> Expr:
        x, u = (n.type for n in node.inputs)
        *ks, c, oc = at
        (n, *o), over = window_axes(ctx, u.shape[:-1], "o")
        where, inside = [], TRUE
        for e, k, size, s, (lo, _), d in zip(o, ks, x.shape[1:-1], self.strides, self.padding, self.dilation):
            p = reached(e, k, s, lo, d)
            where.append(p)
            inside = ix.both(inside, ix.within(p, 0, size))
        group = self._group_of(oc, u.shape[-1] // self.groups, self.groups)
        value = args[0]((n, *where, ix.add(ix.mul(group, x.shape[-1] // self.groups), c)))
        value = value if inside is TRUE else Where(inside, value, Const(0, x.dtype))
        return contraction(over, value, args[1]((n, *o, oc)), node, self.precision)

    def flops(self, node: Node) -> int:
        return 2 * node.type.size * dim.size(node.inputs[1].shape[:-1])

    @classmethod
    def samples(cls, rng: np.random.Generator) -> list[Sample]:
        return [Sample(cls(*spec, "highest", sizes=w.shape[:-2]), (x, y), tags=(tag,)) for spec, x, w, y, tag in cls._cases(rng)]

    @classmethod
    def bad_samples(cls) -> list[BadSample]:
        x, u, none = TensorType((2, 5, 5, 4), float32), TensorType((2, 3, 3, 6), float32), ((0, 0), (0, 0))
        return [
            BadSample(cls((1, 1), none, (1, 1), 1, "highest", (2, 3)), (x, u), ShapeError, r"give \[2, 4, 3\], not \[2, 3, 3\]"),
            BadSample(cls((1, 1), none, (1, 1), 1, "highest", (3,)), (x, u), ShapeError, r"sizes \[3\] are not for 2"),
            BadSample(cls((1, 1), none, (1, 1), 3, "highest", (3, 3)), (x, u), ShapeError, "in 3 groups"),
            BadSample(
                cls((1, 1), none, (1, 1), 1, "highest", (3, 3)), (x, u.with_dtype(float64)), DTypeError, "numbers of one type"
            ),
        ]


def _spatial(name: str, rank: int, strides, padding, dilation) -> tuple[tuple[int, ...], Pairs, tuple[int, ...]]:
    """Ints stand for all spatial axes."""
    each = [(v,) * rank if isinstance(v, int) else tuple(v) for v in (strides, dilation)]
    pairs = (
        ((padding, padding),) * rank
        if isinstance(padding, int)
        else tuple([(p, p) if isinstance(p, int) else tuple(p) for p in padding])
    )
    return each[0], pairs, each[1]


def conv(x, w, strides=1, padding=0, dilation=1, groups: int = 1, precision: str | None = None) -> Node:
    """Convolution (cross-correlation, as in every framework) of x (N, *spatial, C) with w (*kernel, C / groups, O); padding
    is ((lo, hi), ...).
    """
    x, w = f.operands("conv", x, w)
    return f.node(Conv(*_spatial("conv", x.rank - 2, strides, padding, dilation), groups, precision or "highest"), x, w)


def conv_transpose(
    y, w, sizes: Sequence[int], strides=1, padding=0, dilation=1, groups: int = 1, precision: str | None = None
) -> Node:
    """The transposed convolution: from y (N, *out, O) with w (*kernel, C / groups, O) to (N, *sizes, C), whose convolution
    has y's shape.
    """
    y, w = f.operands("conv_transpose", y, w)
    return f.node(
        ConvInputGrad(
            *_spatial("conv_transpose", y.rank - 2, strides, padding, dilation), groups, precision or "highest", tuple(sizes)
        ),
        y,
        w,
    )
