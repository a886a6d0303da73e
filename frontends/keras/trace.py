"""From Python functions over tensors to graphs and executables.

``TraceScope`` collects what a traced function does to variables. While one is active, layers and ``ops`` compute ``Tensor``s (graph nodes):

    with TraceScope() as scope:
        y = model(Tensor(leaf), training=True)   # reads variables: they become inputs of the graph
    scope.inputs     # [(variable, its leaf), ...] in the order of first reading (or as given)
    scope.updates    # {variable: new value}: moving statistics, seed counters, whatever was assigned
    scope.value(v)   # the node of v's current value: its leaf, or what was last assigned
    scope.assign(v, node)
    scope.losses     # what layers gave to add_loss

``compile_function`` does all of it: it traces ``fn`` once to find the variables, and gives an executable whose graph has the arrays as role
"input", variables that are only read as "parameter", and assigned ones as "state", aliased with their new values. ``predict``, eager calls, training
steps and ``kg.compile`` are made with it:

    def step(x, y):                     # traced: x and y are Tensors
        loss = loss_fn(y, model(x, training=True))
        optimizer.apply(...)            # scope.assign / Variable.assign
        return loss
    exe = compile_function(step, (ArgSpec(("batch", 8), "float32", "x"), ArgSpec(("batch",), "int32", "y")), name="step")
    loss = exe(x_array, y_array)        # variables updated in place
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...compiler import ops as F
from ...compiler import pipeline
from ...compiler.ir.graph import Graph, Input, Node, leaf
from ...compiler.ir.rewrite import substitute
from ...compiler.ir.types import TensorType
from ...runtime.dim import Dim, recording, replay
from ...runtime.dtype import DType, as_dtype
from ...runtime.errors import ArgumentError, StateError
from . import config
from .structure import flatten, pack_as
from .tensor import EagerTensor, KerasTensor, Tensor
from .variable import Variable

_SCOPE: ContextVar[TraceScope | None] = ContextVar("kerogen_trace", default=None)


def current_scope() -> TraceScope | None:
    """The active ``TraceScope``, or None: then calls on arrays compute at once."""
    return _SCOPE.get()


class Effects:
    """What a part of a trace did: ``updates`` {variable: its value at the end}, ``losses`` [(owner, loss)]."""

    def __init__(self) -> None:
        self.updates: dict[Variable, Node] = {}
        self.losses: list[tuple[Any, Tensor]] = []


class TraceScope:
    """See the module. ``state``: variables whose leaf gets role "state" (they will be assigned); ``order``: variables whose leaves come first."""

    def __init__(self, state: Iterable[Variable] = (), order: Iterable[Variable] = ()):
        self._state = {id(v) for v in state}
        self._leaves: dict[int, tuple[Variable, Node]] = {}
        self._updates: dict[int, tuple[Variable, Node]] = {}
        self._tokens: list[Token] = []
        self.losses: list[tuple[Any, Tensor]] = []
        self._stand_ins: dict[Node, Node] = {}
        self.kept: dict[Any, Any] = {}  # values that layers compute once for all their calls in this trace (masks of recurrent dropout)
        for v in order:
            self._leaf(v)

    def __enter__(self) -> TraceScope:
        self._tokens.append(_SCOPE.set(self))
        return self

    def __exit__(self, *exc: object) -> None:
        _SCOPE.reset(self._tokens.pop())

    def _leaf(self, v: Variable) -> Node:
        found = self._leaves.get(id(v))
        if found is None:
            role = "state" if id(v) in self._state else "parameter"
            found = self._leaves[id(v)] = (v, leaf(v.path, TensorType(v.array.shape, as_dtype(v.array.dtype)), role))
        return found[1]

    def value(self, v: Variable) -> Node:
        """The node of the variable's value at this point of the trace."""
        updated = self._updates.get(id(v))
        return updated[1] if updated is not None else self._leaf(v)

    def initial(self, v: Variable) -> Node:
        """The leaf: the variable's value when the function is entered. Derivatives are taken with respect to it."""
        return self._leaf(v)

    def assign(self, v: Variable, node: Node) -> None:
        """From here on the variable's value is ``node`` (same type); after the run it is the variable's array."""
        first = self._leaf(v)
        if not node.type.same(first.type):
            raise ArgumentError(f"Variable '{v.path}' is {first.type}; a value of type {node.type} can't be assigned to it")
        self._updates[id(v)] = (v, node)

    def substitute(self, mapping: Mapping[Node, Node]) -> None:
        """Replaces leaves that stood for other nodes in all that the trace holds: assigned values and losses. Where a function kept tensors
        that have them, they are replaced when the graph is made."""
        self._stand_ins = dict(zip(self._stand_ins, substitute(list(self._stand_ins.values()), mapping)))
        self._stand_ins.update(zip(mapping, substitute(list(mapping.values()), self._stand_ins)))
        kept = list(self._updates.items())
        nodes = substitute([n for _, (_, n) in kept] + [loss.node for _, loss in self.losses], mapping)
        self._updates = {key: (v, n) for (key, (v, _)), n in zip(kept, nodes)}
        for (_, loss), n in zip(self.losses, nodes[len(kept):]):
            loss.node = n

    def settled(self, nodes: list[Node]) -> list[Node]:
        """The nodes without any leaf that stood for another node."""
        return substitute(nodes, self._stand_ins) if self._stand_ins else nodes

    def add_loss(self, owner: Any, loss: Tensor) -> None:
        self.losses.append((owner, loss))

    @contextlib.contextmanager
    def aside(self) -> Iterator[Effects]:
        """What is assigned and added to the losses inside is collected, and taken back at the end: it happens in the body of a loop or a branch."""
        updates, kept, count = dict(self._updates), dict(self.kept), len(self.losses)
        effects = Effects()
        try:
            yield effects
        finally:
            effects.updates = {v: n for key, (v, n) in self._updates.items() if n is not updates.get(key, self._leaves[key])[1]}
            effects.losses = self.losses[count:]
            self._updates, self.kept = updates, kept
            del self.losses[count:]

    @property
    def inputs(self) -> list[tuple[Variable, Node]]:
        return list(self._leaves.values())

    @property
    def updates(self) -> dict[Variable, Node]:
        return {v: n for v, n in self._updates.values() if n is not self._leaves[id(v)][1]}


@dataclass(frozen=True)
class ArgSpec:
    """An array argument: ``shape`` holds ints and names of free dimensions ("batch"), ``dtype`` is a name."""

    shape: tuple[int | str, ...]
    dtype: str = "float32"
    name: str = "x"

    def tensor(self, dims: Mapping[str, int]) -> Tensor:
        shape = tuple([dims[d] if isinstance(d, str) else d for d in self.shape])
        return Tensor(leaf(self.name, TensorType(shape, as_dtype(self.dtype))))


class _Sizes(dict):
    """Values of free dimensions for a first trace: those given, 7 for others."""

    def __missing__(self, name: str) -> int:
        self[name] = Dim.free(name, 7)
        return self[name]


class Traced:
    """A function traced once: its variables, which of them it assigns, and the structure of its result. ``graph(dims)`` traces it anew, but for
    the sizes of the first trace, whose graph is taken."""

    def __init__(self, fn: Callable, specs: Any, name: str, sizes: Mapping[str, int] | None = None):
        self.fn, self.specs, self.name = fn, specs, name
        self._flat: list[ArgSpec] = flatten(specs)
        dims = _Sizes({k: Dim.free(k, v) for k, v in (sizes or {}).items()})
        with recording() as guards, TraceScope() as scope:
            leaves, out = self._call(dims)
            outputs = [as_node(t) for t in flatten(out)]
        self.variables = [v for v, _ in scope.inputs]
        self.state = list(scope.updates)
        self.structure = out
        self.output_count = len(outputs)
        self._guards = guards
        self._values = {k: int(v) for k, v in dims.items()}
        self._first: Graph | None = self._donating(self._graph(scope, leaves, outputs))
        self.ports = pipeline.ports_of(self._first)

    def _call(self, dims: Mapping[str, int]) -> tuple[list[Node], Any]:
        args = [s.tensor(dims) for s in self._flat]
        return [a.node for a in args], self.fn(*pack_as(self.specs, args))

    def graph(self, dims: Mapping[str, int]) -> Graph:
        if self._first is not None and {k: int(v) for k, v in dims.items()} == self._values:
            graph, self._first = self._first, None
            replay(self._guards)
            return graph
        with TraceScope(state=self.state, order=self.variables) as scope:
            leaves, out = self._call(dims)
            outputs = [as_node(t) for t in flatten(out)]
        if len(scope.inputs) != len(self.variables) or len(outputs) != self.output_count:
            raise StateError(f"{self.name}: tracing it a second time read other variables than the first time; make variables in __init__ or build()")
        return self._graph(scope, leaves, outputs)

    def _graph(self, scope: TraceScope, leaves: list[Node], outputs: list[Node]) -> Graph:
        inputs = leaves + [n for _, n in scope.inputs]
        aliases = []
        outputs = list(outputs)
        for i, v in enumerate(self.variables):
            if any(v is s for s in self.state):
                aliases.append((len(outputs), len(leaves) + i))
                outputs.append(scope.value(v))
        names = distinct([*output_names(self.structure), *[v.path for v in self.variables if any(v is s for s in self.state)]])
        graph = Graph(tuple(inputs), tuple(scope.settled(outputs)), tuple(aliases), names, self.name)
        known = set(inputs)
        for n in graph.nodes:
            if isinstance(n.op, Input) and n not in known:
                raise ArgumentError(f"{self.name}: a tensor {n.type} that belongs to another trace, or to the body of a loop or a branch, is used outside of it; "
                                    "return it from there (did a function store a tensor in a list or an attribute?)")
        return graph

    @staticmethod
    def _donating(graph: Graph) -> Graph:
        """The graph of a first trace, which could not know what would be assigned: leaves that are become role "state"."""
        donated = {graph.inputs[i]: leaf(graph.inputs[i].op.name, graph.inputs[i].type, "state") for _, i in graph.aliases}
        if not donated:
            return graph
        inputs = tuple([donated.get(n, n) for n in graph.inputs])
        return Graph(inputs, tuple(substitute(list(graph.outputs), donated)), graph.aliases, graph.output_names, graph.name)

    def unflatten(self, arrays: list[np.ndarray]) -> Any:
        """The function's result: the structure that it returned, of ``EagerTensor``s."""
        return pack_as(self.structure, [EagerTensor(a) for a in arrays[:self.output_count]])

    def executable(self, options: Any = None, unflatten: Callable | None = None) -> Any:
        return pipeline.executable(self.graph, bindings=self.variables, name=self.name, options=options, unflatten=unflatten or self.unflatten,
                                   ports=self.ports)


def distinct(names: list[str]) -> tuple[str, ...]:
    """The names, those that were there before with a number behind."""
    seen: dict[str, int] = {}
    out = []
    for n in names:
        seen[n] = seen.get(n, 0) + 1
        out.append(n if seen[n] == 1 else f"{n}#{seen[n]}")
    return tuple(out)


def output_names(structure: Any) -> tuple[str, ...]:
    """Names of a result's leaves: its keys for a dict, "output" or "output_i" otherwise."""
    if isinstance(structure, dict) and len(flatten(structure)) == len(structure):
        return tuple([str(k) for k in sorted(structure)])
    n = len(flatten(structure))
    return ("output",) if n == 1 else tuple([f"output_{i}" for i in range(n)])


def compile_function(fn: Callable, specs: Any, *, name: str, options: Any = None, sizes: Mapping[str, int] | None = None,
                     unflatten: Callable | None = None) -> Any:
    """The executable of ``fn(*specs)``; ``specs`` is a tuple of ``ArgSpec``s or structures of them. ``fn`` returns a structure of Tensors.

    ``sizes`` are values of free dimensions for the first trace (those of the first call, so that what depends on sizes is seen as it will be).
    The executable takes the flat list of arrays in the order of ``structure.flatten(specs)``.
    """
    return Traced(fn, specs, name, sizes).executable(options, unflatten)


def variable_node(scope: TraceScope, v: Variable) -> Node:
    """The node of a variable's value, in the type in which it is read here."""
    return F.cast(scope.value(v), as_dtype(v.dtype))


def as_node(x: Any, dtype: DType | None = None) -> Node:
    """A node of a traced tensor, a variable (read through the scope), a node, or a value (a constant)."""
    if isinstance(x, Tensor):
        n = x.node
    elif isinstance(x, Node):
        n = x
    elif isinstance(x, Variable):
        scope = current_scope()
        if scope is None:
            raise StateError(f"Variable '{x.path}' meets a traced tensor outside a TraceScope; trace the function with kerogen.compile")
        n = variable_node(scope, x)
    elif isinstance(x, KerasTensor):
        raise ArgumentError(f"{x!r} is symbolic; it can't be used while a layer is traced (did call() keep a tensor of another model?)")
    else:
        n = F.constant(as_array(x))
    return n if dtype is None else F.cast(n, dtype)


def as_array(x: Any) -> np.ndarray:
    """A NumPy array of a value: Python floats are ``floatx()``, ints int32 (where they fit), arrays keep their type."""
    if isinstance(x, EagerTensor):
        return x.numpy()
    if isinstance(x, Variable):
        return x.__array__()
    try:
        a = np.asarray(x)
        if not hasattr(x, "dtype"):
            if a.dtype == np.float64:
                a = a.astype(as_dtype(config.floatx()).np)
            elif a.dtype == np.int64 and (a.size == 0 or np.abs(a).max() < 2**31):
                a = a.astype(np.int32)
        as_dtype(a.dtype)
        return a
    except (ValueError, TypeError) as e:
        raise ArgumentError(f"{type(x).__name__} can't be used as a tensor: {e}. Give a NumPy array, a tensor, a number, or lists of equal lengths") from None
