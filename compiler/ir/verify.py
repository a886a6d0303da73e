"""The rules that every graph keeps; the pipeline checks them around each pass."""

from __future__ import annotations

from ...runtime.errors import InternalError, KerogenError
from .graph import Graph, Input
from .types import TensorType, TupleType, items_of


def verify(graph: Graph, after: str = "") -> None:
    """Raises InternalError where ``graph`` breaks a rule; ``after`` names the pass that made it.

    Inputs are distinct leaves, and all leaves in use are among them; types are what ``infer`` says and have sizes >= 0; an
    alias pairs an output with
    a donated input (role "state") of the same type, each at most once; output names, where given, are distinct, one for each
    output.
    """

    def fail(message: str) -> None:
        raise InternalError(f"graph {graph.name!r}{f' after {after}' if after else ''}: {message}")

    if any(n.has_items for n in graph.outputs):
        fail("an output is a tuple")
    if any(not isinstance(n.op, Input) for n in graph.inputs):
        fail("an input is not a leaf")
    if len(set(graph.inputs)) != len(graph.inputs):
        fail("an input is listed twice")
    known = set(graph.inputs)
    for n in graph.nodes:
        if isinstance(n.op, Input):
            if n not in known:
                fail(f"{n.op} is used but is not one of the inputs")
            if n.op.role not in ("input", "parameter", "state"):
                fail(f"{n.op} has the unknown role {n.op.role!r}")
        else:
            try:
                expected: TensorType | TupleType = n.op.infer(*[i.type for i in n.inputs])
            except KerogenError as e:
                fail(f"{n!r} of {[str(i.type) for i in n.inputs]} is ill-typed: {e}")
            if not expected.same(n.type):
                fail(f"{n!r} should have type {expected}")
        if any(d < 0 for t in items_of(n.type) for d in t.shape):
            fail(f"{n!r} has a negative size")
    if graph.output_names and (
        len(graph.output_names) != len(graph.outputs) or len(set(graph.output_names)) != len(graph.output_names)
    ):
        fail(f"output names {graph.output_names} are not one for each of the {len(graph.outputs)} outputs")
    for word, seen in (("output", [o for o, _ in graph.aliases]), ("input", [i for _, i in graph.aliases])):
        if len(set(seen)) != len(seen):
            fail(f"an {word} has two aliases: {graph.aliases}")
    for o, i in graph.aliases:
        if not 0 <= o < len(graph.outputs) or not 0 <= i < len(graph.inputs):
            fail(f"alias {o} -> {i} names no output or no input")
        if graph.inputs[i].op.role != "state":
            fail(f"alias {o} -> {i}: {graph.inputs[i].op} is not donated (its role is {graph.inputs[i].op.role!r})")
        if not graph.outputs[o].type.same(graph.inputs[i].type):
            fail(f"alias {o} -> {i}: {graph.outputs[o].type} replaces {graph.inputs[i].type}")
