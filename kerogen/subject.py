"""A model file ready to run: what ``kerogen run``, ``bench`` and ``check --against`` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from .runtime.dim import Dim, resolve, unguarded
from .runtime.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError

Shape = tuple[int | str | None, ...]


class Free(dict):
    """Free dimensions by name, made when a trace asks for one; ``values`` has the sizes of those that are known."""

    def __init__(self, values: Mapping[str, int]) -> None:
        super().__init__()
        self.values_given = dict(values)

    def __missing__(self, name: str) -> Dim:
        self[name] = Dim.free(name, self.values_given.get(name, 1))
        return self[name]


class Subject:
    """The model in a ``.onnx`` or ``.keras`` file (or an object that ``kg.compile`` takes), traced once to learn its inputs.

    ``shapes`` gives inputs whole shapes; a free dimension that no shape fixes is 1.
    """

    def __init__(self, source: Any, shapes: Mapping[str, Shape] | None = None) -> None:
        self.path = Path(source) if isinstance(source, (str, Path)) else None
        shapes = dict(shapes or {})
        if self.path is not None and self.path.suffix == ".onnx":
            from .frontends.onnx import load, onnx_trace

            found = onnx_trace(load(self.path, shapes=shapes))
            shapes = {}
        elif self.path is not None and self.path.suffix not in (".keras", ".h5"):
            raise ArgumentError(f"{self.path}: kerogen reads .onnx and .keras files")
        else:
            from .api import traced

            found = traced(source)
        self.trace, self.bindings, self.unflatten, self.name, self.order = found
        with unguarded():
            self.graph = self.trace(Free(self._sizes(shapes)))
        self.inputs = [n for n in self.graph.inputs if n.op.role == "input"]
        self.names = [n.op.name for n in self.inputs]
        self._executable: Any = None
        self.compile_seconds = 0.0

    def _sizes(self, shapes: Mapping[str, Shape]) -> dict[str, int]:
        """Sizes of the free dimensions from whole shapes of inputs."""
        if not shapes:
            return {}
        values: dict[str, int] = {}
        graph = self.trace(Free({}))
        ports = {n.op.name: n for n in graph.inputs if n.op.role == "input"}
        for name, shape in shapes.items():
            if name not in ports:
                raise UnknownNameError(f"{self.name} has no input {name!r}; its inputs are {', '.join(ports)}")
            port = ports[name]
            if len(shape) != port.rank:
                raise ShapeError(f"{self.name}: input {name!r} has rank {port.rank}, --shape gives {len(shape)} sizes")
            for given, d in zip(shape, port.shape):
                if type(d) is Dim and len(d.expr) == 1 and isinstance(given, int):
                    values.setdefault(d.expr[0][0][0], given)
                elif type(d) is not Dim and given != d:
                    raise ShapeError(f"{self.name}: input {name!r} has size {d} where --shape gives {given}")
        return values

    def shape(self, i: int) -> tuple[int, ...]:
        """The concrete shape of input ``i``."""
        return tuple(resolve(d, self._values()) for d in self.inputs[i].shape)

    def _values(self) -> dict[str, int]:
        return {d.expr[0][0][0]: int(d) for n in self.inputs for d in n.shape if type(d) is Dim and len(d.expr) == 1}

    def random(self, seed: int) -> dict[str, np.ndarray]:
        """Inputs: floats from N(0, 1), integers from 0 to 9, bools by coin."""
        rng = np.random.default_rng(seed)
        return {n: random_array(rng, self.shape(i), self.inputs[i].dtype) for i, n in enumerate(self.names)}

    def arrange(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Arrays in the order of the call."""
        for name in feeds:
            if name not in self.names:
                raise UnknownNameError(f"{self.name} has no input {name!r}; its inputs are {', '.join(self.names)}")
        for n, x in zip(self.names, self.inputs):
            if feeds[n].dtype != x.dtype.np:
                raise DTypeError(f"{self.name}: input {n!r} is {x.dtype}, got {feeds[n].dtype}")
        return [feeds[n] for n in self.names]

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in order. Compiles at the first call and notes how long that took."""
        if self._executable is None:
            from .compiler.pipeline import executable

            begin = perf_counter()
            self._executable = executable(self.trace, bindings=self.bindings, name=self.name, unflatten=list)
            out = self._executable(*self.arrange(feeds))
            self.compile_seconds = perf_counter() - begin
            return out
        return self._executable(*self.arrange(feeds))

    def caller(self, feeds: Mapping[str, np.ndarray]) -> Any:
        """A function of nothing that runs the compiled model as a user's call does, Python included."""
        self.run(feeds)
        exe, arrays = self._executable, self.arrange(feeds)
        return lambda: exe(*arrays)

    @property
    def output_names(self) -> Sequence[str]:
        named = self.graph.output_names
        return [named[i] if i < len(named) else f"output_{i}" for i in range(len(self.graph.outputs))]

    def flops(self) -> int:
        """Floating point operations of one call."""
        with unguarded():
            total = sum((n.op.flops(n) for n in self.graph.nodes if hasattr(n.op, "flops")), 0)
        return resolve(total, self._values())

    def as_onnx(self) -> bytes | str:
        """The model for a peer: the file itself, or what the exporter writes."""
        if self.path is not None and self.path.suffix == ".onnx":
            return str(self.path)
        from .frontends.onnx.exporter import to_proto

        return to_proto(self.graph, self.bindings, name=self.name).SerializeToString()


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.np)
    if dtype.is_int:
        return rng.integers(0, 10, shape).astype(dtype.np)
    return rng.integers(0, 2, shape).astype(bool)


def largest_difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[float, float]:
    """max |a - b|, and the same over 1 + |b|; inf where shapes differ, or where one is nan or infinite and the other isn't."""
    worst = scaled = 0.0
    if len(ours) != len(theirs):
        return float("inf"), float("inf")
    for a, b in zip(ours, theirs):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            return float("inf"), float("inf")
        with np.errstate(invalid="ignore"):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            d = np.where(same, 0.0, np.abs(a - b))
        d = np.where(np.isfinite(d), d, np.inf)
        if d.size:
            worst = max(worst, float(d.max()))
            scaled = max(scaled, float((d / (1 + np.where(np.isfinite(b), np.abs(b), 0))).max()))
    return worst, scaled
