"""Random typed graphs, made from the ops' own samples.

A step draws one sample of one op. Each operand becomes either a fresh input that holds the sample's array, or an earlier
node brought to the sample's type (cast, reshaped, repeated or cropped) and squeezed into the range of the sample's values, so that graphs stay finite and
ops see arguments from their domain. Integer operands keep the sample's values: they may be indices.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np

from kerogen.compiler import ops as f
from kerogen.compiler.ir.graph import Graph, Node, leaf, node, post_order
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ops.base import Op, Sample
from kerogen.runtime.dtype import as_dtype, bool_

MAX_ELEMENTS = 4096


@dataclass
class RandomGraph:
    graph: Graph
    arrays: list[np.ndarray]


def all_ops() -> list[type[Op]]:
    """Every concrete op class, in the order of their names."""
    seen: dict[str, type[Op]] = {}
    stack = [Op]
    while stack:
        cls = stack.pop()
        stack.extend(cls.__subclasses__())
        if not inspect.isabstract(cls) and cls.kind and not cls.__name__.startswith("_") and "samples" in _defined(cls):
            seen[cls.__name__] = cls
    return [seen[n] for n in sorted(seen)]


def _defined(cls: type) -> set[str]:
    return {name for c in cls.__mro__ if c is not Op and c is not object for name in vars(c)}


def random_graph(seed: int, steps: int = 12, classes: list[type[Op]] | None = None) -> RandomGraph:
    """A graph of about ``steps`` drawn ops; the same seed gives the same graph."""
    rng = np.random.default_rng(seed)
    classes = classes or all_ops()
    pool: list[Node] = []
    inputs: list[Node] = []
    arrays: list[np.ndarray] = []

    def fresh(array: np.ndarray) -> Node:
        n = leaf(f"x{len(inputs)}", TensorType(array.shape, as_dtype(array.dtype)))
        inputs.append(n)
        arrays.append(array)
        return n

    def operand(array: np.ndarray) -> Node:
        """A fresh input, or an earlier node brought to the type and the range of ``array``."""
        dtype = as_dtype(array.dtype)
        usable = [n for n in pool if n.dtype.is_float or n.dtype is bool_]
        if not dtype.is_float or array.size == 0 or not np.all(np.isfinite(array.astype(np.float64))) or not usable or rng.random() < 0.25:
            return fresh(array)
        x = usable[int(rng.integers(len(usable)))]
        return _squeeze(_shaped(f.cast(x, dtype), array.shape), array)

    for _ in range(steps):
        cls = classes[int(rng.integers(len(classes)))]
        samples: list[Sample] = [s for s in cls.samples(rng) if all(a.size <= MAX_ELEMENTS for a in s.arrays)]
        if not samples:
            continue
        sample = samples[int(rng.integers(len(samples)))]
        new = node(sample.op, *[operand(a) for a in sample.arrays])
        if new.type.size <= MAX_ELEMENTS:
            pool.append(new)
    used = {i for n in pool for i in post_order([n])[:-1]}
    outputs = [n for n in pool if n not in used] + [n for n in pool if n in used and rng.random() < 0.15]
    return RandomGraph(Graph(tuple(inputs), tuple(outputs), name=f"fuzz{seed}"), arrays)


def _shaped(x: Node, shape: tuple[int, ...]) -> Node:
    """``x`` with its elements repeated or cropped to ``shape``; repeated ones are made unequal, since equal ones make ties and zero variances,
    whose outcome rounding decides."""
    size = int(np.prod(shape, dtype=np.int64))
    if x.type.size == 0:
        return f.full(shape, 0.5, x.dtype)
    if x.shape == shape:
        return x
    flat = f.reshape(x, (x.type.size,))
    if x.type.size < size:
        times = -(-size // x.type.size)
        flat = f.reshape(f.broadcast_to(f.reshape(flat, (1, x.type.size)), (times, x.type.size)), (times * x.type.size,))
        flat = f.add(flat, np.linspace(-0.7, 0.9, times * x.type.size).astype(x.dtype.np))
    return f.reshape(f.slice_(flat, (0,), (size,)), shape)


def _squeeze(x: Node, like: np.ndarray) -> Node:
    """Values of ``x`` mapped smoothly into the range of ``like``."""
    wide = like.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    return f.add(f.mul(f.sigmoid(x), high - low), low)
