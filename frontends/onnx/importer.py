"""The walk: a checked model to a graph, node by node. Problems are gathered, not raised one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx.defs import OpSchema

from ...compiler.ir import location
from ...compiler.ir.graph import Graph, Node, leaf
from ...compiler.ir.types import TensorType
from ...runtime.dim import Dim, size, text, unguarded
from ...runtime.errors import ArgumentError, ModelFormatError, ShapeError, UnsupportedOpError, UserError
from .body import standard_body
from .call import Call
from .liveness import live
from .model import Attribute, FunctionDef, GraphDef, ModelDef, NodeDef, Reference, Refused, ValueInfo
from .registry import FOLDS, HANDLERS, load_handlers, schema_of
from .report import Issue, NeedsValues, Refusal, error_of
from .values import Known, Unknown, Value, Weight, as_node, known

_MAX_DEPTH = 32  # nested function bodies and subgraphs
_MAX_STEPS = 200_000  # operator calls after inlining
_MAX_ELEMENTS = 2**44  # of one tensor
_FOLD_ELEMENTS = 65536
_CONSTANT_WEIGHT = 1024  # a Constant node's float tensor of at least this many elements is a parameter


class Scope:
    """Names in effect: a graph or function body, and (for subgraphs) the graphs around it."""

    def __init__(
        self, opsets: Mapping[str, int], attributes: Mapping[str, Attribute], parent: Scope | None = None, depth: int = 0
    ) -> None:
        self.values: dict[str, Value] = {}
        self.opsets, self.attributes, self.parent, self.depth = opsets, attributes, parent, depth

    def get(self, name: str) -> Value:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        return Unknown()


class Importer:
    """A model ready to be traced. ``inputs`` are those the caller gives; ``free`` names the free dimensions; ``weights`` are the
    bindings.

    ``dims`` fixes free dimensions by name; ``shapes`` gives inputs whole shapes (ints, names or None), also those of unstated
    rank;
    ``values`` makes inputs constants (those whose values shape the graph: a Reshape's target that is an input of the model).
    """

    def __init__(
        self,
        model: ModelDef,
        dims: Mapping[str, int] | None = None,
        shapes: Mapping[str, tuple] | None = None,
        values: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        load_handlers()
        self.model = model
        graph = model.graph
        self.issues: list[Issue] = []
        self.by_value: dict[str, None] = {}  # inputs whose values shape the graph, found while tracing
        self.weights: list[Weight] = []
        self.constants: dict[str, Value] = {}
        for name, array in graph.initializers.items():
            self.constants[name] = self._initial(name, array)
        for n in graph.nodes:
            if (
                n.op == "Constant"
                and not n.domain
                and "value" in n.attributes
                and isinstance(a := n.attributes["value"].value, np.ndarray)
            ):
                if a.dtype.kind not in "iub" and a.size >= _CONSTANT_WEIGHT:
                    self.constants[n.outputs[0]] = self._weight(n.outputs[0], a)
        for name, array in (values or {}).items():
            self.constants[name] = known(np.asarray(array))
        self.inputs = self._sized([v for v in graph.inputs if v.name not in self.constants], dict(dims or {}), dict(shapes or {}))
        self.free = tuple(dict.fromkeys(d for v in self.inputs for d in v.shape or () if isinstance(d, str)))

    def _initial(self, name: str, array: np.ndarray | Refused) -> Value:
        if isinstance(array, Refused):
            self._issue(Refusal(array.reason), name, "initializer", "", 0, "")
            return Unknown()
        # Integers and scalars are sizes, axes and factors, which the compiler should see; tensors of floats are weights.
        if array.ndim == 0 or (array.dtype.kind in "iub" and array.size <= _FOLD_ELEMENTS):
            return known(array)
        return self._weight(name, array)

    def _weight(self, name: str, array: np.ndarray) -> Weight:
        self.weights.append(Weight(name, array))
        return self.weights[-1]

    def _sized(self, inputs: list[ValueInfo], dims: dict, shapes: dict) -> tuple[ValueInfo, ...]:
        out = []
        names = {d for v in inputs for d in v.shape or () if isinstance(d, str)}
        for v in inputs:
            shape = v.shape
            if v.name in shapes:
                given = tuple(shapes.pop(v.name))
                if shape is not None and (
                    len(given) != len(shape)
                    or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(given, shape))
                ):
                    raise ShapeError(f"{self.model.name}: input {v.name!r} is {shape_text(shape)}, not {shape_text(given)}")
                for a, b in zip(shape or (), given):
                    if isinstance(a, str) and isinstance(b, int):
                        dims.setdefault(a, b)
                shape = given
            if shape is not None:
                shape = tuple(_unique(f"{v.name}_{i}", names) if d is None else d for i, d in enumerate(shape))
            out.append(ValueInfo(v.name, v.dtype, shape, v.kind))
        if shapes:
            raise ArgumentError(
                f"{self.model.name} has no input {', '.join(map(repr, shapes))}; its inputs are {[v.name for v in inputs]}"
            )
        known_dims = {d for v in out for d in v.shape or () if isinstance(d, str)} | names
        for name, n in dims.items():
            if name not in known_dims:
                raise ArgumentError(f"{self.model.name} has no free dimension {name!r}; it has {sorted(known_dims) or 'none'}")
            if not isinstance(n, int) or n < 0:
                raise ArgumentError(f"dimension {name!r} must be a size, got {n!r}")
        return tuple(
            ValueInfo(
                v.name,
                v.dtype,
                None if v.shape is None else tuple(dims.get(d, d) if isinstance(d, str) else d for d in v.shape),
                v.kind,
            )
            for v in out
        )

    # --- tracing
    def trace(self, dims: Mapping[str, int]) -> Graph:
        """The graph where each free dimension has the size ``dims`` gives. Raises one error that lists everything that can't be
        compiled.
        """
        graph, issues = self.attempt(dims)
        if issues or graph is None:
            raise error_of(self.model.name, len(self.model.graph.nodes), issues)
        return graph

    def needed(self, dims: Mapping[str, int]) -> tuple[str, ...]:
        """Inputs whose values shape the graph. Raises for everything else that can't be compiled, if there are none."""
        self.by_value.clear()
        graph, issues = self.attempt(dims)
        if graph is None and not self.by_value:
            raise error_of(self.model.name, len(self.model.graph.nodes), issues)
        return tuple(self.by_value)

    def attempt(self, dims: Mapping[str, int]) -> tuple[Graph | None, tuple[Issue, ...]]:
        """The graph, or None, and every issue."""
        fixed, self.issues = self.issues, list(self.issues)
        try:
            graph = self._attempt(dims)
            return graph, tuple(self.issues)
        finally:
            self.issues = fixed

    def _attempt(self, dims: Mapping[str, int]) -> Graph | None:
        self.steps = 0
        self.leaves: dict[Weight, Node] = {w: leaf(w.name, TensorType(w.shape, w.dtype), "parameter") for w in self.weights}
        scope = Scope(self.model.opsets, {})
        scope.values.update(self.constants)
        self.given: dict[Node, None] = {}  # the nodes of the inputs, in order
        for v in self.inputs:
            scope.values[v.name] = x = self._input(v, dims)
            if isinstance(x, Node):
                self.given[x] = None
        self.run(live(self.model.graph.nodes, {v.name for v in self.model.graph.outputs}), scope)
        outputs = []
        for v in self.model.graph.outputs:
            x = scope.get(v.name)
            if isinstance(x, Unknown):
                outputs.append(None)
                continue
            x = self.as_node(x)
            if v.dtype is not None and v.dtype is not x.dtype:
                self._issue(
                    Refusal(f"output {v.name!r} is declared {v.dtype} and computed as {x.dtype}", kind="invalid"),
                    v.name,
                    "output",
                    "",
                    0,
                    "",
                )
            outputs.append(x)
        if self.issues:
            return None
        names = tuple(v.name for v in self.model.graph.outputs)
        return Graph((*self.given, *self.leaves.values()), tuple(outputs), output_names=names, name=self.model.name)

    def _input(self, v: ValueInfo, dims: Mapping[str, int]) -> Value:
        if v.dtype is None:
            self._issue(
                Refusal(f"input {v.name!r} is a {v.kind}, which kerogen does not compute with"), v.name, "input", "", 0, ""
            )
            return Unknown()
        if v.shape is None:
            self._issue(
                Refusal(
                    f"input {v.name!r} has no stated rank",
                    f"give its shape: shapes={{{v.name!r}: (...)}}, or --shape {v.name}=...",
                ),
                v.name,
                "input",
                "",
                0,
                "",
            )
            return Unknown()
        return leaf(v.name, TensorType(tuple(dims[d] if isinstance(d, str) else d for d in v.shape), v.dtype))

    def leaf_of(self, w: Weight) -> Node:
        return self.leaves[w]

    def as_node(self, x: Value) -> Node:
        return as_node(x) if isinstance(x, Known) else self.leaf_of(x) if isinstance(x, Weight) else x

    def run(self, nodes: tuple[NodeDef, ...], scope: Scope) -> None:
        """Imports ``nodes`` in order, defining their outputs in ``scope``."""
        for n in nodes:
            self.steps += 1
            if self.steps > _MAX_STEPS:
                raise ModelFormatError(
                    f"{self.model.name}: more than {_MAX_STEPS} operator calls after its functions are inlined"
                )
            if n.outputs and n.outputs[0] in scope.values and n.op == "Constant":
                continue  # a large constant, a weight already
            version = scope.opsets.get(n.domain, 0)
            values = [scope.get(x) if x else None for x in n.inputs]
            try:
                if any(isinstance(v, Unknown) for v in values):
                    self._known_operator(n, version)
                    results: tuple = ()
                else:
                    with location.scope(n.label):
                        results = self._call(n, version, values, scope)
            except Refusal as e:
                self._refused(e, n, version, values)
                results = ()
            except NeedsValues as e:
                self.by_value.update(dict.fromkeys(e.names))
                hint = f"its values shape the graph; give them when loading: values={{{e.names[0]!r}: array}}"
                self._refused(
                    Refusal(f"computes with the values of input {', '.join(map(repr, e.names))}", hint), n, version, values
                )
                results = ()
            except RecursionError:
                self._refused(Refusal("is nested too deeply", kind="invalid"), n, version, values)
                results = ()
            except UserError as e:
                self._refused(
                    Refusal(str(e), kind="unsupported" if isinstance(e, UnsupportedOpError) else "invalid"), n, version, values
                )
                results = ()
            for i, name in enumerate(n.outputs):
                if name:
                    scope.values[name] = results[i] if i < len(results) else Unknown()

    def _call(self, n: NodeDef, version: int, values: list[Value | None], scope: Scope) -> tuple[Value, ...]:
        attributes = self._attributes(n, scope)
        function = self.model.functions.get((n.domain, n.op, n.overload))
        if function is not None:
            return self.inline(function, n, values, attributes, scope)
        call = Call(self, n, version, values, attributes, scope)
        self._known_operator(n, version)
        if call.schema is not None:
            for a in attributes:
                if a not in call.schema.attributes:
                    raise Refusal(
                        f"attribute {a!r} is not one that the standard has at opset {version}", attribute=a, kind="invalid"
                    )
            if not call.schema.min_input <= len(values) <= call.schema.max_input:
                raise Refusal(
                    f"has {len(values)} inputs, the standard has {call.schema.min_input} to {call.schema.max_input}",
                    kind="invalid",
                )
            for i, v in enumerate(values):
                if (
                    v is None
                    and call.schema.inputs[min(i, len(call.schema.inputs) - 1)].option != OpSchema.FormalParameterOption.Optional
                ):
                    call.value(i)  # raises: it is missing
        results = self._fold(call)
        if results is None:
            handler = HANDLERS.get((n.domain, n.op))
            if handler is not None:
                results = handler(call)
            if results is None:  # no handler, or none for this use of the operator
                body = standard_body(call)
                if body is None:
                    raise Refusal("has no kernel")
                return self.inline(body, n, values, self._with_defaults(call), scope)
        if not isinstance(results, (tuple, list)):
            results = (results,)
        for i in range(len(n.outputs)):
            if call.wants(i) and (i >= len(results) or results[i] is None):
                raise Refusal(f"output {i} ({n.outputs[i]!r}) is not computed")
        for r in results:
            if isinstance(r, Node):
                with unguarded():
                    if size(r.shape) > _MAX_ELEMENTS:
                        raise Refusal(f"gives {r.type}, more elements than any machine holds", kind="invalid")
        return tuple(results)

    def _fold(self, call: Call) -> list[Known] | None:
        """The results where every input is known now and the operator folds."""
        rule = FOLDS.get((call.domain, call.op))
        if rule is None or any(not isinstance(v, Known) or v.array.size > _FOLD_ELEMENTS for v in call.values if v is not None):
            return None
        first = next((v.dtype for v in call.values if v is not None), None)
        try:
            with np.errstate(all="ignore"):
                out = rule(call, *[None if v is None else v.array for v in call.values])
        except UserError:
            raise
        except (
            ValueError,
            IndexError,
            TypeError,
            OverflowError,
            ZeroDivisionError,
        ) as e:  # NumPy's words for operands that don't fit
            raise Refusal(f"can't be computed: {e}", kind="invalid") from None
        if out is None:
            return None
        many = out if isinstance(out, (list, tuple)) else [out]
        return [
            o if isinstance(o, Known) else known(np.asarray(o), first if np.asarray(o).dtype == object else None) for o in many
        ]

    def _attributes(self, n: NodeDef, scope: Scope) -> dict[str, Attribute]:
        """The node's attributes, references to the surrounding function's attributes resolved (left out where the caller gave
        none).
        """
        out = {}
        for name, a in n.attributes.items():
            if isinstance(a.value, Reference):
                found = scope.attributes.get(a.value.name)
                if found is not None:
                    out[name] = found
            else:
                out[name] = a
        return out

    def _with_defaults(self, call: Call) -> dict[str, Attribute]:
        """Attributes for a standard function body: the node's and the schema's defaults."""
        out = dict(call.attributes)
        for name, a in call.schema.attributes.items():
            if name not in out and a.default_value.name:
                out[name] = Attribute(call.attr(name), a.default_value)
        return out

    def inline(
        self, f: FunctionDef, n: NodeDef, values: list[Value | None], attributes: dict[str, Attribute], outer: Scope
    ) -> tuple[Value, ...]:
        """The outputs of a function body applied to ``values``."""
        if outer.depth >= _MAX_DEPTH:
            raise ModelFormatError(f"function {f.name} is nested more than {_MAX_DEPTH} deep (or calls itself)")
        if len(values) > len(f.inputs):
            raise Refusal(f"has {len(values)} inputs, function {f.name} has {len(f.inputs)}", kind="invalid")
        scope = Scope({**outer.opsets, **f.opsets}, {**f.defaults, **attributes}, depth=outer.depth + 1)
        for i, name in enumerate(f.inputs):
            scope.values[name] = values[i] if i < len(values) else None  # type: ignore[assignment]
        if len(n.outputs) > len(f.outputs):
            raise Refusal(f"has {len(n.outputs)} outputs, function {f.name} has {len(f.outputs)}", kind="invalid")
        wanted = [o if n.outputs[i] else None for i, o in enumerate(f.outputs[: len(n.outputs)])]
        self.run(live(f.nodes, set(wanted)), scope)
        return tuple(None if o is None else scope.get(o) for o in wanted)  # type: ignore[misc]

    def subgraph(self, g: GraphDef, outer: Scope, given: Sequence[Value] = ()) -> tuple[Value, ...]:
        """The outputs of a subgraph (a branch, or one step of a loop) with ``given`` as its inputs."""
        if outer.depth >= _MAX_DEPTH:
            raise ModelFormatError(f"graph {g.name} is nested more than {_MAX_DEPTH} deep")
        scope = Scope(outer.opsets, outer.attributes, outer, outer.depth + 1)
        for name, a in g.initializers.items():
            scope.values[name] = Unknown() if isinstance(a, Refused) else known(a)
        scope.values.update(zip([v.name for v in g.inputs], given))
        self.run(live(g.nodes, {v.name for v in g.outputs}), scope)
        return tuple(scope.get(v.name) for v in g.outputs)

    # --- what can't be compiled
    def _known_operator(self, n: NodeDef, version: int) -> None:
        """Refuses an operator that no handler, function or standard body covers."""
        if (n.domain, n.op, n.overload) in self.model.functions:
            return
        if not version:
            raise Refusal(
                f"domain {n.domain!r} is not imported by the model" if n.domain else "the model imports no default operator set",
                kind="invalid",
            )
        schema = schema_of(n.op, n.domain, version)
        if schema is None:
            if schema_of(n.op, n.domain, 2**30) is not None:
                raise Refusal(f"does not exist in opset {version}; it came with a later one", kind="invalid")
            where = (
                f"domain {n.domain!r} is not one of ONNX's" if n.domain not in ("", "ai.onnx.ml") else "is no operator of ONNX"
            )
            raise Refusal(where, "give it as a function in the model, or leave it out of the exported graph")
        if (n.domain, n.op) not in HANDLERS and not schema.has_function and not schema.has_context_dependent_function:
            raise Refusal("has no kernel")

    def _refused(self, e: Refusal, n: NodeDef, version: int, values: list[Value | None]) -> None:
        types = [v.dtype.name for v in values if v is not None and not isinstance(v, Unknown)]
        path = "/".join((*location.current(), n.label)) if location.current() else n.label
        self._issue(e, path, n.op, n.domain, version, types[0] if types else "")

    def _issue(self, e: Refusal, node: str, op: str, domain: str, version: int, dtype: str) -> None:
        if len(self.issues) < 10_000:
            self.issues.append(Issue(node, op, domain, version, dtype, e.attribute, e.reason, e.hint, e.kind))


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def shape_text(shape) -> str:
    """[batch, 3, 224, 224]; "?" for an unknown rank."""
    if shape is None:
        return "[?]"
    return "[" + ", ".join(text(d) if isinstance(d, Dim) else "?" if d is None else str(d) for d in shape) + "]"
