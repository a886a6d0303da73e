"""Nodes and graphs. A node is an op applied to nodes; equal nodes are the same object (hash-consing), so common
subexpressions never exist twice. Types are inferred when a node is made: an ill-typed node can't exist.

Nodes hash and compare by identity. The table of nodes holds them weakly; a leaf (``Input``) is unique by construction, so what hangs from one trace
never mixes with another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from ...runtime.errors import DTypeError, InternalError
from . import location
from .types import TensorType, TupleType

_TABLE: WeakValueDictionary = WeakValueDictionary()
_SERIAL = count()


class Node:
    """``op`` applied to ``inputs``; ``type`` is the result's. Made by ``node()`` only. ``origins`` say where in the model it came from."""

    __slots__ = ("op", "inputs", "type", "origins", "__weakref__")
    op: Any
    inputs: tuple[Node, ...]
    type: Any  # a TensorType; a TupleType where the op has several results
    origins: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def dtype(self):
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def has_items(self) -> bool:
        """Whether the node has several results, which ``Result`` nodes take apart."""
        return isinstance(self.type, TupleType)

    def __repr__(self) -> str:
        return f"<{self.op} : {self.type}>"


def node(op: Any, *inputs: Node) -> Node:
    """The node ``op(*inputs)``: an existing one where there is an equal one. Raises what ``op.infer`` raises."""
    k = (op.identity, tuple([id(i) for i in inputs]))
    found = _TABLE.get(k)
    here = location.current()
    if found is not None:
        if here and not set(here) <= set(found.origins) and len(found.origins) < 8:
            found.origins = tuple(dict.fromkeys(found.origins + here))
        return found
    new = object.__new__(Node)
    new.op, new.inputs, new.origins = op, inputs, here
    for i in inputs:
        if not i.has_items and i.dtype.storage and not op.moves:
            raise DTypeError(f"{op.name} doesn't compute in {i.dtype}, which is only a way to store numbers; cast it first (got {i.type})")
    new.type = op.infer(*[i.type for i in inputs])
    _TABLE[k] = new
    return new


@dataclass(frozen=True, eq=False)
class Input:
    """The op of a leaf: an array given from outside. ``role``: "input", "parameter" or "state" (donated), as in ``runtime.plan.Port``."""

    name: str
    type: TensorType
    role: str = "input"
    serial: int = field(default_factory=lambda: next(_SERIAL))

    kind = "source"
    differentiable = True

    @property
    def key(self) -> tuple:
        return (Input, self.serial)

    identity = key

    def infer(self) -> TensorType:
        return self.type

    def __str__(self) -> str:
        return f"Input({self.name!r})"


def leaf(name: str, type: TensorType, role: str = "input") -> Node:
    """A new input of a graph."""
    return node(Input(name, type, role))


def post_order(roots: Iterable[Node]) -> list[Node]:
    """Every node under ``roots``, operands first, each once, depth first from the first root; iterative."""
    seen: set[Node] = set()
    out: list[Node] = []
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        n, done = stack.pop()
        if done:
            out.append(n)
        elif n not in seen:
            seen.add(n)
            stack.append((n, True))
            stack.extend([(i, False) for i in reversed(n.inputs) if i not in seen])
    return out


@dataclass(frozen=True, eq=False)
class Graph:
    """Inputs (leaves, in the order of the call), outputs, and which outputs update which inputs' memory.

    ``aliases`` maps an output's number to the number of the donated input (role "state") that it replaces; types are equal.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    aliases: tuple[tuple[int, int], ...] = ()
    output_names: tuple[str, ...] = ()
    name: str = "graph"

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes that the outputs need, operands first (unused inputs are not among them)."""
        return tuple(post_order(self.outputs))

    @cached_property
    def users(self) -> dict[Node, tuple[Node, ...]]:
        """The nodes that read each node (an output that no node reads maps to ())."""
        users: dict[Node, list[Node]] = {n: [] for n in self.nodes}
        for n in self.nodes:
            for i in dict.fromkeys(n.inputs):
                users[i].append(n)
        return {n: tuple(u) for n, u in users.items()}

    def with_outputs(self, outputs: Iterable[Node]) -> Graph:
        outputs = tuple(outputs)
        if len(outputs) != len(self.outputs) or any(not a.type.same(b.type) for a, b in zip(outputs, self.outputs)):
            raise InternalError(f"{self.name}: a pass changed the types of the outputs")
        return Graph(self.inputs, outputs, self.aliases, self.output_names, self.name)
