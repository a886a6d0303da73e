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
from kerogen.compiler.ops.convert import Bitcast
from kerogen.compiler.ops.linalg import Cholesky
from kerogen.compiler.ops.logic import SignBit
from kerogen.compiler.ops.search import SearchSorted
from kerogen.runtime.dtype import as_dtype, bool_

MAX_ELEMENTS = 4096
CONTROL = 0.12  # of the steps are loops or branches


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
        if not inspect.isabstract(cls) and cls.kind not in ("", "result") and not cls.__name__.startswith("_") and "samples" in _defined(cls):
            seen[cls.__name__] = cls
    return [seen[n] for n in sorted(seen)]


def _defined(cls: type) -> set[str]:
    return {name for c in cls.__mro__ if c is not Op and c is not object for name in vars(c)}


def random_graph(seed: int, steps: int = 12, classes: list[type[Op]] | None = None) -> RandomGraph:
    """A graph of about ``steps`` drawn ops, loops and branches; the same seed gives the same graph."""
    drawn = _Drawing(np.random.default_rng(seed), classes or all_ops(), CONTROL if classes is None else 0.0)
    pool: list[Node] = []
    for _ in range(steps):
        drawn.step(pool)
    used = {i for n in pool for i in post_order([n])[:-1]}
    outputs = [n for n in pool if n not in used] + [n for n in pool if n in used and drawn.rng.random() < 0.15]
    return RandomGraph(Graph(tuple(drawn.inputs), tuple(outputs), name=f"fuzz{seed}"), drawn.arrays)


class _Drawing:
    """Draws nodes one after another; ``control`` is how often a step is a loop or a branch."""

    def __init__(self, rng: np.random.Generator, classes: list[type[Op]], control: float):
        self.rng, self.classes, self.control = rng, classes, control
        self.inputs: list[Node] = []
        self.arrays: list[np.ndarray] = []

    def step(self, pool: list[Node], depth: int = 0) -> None:
        """Adds what one drawn op, loop or branch gives to ``pool``."""
        rng = self.rng
        if rng.random() < self.control and depth < 2 and _floats(pool):
            made = self._scan(pool, depth) if rng.random() < 0.6 else self._cond(pool, depth)
            pool.extend(n for n in made if n.type.size <= MAX_ELEMENTS)
            return
        cls = self.classes[int(rng.integers(len(self.classes)))]
        if depth and cls.kind == "host":
            return  # host calls can't be part of a loop or a branch
        samples: list[Sample] = [s for s in cls.samples(rng) if all(a.size <= MAX_ELEMENTS for a in s.arrays)]
        if not samples:
            return
        sample = samples[int(rng.integers(len(samples)))]
        # The sign and payload of a nan that was computed are no one's promise, and a bitcast or a sign bit shows them.
        # Values mapped into a range don't make a matrix definite, and where a factorisation fails is for rounding to decide.
        known = [] if cls in (Bitcast, SignBit, Cholesky, SearchSorted) else pool
        # Whether a border's zero times a nan is nan differs between a sum with the border and one without: neither is wrong.
        whole = cls.kind in ("contraction", "window")
        new = node(sample.op, *[self._operand(known, a, whole) for a in sample.arrays])
        pool.extend(n for n in (f.results(new) if new.has_items else [new]) if n.type.size <= MAX_ELEMENTS)

    def _fresh(self, array: np.ndarray) -> Node:
        n = leaf(f"x{len(self.inputs)}", TensorType(array.shape, as_dtype(array.dtype)))
        self.inputs.append(n)
        self.arrays.append(array)
        return n

    def _operand(self, pool: list[Node], array: np.ndarray, whole: bool = False) -> Node:
        """A fresh input, or an earlier node brought to the type and the range of ``array``; ``whole``: without nan."""
        dtype = as_dtype(array.dtype)
        usable = [n for n in pool if n.dtype.is_float or n.dtype is bool_]
        if not dtype.is_float or dtype.storage or array.size == 0 or not np.all(np.isfinite(array.astype(np.float64))) or not usable or self.rng.random() < 0.25:
            return self._fresh(array)
        x = usable[int(self.rng.integers(len(usable)))]
        x = _shaped(f.cast(x, dtype), array.shape)
        return _squeeze(f.where(f.isnan(x), 0.25, x) if whole else x, array)

    def _scan(self, pool: list[Node], depth: int) -> list[Node]:
        """A few steps of a drawn body, which sees a carry, an item and everything in the pool."""
        rng = self.rng
        init = self._bounded(pool)
        length = int(rng.integers(1, 5))
        item = self._bounded(pool)
        xs = f.stack([f.mul(item, float(w)) for w in rng.uniform(0.3, 1, length)], 0)

        def body(state: list[Node], now: list[Node]) -> tuple[list[Node], list[Node]]:
            inner = [*pool[-4:], *now, *state]
            for _ in range(int(rng.integers(1, 4))):
                self.step(inner, depth + 1)
            new = _squeeze(_shaped(f.cast(_last_float(inner), state[0].dtype), state[0].shape), _RANGE)
            return [new], [f.add(state[0], new), _last_float(inner)]

        state, ys = f.scan(body, [init], [xs], reverse=bool(rng.integers(2)))
        return [*state, *ys]

    def _cond(self, pool: list[Node], depth: int) -> list[Node]:
        """Two drawn branches; the choice is the rank of an integer input."""
        choice = self._fresh(self.rng.integers(0, 2, ()).astype(np.int32))
        like = self._bounded(pool)

        def branch() -> list[Node]:
            inner = list(pool[-4:])
            for _ in range(int(self.rng.integers(1, 3))):
                self.step(inner, depth + 1)
            return [_squeeze(_shaped(f.cast(_last_float(inner), like.dtype), like.shape), _RANGE)]

        return f.cond(f.gt(choice, 0), branch, branch)

    def _bounded(self, pool: list[Node]) -> Node:
        """An earlier floating node (or a number beside it) as a small array of values in [-1, 1]."""
        floats = _floats(pool)
        x = floats[int(self.rng.integers(len(floats)))]
        shape = tuple(int(n) for n in self.rng.integers(1, 5, int(self.rng.integers(0, 3))))
        return _squeeze(_shaped(x, shape), _RANGE)


_RANGE = np.array([-1.0, 1.0])


def _floats(pool: list[Node]) -> list[Node]:
    return [n for n in pool if n.dtype.is_float and not n.dtype.storage]


def _last_float(pool: list[Node]) -> Node:
    return _floats(pool)[-1]


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
