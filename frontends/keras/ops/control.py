"""Loops, branches and maps: Keras' control functions, as ops with sub-graphs that run natively.

The functions given are traced once. They may use tensors and variables from outside. What a step of a loop assigns to variables (a seed's counter,
moving statistics) is carried from step to step like its own state, and what it adds to the losses is summed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ....compiler import ops as F
from ....compiler.ir.graph import Node, leaf
from ....compiler.ir.types import TensorType
from ....compiler.ops.batching import batch_cone
from ....runtime.dim import Dim, text
from ....runtime.errors import ArgumentError, ShapeError, UnsupportedOpError
from ..operation import Operation, has_symbolic
from ..structure import flatten, is_nested, map_structure, ordered_keys, pack_as, same_structure
from ..tensor import Tensor
from ..trace import ArgSpec, Effects, TraceScope, as_array, as_node, compile_function, current_scope
from ..variable import Variable


class ControlFlow(Operation):
    """A call of a control function in a functional model. It holds Python functions, so a model with one is saved as code, not as a file."""

    def __init__(self, function: Callable, what: str):
        super().__init__()
        self._function, self._what = function, what

    def call(self, *tensors: Any) -> Any:
        return self._function(*tensors)

    def get_config(self) -> dict:
        raise UnsupportedOpError(f"a model with ops.{self._what} in it can't be saved: it holds Python functions. Write a Layer subclass whose call uses "
                                 f"ops.{self._what}, and save its weights or register it with register_keras_serializable")


def _control(tensors: int, first: int = 1) -> Callable:
    """Decorates ``fn(functions..., tensors..., options...)``: traced where tensors are, compiled and run at once on arrays, recorded on symbolic ones.
    The tensors are the ``tensors`` parameters after the ``first`` ones."""

    def decorate(fn: Callable) -> Callable:
        signature = inspect.signature(fn)
        names = list(signature.parameters)[first:first + tensors]

        @functools.wraps(fn)
        def function(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as e:
                raise ArgumentError(f"ops.{fn.__name__}: {e}; its arguments are {signature}") from None
            bound.apply_defaults()
            given = [bound.arguments[n] for n in names]

            def on(*values: Any) -> Any:
                return fn(**{**bound.arguments, **dict(zip(names, values))})

            if has_symbolic(*given):
                return ControlFlow(on, fn.__name__).symbolic_call(*given)
            if current_scope() is not None or any(isinstance(x, Tensor) for x in flatten(given)):
                return on(*given)
            return _at_once(fn.__name__, on, given)

        return function

    return decorate


def _at_once(name: str, fn: Callable, tensors: Any) -> Any:
    """``fn(*tensors)`` on arrays, compiled for this call."""
    leaves = flatten(tensors)
    arrays = [as_array(x) for x in leaves if x is not None]
    specs = tuple([ArgSpec(a.shape, a.dtype.name, f"x{i}") for i, a in enumerate(arrays)])

    shape: Any = None

    def traced(*values: Tensor) -> list:
        nonlocal shape
        it = iter(values)
        shape = fn(*pack_as(tensors, [None if x is None else next(it) for x in leaves]))
        return [x for x in flatten(shape) if x is not None]

    results = iter(compile_function(traced, specs, name=name)(*arrays))
    return pack_as(shape, [None if x is None else next(results) for x in flatten(shape)])


# Structures of tensors as lists of nodes ----------------------------------------------------------------------------------------------------------------


def _paths(x: Any, path: str) -> list[str]:
    """How to write each leaf of a structure: ``carry['h'][0]``."""
    if not is_nested(x):
        return [path]
    keys = ordered_keys(x) if isinstance(x, dict) else range(len(x))
    return [p for k in keys for p in _paths(x[k], f"{path}[{k!r}]")]


def _nodes(x: Any) -> list[Node]:
    return [as_node(v) for v in flatten(x) if v is not None]


def _packed(like: Any, nodes: Sequence[Node]) -> Any:
    it = iter(nodes)
    return pack_as(like, [None if v is None else Tensor(next(it)) for v in flatten(like)])


def fitted(x: Any, want: TensorType, what: str) -> Node:
    """``x`` as a node of type ``want``: a number takes its dtype, a size that is equal here takes its expression. ShapeError for any other type."""
    if isinstance(x, (bool, int, float)) and not isinstance(x, Dim):
        x = F.constant(x, want.dtype)
    n = as_node(x)
    if n.type.same(want):
        return n
    if n.dtype is not want.dtype or n.rank != len(want.shape) or any(a != b for a, b in zip(n.shape, want.shape)):
        raise ShapeError(f"{what}: it is {want} before and {n.type} after; it must keep its type (ops.cast and ops.broadcast_to change a type)")
    return F.reshape(n, want.shape)


def _fit(what: str, name: str, like: Any, new: Any, types: Sequence[TensorType]) -> list[Node]:
    if not same_structure(like, new):
        raise ArgumentError(f"{what}: the {name} must come back in the structure that it had: {_picture(like)}, not {_picture(new)}")
    leaves = [(p, a, b) for p, a, b in zip(_paths(like, name), flatten(like), flatten(new))]
    for p, a, b in leaves:
        if (a is None) != (b is None):
            raise ArgumentError(f"{what}: {p} is None before or after, and a tensor otherwise")
    return [fitted(b, t, f"{what}: {p}") for (p, _, b), t in zip([x for x in leaves if x[1] is not None], types, strict=True)]


def _picture(x: Any) -> str:
    return str(map_structure(lambda v: v if v is None else "*", x)).replace("'*'", "*")


# Loops ----------------------------------------------------------------------------------------------------------------------------------------------------


class Loop:
    """A loop whose steps may assign variables and add losses: both are carried beside the loop's own state.

    ``run(write)`` calls ``write(wrap, start)``, which makes the loop from the initial nodes ``start`` and returns the final ones (and whatever it likes
    more); ``wrap(carries, step)`` is called by it in the loop's body: ``step(own carries) -> (new own carries, result)``. If the first trace of a step
    finds assignments, the loop is made again with these variables as carries.
    """

    def __init__(self, init: Sequence[Node]):
        self.init = list(init)
        self.variables: dict[Variable, None] = {}  # in order; a list's `in` would compare values
        self.losses: list[tuple[Any, TensorType]] = []
        self.scope = current_scope() or TraceScope()  # functions may be traced on bare leaves, without one

    def wrap(self, carries: list[Node], step: Callable[[list[Node]], tuple[Sequence[Node], Any]]) -> tuple[list[Node], Any]:
        n, m = len(self.init), len(self.init) + len(self.variables)
        with self.scope.aside() as effects:
            for v, c in zip(self.variables, carries[n:m]):
                self.scope.assign(v, c)
            new, result = step(carries[:n])
            state = [self.scope.value(v) for v in self.variables]
        self.seen.append(effects)
        totals = [F.add(c, loss.node) for c, (_, loss) in zip(carries[m:], effects.losses)]
        return [*new, *state, *totals], result

    def reading(self, carries: list[Node], test: Callable[[list[Node]], Any]) -> Any:
        """A function of the carries that may read variables and not assign them (a loop's condition)."""
        mine = dict(zip(self.variables, carries[len(self.init):]))
        with self.scope.aside() as effects:
            for v, c in mine.items():
                self.scope.assign(v, c)
            out = test(carries[:len(self.init)])
        changed = [v.path for v, n in effects.updates.items() if mine.get(v) is not n]
        if changed or effects.losses:
            raise ArgumentError(f"the condition of a loop can't assign variables ({', '.join(changed) or 'none'}) or add losses; do it in the body")
        return out

    def run(self, write: Callable[[list[Node]], tuple[list[Node], Any]]) -> tuple[list[Node], Any]:
        for _ in range(4):  # an assignment may be found only when another variable is carried
            self.seen: list[Effects] = []
            start = [*self.init, *[self.scope.value(v) for v in self.variables], *[F.zeros(t.shape, t.dtype) for _, t in self.losses]]
            final, rest = write(start)
            effects = self.seen[0] if self.seen else Effects()
            new = [v for v in effects.updates if v not in self.variables]
            if not new and len(effects.losses) == len(self.losses):
                break
            self.variables.update(dict.fromkeys(new))
            self.losses = [(owner, loss.node.type) for owner, loss in effects.losses]
        else:
            raise ArgumentError("a loop's step assigns other variables, or adds other losses, each time it is traced; it must do the same every time")
        n, m = len(self.init), len(self.init) + len(self.variables)
        for v, value in zip(self.variables, final[n:m]):
            self.scope.assign(v, value)
        for (owner, _), total in zip(self.losses, final[m:]):
            self.scope.add_loss(owner, Tensor(total))
        return final[:n], rest


def scan_nodes(step: Callable[[list[Node], list[Node]], tuple[Sequence[Node], Sequence[Node]]], init: Sequence[Node], xs: Sequence[Node],
               length: int | None = None, reverse: bool = False) -> tuple[list[Node], list[Node]]:
    """``compiler.ops.scan`` of a step that may assign variables and add losses. Each step returns carries of the types of ``init``."""
    loop = Loop(init)

    def write(start: list[Node]) -> tuple[list[Node], list[Node]]:
        return F.scan(lambda cs, rows: loop.wrap(cs, lambda own: step(own, rows)), start, xs, length, reverse)

    return loop.run(write)


@_control(2)
def scan(f: Callable, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: Any = 1) -> tuple[Any, Any]:
    """(last carry, stacked ys) of ``carry, y = f(carry, x)`` over the rows of ``xs`` [length, ...], a structure of tensors or None.

    ``carry`` has the structure and types of ``init`` (else ShapeError). With ``reverse``, from the last row to the first. ``unroll`` is accepted:
    a loop's body is compiled once in any case. Differentiable.
    """
    _check_unroll(unroll)
    rows = _nodes(xs)
    length = _steps("scan", rows, length)
    start, shape = _nodes(init), None

    def step(carries: list[Node], items: list[Node]) -> tuple[list[Node], list[Node]]:
        nonlocal shape
        out = f(_packed(init, carries), _packed(xs, items))
        if not isinstance(out, (tuple, list)) or len(out) != 2:
            raise ArgumentError(f"scan: f(carry, x) must return a pair (carry, y), not {out!r}")
        carry, shape = out
        return _fit("scan", "carry", init, carry, [c.type for c in carries]), _nodes(shape)

    last, ys = scan_nodes(step, start, rows, length, reverse)
    return _packed(init, last), _packed(shape, ys)


def _check_unroll(unroll: Any) -> None:
    if not isinstance(unroll, bool) and (not isinstance(unroll, int) or unroll < 1):
        raise ArgumentError(f"scan: unroll must be a positive integer or a bool, got {unroll!r}")


def _steps(what: str, rows: Sequence[Node], length: Any) -> int:
    for n in rows:
        if not n.rank:
            raise ShapeError(f"{what}: a scalar has no axis to step along; give tensors whose first axis has the steps")
        if length is None:
            length = n.shape[0]
        if n.shape[0] != length:
            raise ShapeError(f"{what} over {text(length)} steps: {n.type} has {text(n.shape[0])} rows; all must have as many")
    if length is None:
        raise ArgumentError(f"{what}: give xs, or the number of steps as length")
    if isinstance(length, bool) or not hasattr(length, "__index__") or length < 0:
        raise ArgumentError(f"{what}: length must be an integer >= 0 that is known when tracing, got {length!r}")
    return length


@_control(1)
def map(f: Callable, xs: Any) -> Any:
    """``f`` of every row of ``xs``, results stacked on axis 0."""
    return _mapped("map", f, xs)


@_control(1)
def vectorized_map(function: Callable, elements: Any) -> Any:
    """``function`` of every row of ``elements``, results stacked on axis 0. What can be computed for all rows at once, is."""
    return _mapped("vectorized_map", function, elements)


def _mapped(what: str, f: Callable, xs: Any) -> Any:
    rows, shape = _nodes(xs), None

    def step(items: list[Node]) -> list[Node]:
        nonlocal shape
        shape = f(_packed(xs, items))
        return _nodes(shape)

    _steps(what, rows, None)
    ys = map_rows(step, rows)
    return _packed(shape, ys)


def map_rows(step: Callable[[list[Node]], list[Node]], xs: Sequence[Node]) -> list[Node]:
    """``step`` of the rows of ``xs`` [length, ...], its results stacked. It is traced on one row; where every op of it has a form for all rows at once
    and it assigns nothing, there is no loop."""
    length = xs[0].shape[0]
    scope = current_scope() or TraceScope()
    rows = [leaf(f"x{i}", x.type.with_shape(x.shape[1:])) for i, x in enumerate(xs)]
    with scope.aside() as effects:
        ys = step(list(rows))
    if not (effects.updates or effects.losses):
        known = dict(zip(rows, xs))
        whole = [batch_cone(y, known, length) for y in ys]
        if all(w is not None for w in whole):
            return whole
    return scan_nodes(lambda _, items: ([], step(items)), [], xs, length)[1]


@_control(1, first=2)
def while_loop(cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None) -> Any:
    """``loop_vars`` after ``body`` was applied while ``cond`` held, each called with the loop variables (unpacked, if they are a list or tuple).

    With ``maximum_iterations`` it ends after as many steps at the latest, and can be differentiated. The variables keep structure and types.
    """
    unpack = isinstance(loop_vars, (list, tuple))
    like = tuple(loop_vars) if unpack else loop_vars
    if maximum_iterations is not None and (isinstance(maximum_iterations, bool) or not hasattr(maximum_iterations, "__index__") or maximum_iterations < 0):
        raise ArgumentError(f"while_loop: maximum_iterations must be an integer >= 0, got {maximum_iterations!r}")

    def call(fn: Callable, nodes: list[Node]) -> Any:
        values = _packed(like, nodes)
        return fn(*values) if unpack else fn(values)

    def step(own: list[Node]) -> tuple[list[Node], None]:
        new = call(body, own)
        new = tuple(new) if unpack and isinstance(new, (list, tuple)) else (new,) if unpack else new
        return _fit("while_loop", "loop_vars", like, new, [n.type for n in own]), None

    loop = Loop(_nodes(like))

    def write(start: list[Node]) -> tuple[list[Node], None]:
        def condition(carries: list[Node]) -> Node:
            return as_node(loop.reading(carries, lambda own: call(cond, own)))

        return F.while_loop(condition, lambda cs: loop.wrap(cs, step)[0], start, maximum_iterations), None

    return _packed(like, loop.run(write)[0])


def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    """``init_val`` after ``val = body_fun(i, val)`` for i in lower, ..., upper - 1 (int32). Differentiable where both bounds are Python integers."""
    if all(isinstance(b, int) and not isinstance(b, bool) for b in (lower, upper)):
        if upper - lower > 0 or type(upper - lower) is Dim:
            from .creation import arange

            return scan(lambda val, i: (body_fun(i, val), None), init_val, arange(lower, upper, dtype="int32"))[0]
        return init_val
    _, last = while_loop(lambda i, _: i < upper, lambda i, val: (i + 1, body_fun(i, val)), (lower, init_val))
    return last


# Branches -------------------------------------------------------------------------------------------------------------------------------------------------


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """``true_fn()`` where ``pred`` (one bool) holds, else ``false_fn()``: only one of them is computed. Both give the same structure and types."""
    for name, fn in (("true_fn", true_fn), ("false_fn", false_fn)):
        if not callable(fn):
            raise ArgumentError(f"cond: {name} must be a function of no arguments, got {fn!r}")
    if has_symbolic(pred):
        return ControlFlow(lambda p: _choose("cond", p, true_fn, false_fn), "cond").symbolic_call(pred)
    if current_scope() is None and not isinstance(pred, Tensor):
        return true_fn() if bool(as_array(pred).reshape(())) else false_fn()
    return _choose("cond", pred, true_fn, false_fn)


def _choose(what: str, pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    scope = current_scope() or TraceScope()
    with scope.aside() as first:
        a = true_fn()
        a_nodes = _nodes(a)
    with scope.aside() as second:
        b = false_fn()
    if not same_structure(a, b):
        raise ArgumentError(f"{what}: the branches give different structures, {_picture(a)} and {_picture(b)}")
    b_nodes = _branch_types(what, a, b, a_nodes)
    variables = list(dict.fromkeys([*first.updates, *second.updates]))
    losses = [(owner, loss, side) for side, e in enumerate((first, second)) for owner, loss in e.losses]
    extra = []
    for side, effects in enumerate((first, second)):
        values = [effects.updates.get(v) if v in effects.updates else scope.value(v) for v in variables]
        extra.append([*values, *[loss.node if where == side else F.zeros_like(loss.node) for _, loss, where in losses]])
    out = F.cond(as_node(pred), lambda: [*a_nodes, *extra[0]], lambda: [*b_nodes, *extra[1]])
    n, m = len(a_nodes), len(a_nodes) + len(variables)
    for v, value in zip(variables, out[n:m]):
        scope.assign(v, value)
    for (owner, _, _), loss in zip(losses, out[m:]):
        scope.add_loss(owner, Tensor(loss))
    return _packed(a, out[:n])


def _branch_types(what: str, a: Any, b: Any, a_nodes: list[Node]) -> list[Node]:
    pairs = [(p, y) for p, x, y in zip(_paths(a, "result"), flatten(a), flatten(b)) if x is not None]
    if any((x is None) != (y is None) for x, y in zip(flatten(a), flatten(b))):
        raise ArgumentError(f"{what}: one branch gives None where the other gives a tensor: {_picture(a)} and {_picture(b)}")
    out = []
    for (path, y), n in zip(pairs, a_nodes):
        m = F.constant(y, n.dtype) if isinstance(y, (bool, int, float)) and not isinstance(y, Dim) else as_node(y)
        if m.dtype is not n.dtype or m.rank != n.rank or any(p != q for p, q in zip(m.shape, n.shape)):
            raise ShapeError(f"{what}: {path} is {n.type} in one branch and {m.type} in the other; branches give equal types")
        out.append(m if m.type.same(n.type) else F.reshape(m, n.shape))
    return out


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """``branches[index](*operands)``, an index outside taken as the nearest. Only that branch is computed; all give the same structure and types."""
    if not branches or not all(callable(b) for b in branches):
        raise ArgumentError("switch: branches must be a list of one or more functions")
    if has_symbolic(index, operands):
        return ControlFlow(lambda i, *xs: switch(i, branches, *xs), "switch").symbolic_call(index, *operands)
    if current_scope() is None and not isinstance(index, Tensor):
        i = int(as_array(index).reshape(()))
        return branches[min(max(i, 0), len(branches) - 1)](*operands)
    return _switch(F.reshape(as_node(index), ()), 0, branches, operands)


def _switch(index: Node, base: int, branches: Sequence[Callable], operands: tuple) -> Any:
    if len(branches) == 1:
        return branches[0](*operands)
    half = len(branches) // 2
    low = F.lt(index, base + half)
    return _choose("switch", Tensor(low), lambda: _switch(index, base, branches[:half], operands),
                   lambda: _switch(index, base + half, branches[half:], operands))


# Prefixes of an associative operation ---------------------------------------------------------------------------------------------------------------------


@_control(1)
def associative_scan(f: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """Prefixes along ``axis``: out[k] = f(...f(f(x[0], x[1]), x[2])..., x[k]) for an associative ``f`` of two structures like ``elems``, which works on
    blocks along the axis at once. 2 log2(n) applications (Blelloch, Prefix Sums and Their Applications, 1990). The size must be known when tracing.
    """
    leaves = _nodes(elems)
    if not leaves:
        raise ArgumentError("associative_scan needs at least one tensor")
    for n in leaves:
        if not -n.rank <= axis < n.rank:
            raise ArgumentError(f"associative_scan: axis {axis} lies outside {n.type}")
    axes = [axis % n.rank for n in leaves]
    sizes = [n.shape[a] for n, a in zip(leaves, axes)]
    if any(s != sizes[0] for s in sizes):
        raise ShapeError(f"associative_scan: the tensors have {', '.join(text(s) for s in sizes)} elements along axis {axis}; they must be equal")
    if type(sizes[0]) is Dim:
        raise UnsupportedOpError(f"associative_scan along a free dimension ({text(sizes[0])}): how often f is applied depends on its size. "
                                 "Give the axis a fixed size, or use ops.scan")

    def combine(a: list[Node], b: list[Node]) -> list[Node]:
        out = f(_packed(elems, a), _packed(elems, b))
        return _fit("associative_scan", "elems", elems, out, [n.type for n in a])

    def part(xs: list[Node], start: int, stop: int, step: int = 1) -> list[Node]:
        return [F.slice_(x, [start if i == a else 0 for i in range(x.rank)], [stop if i == a else n for i, n in enumerate(x.shape)],
                         [step if i == a else 1 for i in range(x.rank)]) for x, a in zip(xs, axes)]

    def prefixes(xs: list[Node], n: int) -> list[Node]:
        if n < 2:
            return xs
        m = n // 2
        pairs = prefixes(combine(part(xs, 0, 2 * m - 1, 2), part(xs, 1, 2 * m, 2)), m)  # out[1], out[3], ...
        even = part(xs, 0, 1)
        if n > 2:
            known = part(pairs, 0, (n - 1) // 2)
            rest = combine(known, part(xs, 2, n, 2))  # out[2], out[4], ...
            even = [F.concat([a, b], d) for a, b, d in zip(even, rest, axes)]
        return [_interleaved(a, b, d) for a, b, d in zip(even, pairs, axes)]

    if reverse:
        leaves = [F.flip(x, (a,)) for x, a in zip(leaves, axes)]
    out = prefixes(leaves, sizes[0])
    return _packed(elems, [F.flip(x, (a,)) for x, a in zip(out, axes)] if reverse else out)


def _interleaved(a: Node, b: Node, axis: int) -> Node:
    """a[0], b[0], a[1], b[1], ...; ``a`` has as many elements along the axis as ``b`` or one more."""
    m = b.shape[axis]
    both = F.stack([a if a.shape[axis] == m else F.slice_(a, [0] * a.rank, [m if i == axis else n for i, n in enumerate(a.shape)]), b], axis + 1)
    out = F.reshape(both, [2 * m if i == axis else n for i, n in enumerate(b.shape)])
    if a.shape[axis] == m:
        return out
    last = F.slice_(a, [m if i == axis else 0 for i in range(a.rank)], a.shape)
    return F.concat([out, last], axis)


__all__ = ["associative_scan", "cond", "fori_loop", "map", "scan", "switch", "vectorized_map", "while_loop"]
