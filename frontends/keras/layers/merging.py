"""Layers that join several inputs: Add, Concatenate, Dot and their kin; and the functions of the same names."""

from __future__ import annotations

from functools import reduce
from typing import Any

from ....runtime.dim import Dim
from ....runtime.errors import ArgumentError, ShapeError
from .. import ops
from ..layer import Layer


class Merge(Layer):
    """Inputs of one shape (or that broadcast), joined element by element."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shapes = self._shapes(input_shape)
        batches = {s[0] for s in shapes if s and s[0] is not None}
        if len(batches) > 1:
            raise ShapeError(f"{type(self).__name__} '{self.name}': the inputs have different batch sizes {sorted(batches)} (shapes {shapes})")
        self._check_shapes(shapes)

    def _shapes(self, input_shape: Any) -> list[tuple]:
        if not isinstance(input_shape, (list, tuple)) or not input_shape or not isinstance(input_shape[0], (list, tuple)):
            raise ArgumentError(f"{type(self).__name__} '{self.name}' is called on a list of inputs, got one of shape {input_shape}")
        if len(input_shape) < 1:
            raise ArgumentError(f"{type(self).__name__} '{self.name}' needs at least one input")
        return [tuple(s) for s in input_shape]

    def _check_shapes(self, shapes: list[tuple]) -> None:
        """Without the batch axis they must broadcast."""
        rank = max(map(len, shapes))
        for axis in range(1, rank):
            sizes = {s[axis - rank] for s in shapes if len(s) >= rank - axis + 1} - {1, None}
            if len(sizes) > 1:
                raise ShapeError(f"{type(self).__name__} '{self.name}': inputs of shapes {' and '.join(map(str, shapes))} can't be joined "
                                 f"(sizes {sorted(sizes)} on axis {axis})")

    def _join(self, inputs: list) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _join(inputs)")

    def call(self, inputs: Any) -> Any:
        if not isinstance(inputs, (list, tuple)):
            raise ArgumentError(f"{type(self).__name__} '{self.name}' is called on a list of inputs, got {inputs!r}")
        rank = max(len(x.shape) for x in inputs)
        # Inputs of lower rank broadcast from the batch axis on: new axes come behind it.
        inputs = [ops.reshape(x, (x.shape[0], *[1] * (rank - len(x.shape)), *x.shape[1:])) if 0 < len(x.shape) < rank else x for x in inputs]
        return self._join(inputs)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """A step is kept where any input keeps it; unmasked inputs keep all."""
        if not isinstance(mask, (list, tuple)) or not mask or any(m is None for m in mask):
            return None
        return reduce(ops.logical_or, mask)


class Add(Merge):
    """The sum."""

    def _join(self, inputs: list) -> Any:
        return reduce(ops.add, inputs)


class Subtract(Merge):
    """The first of two inputs less the second."""

    def _check_shapes(self, shapes: list[tuple]) -> None:
        if len(shapes) != 2:
            raise ArgumentError(f"Subtract '{self.name}' takes two inputs, got {len(shapes)}")
        super()._check_shapes(shapes)

    def _join(self, inputs: list) -> Any:
        return ops.subtract(*inputs)


class Multiply(Merge):
    """The product. A masked step counts as ones; it is zeros where every input is masked."""

    def _join(self, inputs: list) -> Any:
        masks = [_wide_mask(x) for x in inputs]
        out = reduce(ops.multiply, [x if m is None else ops.where(m, x, 1.0) for x, m in zip(inputs, masks)])
        return out if any(m is None for m in masks) else ops.where(reduce(ops.logical_or, masks), out, 0.0)


class Average(Merge):
    """The mean."""

    def _join(self, inputs: list) -> Any:
        return ops.multiply(reduce(ops.add, inputs), 1.0 / len(inputs))


class _Extreme(Merge):
    """Masked steps take no part, for there is no value that would leave the others as they are."""

    _choose: Any = None

    def _join(self, inputs: list) -> Any:
        out, out_mask = inputs[0], _wide_mask(inputs[0])
        for x in inputs[1:]:
            mask = _wide_mask(x)
            if mask is not None:
                x = ops.where(mask, x, out)
            if out_mask is not None:
                out = ops.where(out_mask, out, x)
            out_mask = None if mask is None or out_mask is None else ops.logical_or(out_mask, mask)
            out = type(self)._choose(out, x)
        return out


class Maximum(_Extreme):
    """The largest value."""

    _choose = staticmethod(ops.maximum)


class Minimum(_Extreme):
    """The smallest value."""

    _choose = staticmethod(ops.minimum)


def _wide_mask(x: Any) -> Any:
    """The mask of a tensor, one boolean for each of its elements, or None."""
    mask = getattr(x, "_keras_mask", None)
    return None if mask is None else ops.broadcast_to(ops.expand_dims(mask, -1), x.shape)


class Concatenate(Merge):
    """The inputs one behind the other along ``axis``; their other sizes agree."""

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape: Any) -> None:
        shapes = self._shapes(input_shape)
        ranks = {len(s) for s in shapes}
        rank = len(shapes[0])
        if len(ranks) > 1 or not -rank <= self.axis < rank:
            raise ShapeError(f"Concatenate '{self.name}': inputs of shapes {' and '.join(map(str, shapes))} can't be joined along axis {self.axis}")
        for axis in range(rank):
            sizes = {s[axis] for s in shapes} - {None}
            if axis != self.axis % rank and len(sizes) > 1:
                raise ShapeError(f"Concatenate '{self.name}': inputs of shapes {' and '.join(map(str, shapes))} must agree on every axis but {self.axis} "
                                 f"(axis {axis} has {sorted(sizes)})")

    def call(self, inputs: Any) -> Any:
        if not isinstance(inputs, (list, tuple)):
            raise ArgumentError(f"Concatenate '{self.name}' is called on a list of inputs, got {inputs!r}")
        return ops.concatenate(list(inputs), axis=self.axis)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if not isinstance(mask, (list, tuple)) or all(m is None for m in mask):
            return None
        parts = []
        for x, m in zip(inputs, mask):
            m = ops.ones(x.shape, "bool") if m is None else m
            parts.append(ops.broadcast_to(ops.expand_dims(m, -1), x.shape) if len(m.shape) < len(x.shape) else m)
        return ops.any(ops.concatenate(parts, axis=self.axis), axis=-1)

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis}


def batch_dot(x: Any, y: Any, axes: Any = None) -> Any:
    """Sums of products over one axis of each, sample by sample."""
    a, b = len(x.shape), len(y.shape)
    if axes is None:
        axes = (a - 1, b - 1) if b == 2 else (a - 1, b - 2)
    first, second = (axes, axes) if isinstance(axes, int) else axes
    first, second = first % a, second % b
    if 0 in (first, second):
        raise ArgumentError("Dot can't sum over the batch axis 0")
    n, m = x.shape[first], y.shape[second]
    if n != m and not (type(n) is Dim and type(m) is Dim):
        raise ShapeError(f"Dot: axis {first} of the first input has size {n}, axis {second} of the second {m}")
    letters = "abcdefghijklmnopqrstuvwxyz"
    xs = ["z", *letters[:a - 1]]
    ys = ["z", *letters[a - 1:a + b - 2]]
    ys[second] = xs[first] = "y"
    out = [c for c in xs if c != "y"] + [c for c in ys if c not in "yz"]
    result = ops.einsum(f"{''.join(xs)},{''.join(ys)}->{''.join(out)}", x, y)
    return ops.expand_dims(result, 1) if len(result.shape) == 1 else result


class Dot(Merge):
    """Sums of products of two inputs over ``axes``; normalised to unit length first with ``normalize``."""

    def __init__(self, axes: Any, normalize: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(axes, int) and (not isinstance(axes, (list, tuple)) or len(axes) != 2 or not all(isinstance(a, int) for a in axes)):
            raise ArgumentError(f"Dot: axes is an integer or two of them, got {axes!r}")
        self.axes = axes if isinstance(axes, int) else list(axes)
        self.normalize = normalize

    def build(self, input_shape: Any) -> None:
        shapes = self._shapes(input_shape)
        if len(shapes) != 2:
            raise ArgumentError(f"Dot '{self.name}' takes two inputs, got {len(shapes)}")
        for axis, shape in zip([self.axes] * 2 if isinstance(self.axes, int) else self.axes, shapes):
            if not -len(shape) <= axis < len(shape) or axis % len(shape) == 0:
                raise ArgumentError(f"Dot '{self.name}': axes={self.axes} can't be summed over in inputs of shapes {' and '.join(map(str, shapes))}: "
                                    f"an axis lies in [1, {len(shape) - 1}], or [{1 - len(shape)}, -1] from the end")

    def call(self, inputs: Any) -> Any:
        x, y = inputs
        axes = [self.axes, self.axes] if isinstance(self.axes, int) else list(self.axes)
        axes = [axes[0] % len(x.shape), axes[1] % len(y.shape)]
        if self.normalize:
            x, y = ops.normalize(x, axis=axes[0]), ops.normalize(y, axis=axes[1])
        return batch_dot(x, y, axes)

    def get_config(self) -> dict:
        return {**super().get_config(), "axes": self.axes, "normalize": self.normalize}


def add(inputs: Any, **kwargs: Any) -> Any:
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs: Any, axes: Any = -1, **kwargs: Any) -> Any:
    return Dot(axes=axes, **kwargs)(inputs)
