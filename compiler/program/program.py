"""The program: steps in execution order, over values whose places are decided here.

A step is a kernel call, a host call, a loop or a branch over steps; a ``Block`` keeps steps together while the order is made. What a loop's body reads
and writes row by row is a *view*: a value at an offset into another that moves from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...runtime.dtype import DType
from ...runtime.plan import Move


@dataclass(eq=False)
class Value:
    """An array of the program. ``kind``: "input" and "constant" (``index`` numbers them), "arena" (between calls), "prepared" (kept
    from the setup calls), "output" (``index``). ``donated``: the number of the state input whose memory this value replaces, or -1.

    A view (kind "view") lies ``offset`` bytes into ``base``; with a ``move`` it is another part of it in every step of the loop that made it.
    """

    shape: tuple[int, ...]
    dtype: DType
    kind: str = "arena"
    index: int = -1
    donated: int = -1
    base: Value | None = None
    offset: int = 0
    move: Move | None = None

    @property
    def nbytes(self) -> int:
        n: int = self.dtype.itemsize
        for d in self.shape:
            n = n * d
        return n


def view(base: Value, shape: tuple[int, ...], offset: int = 0, move: Move | None = None) -> Value:
    """An array of ``shape`` inside ``base``."""
    return Value(shape, base.dtype, "view", base=base, offset=offset, move=move)


@dataclass(frozen=True, eq=False)
class Call:
    """One kernel (or routine) over values: ``values`` in the order of ``kernel.buffers``. ``schedule``: a template's, or None for the general emitter."""

    kernel: Any
    values: tuple[Value, ...]
    errors: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    flops: int = 0
    schedule: object | None = None
    ops: tuple[str, ...] = ()  # the graph ops that it computes, in order

    @property
    def reads(self) -> tuple[Value, ...]:
        return self.values[: len(self.values) - self.kernel.outputs]

    @property
    def writes(self) -> tuple[Value, ...]:
        return self.values[len(self.values) - self.kernel.outputs:]

    def moved(self, place: Callable[[Value], Value]) -> Call:
        """The same step over other values."""
        return replace(self, values=tuple([place(v) for v in self.values]))


@dataclass(frozen=True, eq=False)
class HostStep:
    """A call of a function of ``runtime.host``."""

    function: str
    attributes: tuple[tuple[str, object], ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    origins: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[Value, ...]:
        return (*self.reads, *self.writes)

    def moved(self, place: Callable[[Value], Value]) -> HostStep:
        return replace(self, reads=tuple([place(v) for v in self.reads]), writes=tuple([place(v) for v in self.writes]))


@dataclass(frozen=True, eq=False)
class Loop:
    """``steps`` executed ``trip`` times; with a ``condition`` (a bool value), as long as it is true. ``views`` are the values that move with it."""

    trip: int
    steps: tuple[Step, ...]
    views: frozenset[Value]
    condition: Value | None = None
    name: str = "loop"
    origins: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[Value, ...]:
        extra = () if self.condition is None else (self.condition,)
        return _outer((*extra, *[v for s in self.steps for v in s.reads]), self.views)

    @property
    def writes(self) -> tuple[Value, ...]:
        return _outer([v for s in self.steps for v in s.writes], self.views)

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(dict.fromkeys((*self.reads, *self.writes)))

    def moved(self, place: Callable[[Value], Value]) -> Loop:
        views = {v: replace(v, base=place(v.base)) for v in self.views if v.base is not None}
        inner = _inside(views, place)
        condition = None if self.condition is None else place(self.condition)
        return replace(self, steps=tuple([s.moved(inner) for s in self.steps]), views=frozenset(views.values()), condition=condition)


@dataclass(frozen=True, eq=False)
class Branch:
    """``then`` where ``predicate`` (a bool value) is true, else ``otherwise``."""

    predicate: Value
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]
    name: str = "branch"
    origins: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[Value, ...]:
        return _outer((self.predicate, *[v for s in (*self.then, *self.otherwise) for v in s.reads]), frozenset())

    @property
    def writes(self) -> tuple[Value, ...]:
        return _outer([v for s in (*self.then, *self.otherwise) for v in s.writes], frozenset())

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(dict.fromkeys((*self.reads, *self.writes)))

    def moved(self, place: Callable[[Value], Value]) -> Branch:
        return replace(self, predicate=place(self.predicate), then=tuple([s.moved(place) for s in self.then]),
                       otherwise=tuple([s.moved(place) for s in self.otherwise]))


@dataclass(frozen=True, eq=False)
class Block:
    """Steps that are ordered as one: a loop and what goes before and after it. ``reads`` and ``writes`` are what others see of it."""

    steps: tuple[Step, ...]
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        return (*self.reads, *self.writes)


Step = Call | HostStep | Loop | Branch | Block


def _outer(values: Sequence[Value], views: frozenset[Value]) -> tuple[Value, ...]:
    """What a step touches, as seen from outside the loop that made ``views``."""
    return tuple(dict.fromkeys([place_of(v, views)[0] for v in values]))


def place_of(v: Value, views: frozenset[Value]) -> tuple[Value, int, Move | None]:
    """(value, offset, move): where ``v`` lies for a step in a loop that made ``views`` (none: at the top)."""
    if v.base is not None and (v.move is None or v in views):
        return v.base, v.offset, v.move
    return v, 0, None


def _inside(views: dict[Value, Value], place: Callable[[Value], Value]) -> Callable[[Value], Value]:
    fixed: dict[Value, Value] = {}

    def inner(v: Value) -> Value:
        if v in views:
            return views[v]
        if v.base is not None and v.move is None:  # a part of an array, made at this level
            if v not in fixed:
                fixed[v] = replace(v, base=inner(v.base))
            return fixed[v]
        return place(v)

    return inner


@dataclass(eq=False)
class Program:
    """``inputs[i]`` (with role ``roles[i]``), ``outputs[i]`` and ``constants[i]`` are the values of the ports and of the constant arrays."""

    inputs: list[Value]
    roles: list[str]
    outputs: list[Value]
    constants: list[tuple[Value, object]]
    setup: list[Step] = field(default_factory=list)
    calls: list[Step] = field(default_factory=list)


def flat(steps: Sequence[Step]) -> list[Step]:
    """The steps with blocks taken apart."""
    return [t for s in steps for t in (flat(s.steps) if isinstance(s, Block) else [s])]


def kernel_calls(steps: Sequence[Step]) -> Iterator[Call]:
    """Every kernel call, those in loops and branches too."""
    for s in steps:
        if isinstance(s, Call):
            yield s
        elif isinstance(s, Branch):
            yield from kernel_calls((*s.then, *s.otherwise))
        elif not isinstance(s, HostStep):
            yield from kernel_calls(s.steps)


def readers(calls: Sequence[Step]) -> dict[Value, list[Step]]:
    """The steps that read each value."""
    out: dict[Value, list[Step]] = {}
    for c in calls:
        for v in dict.fromkeys(c.reads):
            out.setdefault(v, []).append(c)
    return out
