"""Derivatives of traced functions, with respect to their arguments and to variables that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...compiler.ir.graph import Node, leaf
from ...compiler.ir.rewrite import substitute
from ...compiler.pipeline import grad
from ...runtime.errors import ArgumentError, GradientError, StateError
from .structure import flatten, map_structure, pack_as
from .tensor import Tensor
from .trace import as_node, current_scope
from .variable import Variable


def differentiate(fn: Callable, args: tuple, argnums: Sequence[int], variables: Sequence[Variable] | None, has_aux: bool,
                  first: bool = False) -> tuple:
    """(fn(*args), derivatives by argument, derivatives by variable), as tensors of the graph being traced.

    ``fn`` returns one number, or with ``has_aux`` the number and anything else. What it assigns to other variables stays assigned. A derivative is
    with respect to the value at the time of the call; tensors that were computed from it before are constants. The variables keep that value: what ``fn`` assigns to them (SpectralNormalization does) counts inside it only, as it is in Keras on JAX.
    ``first``: nothing was computed in this trace before, which saves building the graph anew. Raises GradientError where the result is no single number, or an op on the way has no derivative.
    """
    if any(not -len(args) <= i < len(args) for i in argnums):
        raise ArgumentError(f"argnums={tuple(argnums)} for {len(args)} arguments")
    scope = current_scope()
    inputs = [map_structure(_copy, a) for a in args]
    wanted = [t for i in argnums for t in flatten(inputs[i])]
    values = []
    for v in variables or ():
        if not isinstance(v, Variable):
            raise ArgumentError(f"variables holds {v!r}, which is no Variable")
        if scope is None:
            raise StateError("derivatives with respect to variables are computed while a function is traced")
        values.append(scope.value(v))
    # What is derived by gets a leaf of its own: its value may be read otherwise as well (an argument given twice, a tensor that was computed from
    # the variable before), and such other values are constants to the function.
    own: dict[Node, Node] = {}

    def independent(n: Node) -> Node:
        fresh = leaf(f"d{len(own)}", n.type)
        own[fresh] = n
        return fresh

    for t in wanted:
        t.node = independent(t.node)
    at = values if first else [independent(n) for n in values]
    for v, n in zip(variables or (), at):
        scope.assign(v, n)  # type: ignore[union-attr]
    result = fn(*inputs)
    value, aux = result if has_aux else (result, None)
    for v, n in zip(variables or (), at):
        scope.assign(v, n)  # type: ignore[union-attr]
    y = as_node(value)
    if y.rank and any(n != 1 for n in y.shape):
        raise GradientError(f"the function to differentiate must return one number, not a tensor of shape {list(y.shape)}")
    found = [Tensor(n) for n in grad(y, [*[t.node for t in wanted], *at])]
    value = Tensor(y)
    if own:
        leaves = [t for t in flatten((value, aux, found)) if isinstance(t, Tensor)]
        leaves += [t._keras_mask for t in leaves if t._keras_mask is not None]
        for t, n in zip(leaves, substitute([t.node for t in leaves], own)):
            t.node = n
        if scope is not None:
            scope.substitute(own)
    rest = iter(found)
    by_argument = [pack_as(inputs[i], [next(rest) for _ in flatten(inputs[i])]) for i in argnums]
    return (value, aux) if has_aux else value, by_argument, found[len(wanted) :]


def _copy(x: Any) -> Tensor:
    """The argument as a tensor of its own, mask included."""
    out = Tensor(as_node(x))
    out._keras_mask = getattr(x, "_keras_mask", None)
    return out
