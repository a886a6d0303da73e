"""Graphs as text, one node a line in depth-first post-order from the outputs, and back. Printing what was parsed gives the
same text.

    graph "net" {
      dims batch=7
      %i0 = input "x" : float32[batch, 3]
      %i1 = parameter "w" : float32[3, 5]
      %0 = DotGeneral(contract_a=(1,), contract_b=(0,), batch_a=(), batch_b=(), precision='highest')(%i0, %i1) :
      float32[batch, 5] @ "dense"
      output "y" = %0
    }

The parser knows a closed table of op classes and evaluates nothing: attributes are numbers, names of types, sizes, strings,
tuples,
and digests of constants, which the caller supplies.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...runtime.dim import Dim, dim_max, dim_min
from ...runtime.dtype import ALL, STORAGE, as_dtype
from ...runtime.errors import KerogenError, ModelFormatError
from . import location
from .body import Body
from .graph import Graph, Input, Node, leaf, node
from .types import TensorType, TupleType, items_of

_DTYPES = {d.name for d in (*ALL, *STORAGE)}
_ROLES = ("input", "parameter", "state")


def graph_text(graph: Graph, bare: bool = False) -> str:
    """The text of ``graph``. Origins are shown where a node has operands (nodes without are shared between traces). ``bare``: what the
    graph computes and nothing else, without origins and values of free dimensions."""
    bodies: list[Body] = []
    names: dict[Node, str] = {n: f"%i{k}" for k, n in enumerate(graph.inputs)}
    body: list[str] = []
    for k, n in enumerate(graph.inputs):
        body.append(f"%i{k} = {n.op.role} {json.dumps(n.op.name)} : {n.type}")
    count = 0
    for n in graph.nodes:
        if n in names:
            continue
        if isinstance(n.op, Input):  # a broken graph: verify says so
            names[n] = f"%?{n.op.name}"
            continue
        names[n] = f"%{count}"
        count += 1
        origin = f" @ {', '.join(map(json.dumps, n.origins))}" if n.origins and n.inputs and not bare else ""
        op = str(n.op)
        for inner in _bodies(n):  # printed once, before the first node that has it
            at = next((i for i, b in enumerate(bodies) if b.key == inner.key), len(bodies))
            if at == len(bodies):
                bodies.append(inner)
                body.append(f"body b{at} {graph_text(inner.graph, bare).removeprefix('graph ').rstrip()}".replace("\n", "\n  "))
            op = op.replace(repr(inner), f"@b{at}")
        body.append(f"{names[n]} = {op}({', '.join(names[i] for i in n.inputs)}) : {n.type}{origin}")
    for k, o in enumerate(graph.outputs):
        label = f" {json.dumps(graph.output_names[k])}" if graph.output_names else ""
        body.append(f"output{label} = {names[o]}")
    body.extend(f"alias {o} -> {i}" for o, i in graph.aliases)
    dims = _free_dims(graph)
    if dims and not bare:
        body.insert(0, "dims " + ", ".join(f"{k}={v}" for k, v in sorted(dims.items())))
    return f"graph {json.dumps(graph.name)} {{\n" + "".join(f"  {line}\n" for line in body) + "}\n"


def constants_of(graph: Graph) -> dict[str, Any]:
    """The values behind the digests in a graph's text, as ``parse_graph`` wants them."""
    out: dict[str, Any] = {}
    for n in graph.nodes:
        for value in _attributes(n):
            if hasattr(value, "digest"):
                out[value.digest] = value
            elif isinstance(value, Body):
                out.update(constants_of(value.graph))
    return out


def _attributes(n: Node) -> list[Any]:
    return [getattr(n.op, f.name) for f in dataclasses.fields(n.op)] if dataclasses.is_dataclass(n.op) else []


def _bodies(n: Node) -> list[Body]:
    return [v for v in _attributes(n) if isinstance(v, Body)]


def _free_dims(graph: Graph) -> dict[str, int]:
    """The value of every free dimension, from the sizes that hold it alone (a*name + b)."""
    values: dict[str, int] = {}
    pending: list[Any] = [x for n in (*graph.inputs, *graph.nodes) for x in (*[d for t in items_of(n.type) for d in t.shape], *_attributes(n))]
    while pending:
        x = pending.pop()
        if type(x) is tuple:
            pending.extend(x)
        elif isinstance(x, Body):
            values.update(_free_dims(x.graph))
        elif type(x) is Dim:
            varying = [(m, c) for m, c in x.expr if m]
            if len(varying) == 1 and len(varying[0][0]) == 1 and isinstance(varying[0][0][0], str):
                (name,), scale = varying[0]
                values[name] = (int(x) - sum(c for m, c in x.expr if not m)) // scale
    return values


_TOKEN = re.compile(
    r"""\s*(?:
    (?P<float>-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+|inf\b|nan\b)) | (?P<int>\d+) | (?P<string>'[^'\\]*'|"(?:[^"\\]|\\.)*") |
    (?P<value>%\w+) |
    (?P<digest>\#[0-9a-f]+) | (?P<name>[A-Za-z_]\w*) | (?P<sign>->|//|[-+*%(){}\[\],=:@]))""",
    re.VERBOSE,
)


class _Tokens:
    """The tokens of one line."""

    def __init__(self, line: str, number: int):
        self.line, self.number, self.items = line, number, list(self._scan(line))
        self.at = 0

    def _scan(self, line: str) -> Iterator[tuple[str, str]]:
        at, end = 0, len(line.rstrip())
        while at < end:
            m = _TOKEN.match(line, at)
            if m is None:
                raise self.error(f"can't read {line[at : at + 20]!r}")
            yield m.lastgroup or "", m.group(m.lastgroup or 0)
            at = m.end()

    def error(self, message: str) -> ModelFormatError:
        return ModelFormatError(f"graph text, line {self.number}: {message}")

    def peek(self) -> tuple[str, str]:
        return self.items[self.at] if self.at < len(self.items) else ("end", "")

    def next(self, kind: str | None = None, text: str | None = None) -> str:
        found, value = self.peek()
        if (kind is not None and found != kind) or (text is not None and value != text):
            raise self.error(f"expected {text or kind}, found {value or 'the end of the line'!r}")
        self.at += 1
        return value

    def accept(self, text: str) -> bool:
        if self.peek()[1] == text and self.peek()[0] in ("sign", "name"):
            self.at += 1
            return True
        return False


class _Parser:
    def __init__(self, text: str, ops: Mapping[str, type], constants: Mapping[str, Any]):
        self.lines = [(i + 1, line) for i, line in enumerate(text.splitlines()) if line.strip()]
        self.ops, self.constants = ops, constants
        self.dims: dict[str, int] = {}
        self.values: dict[str, Node] = {}
        self.inputs: list[Node] = []
        self.outputs: list[Node] = []
        self.names: list[str] = []
        self.aliases: list[tuple[int, int]] = []
        self.bodies: dict[str, Body] = {}

    def run(self) -> Graph:
        if len(self.lines) < 2 or self.lines[-1][1].strip() != "}":
            raise ModelFormatError('graph text has the form: graph "name" { ... }')
        head = _Tokens(self.lines[0][1], self.lines[0][0])
        head.next("name", "graph")
        name = json.loads(head.next("string"))
        head.next("sign", "{")
        rest = iter(self.lines[1:-1])
        for number, line in rest:
            if line.lstrip().startswith("body "):
                self._body(number, line, rest)
                continue
            t = _Tokens(line, number)
            try:
                self._line(t)
            except (ModelFormatError, RecursionError):
                raise
            except (KerogenError, TypeError, ValueError, KeyError) as e:
                raise t.error(f"{e}") from e
            if t.peek()[0] != "end":
                raise t.error(f"can't read {t.peek()[1]!r} at the end")
        return Graph(tuple(self.inputs), tuple(self.outputs), tuple(self.aliases), tuple(self.names), name)

    def _body(self, number: int, line: str, rest: Iterator[tuple[int, str]]) -> None:
        """A sub-graph: the lines up to the brace that closes it."""
        t = _Tokens(line, number)
        t.next("name", "body")
        label, title = t.next("name"), t.next("string")
        lines = [(number, f"graph {title} {{")]
        depth = 1
        for at, inner in rest:
            lines.append((at, inner))
            depth += (inner.lstrip().startswith("body ")) - (inner.strip() == "}")
            if not depth:
                break
        else:
            raise t.error(f"body {label} has no end")
        parser = _Parser("", self.ops, self.constants)
        parser.lines, parser.dims = lines, self.dims
        self.bodies[label] = Body(parser.run())

    def _line(self, t: _Tokens) -> None:
        kind, word = t.peek()
        if kind == "value":
            self._assignment(t)
        elif t.accept("dims"):
            while True:
                name = t.next("name")
                t.next("sign", "=")
                self.dims[name] = Dim.free(name, int(t.next("int")))
                if not t.accept(","):
                    break
        elif t.accept("output"):
            if t.peek()[0] == "string":
                self.names.append(json.loads(t.next("string")))
            t.next("sign", "=")
            self.outputs.append(self._value(t))
        elif t.accept("alias"):
            o = int(t.next("int"))
            t.next("sign", "->")
            self.aliases.append((o, int(t.next("int"))))
        else:
            raise t.error(f"unknown line {word!r}")

    def _value(self, t: _Tokens) -> Node:
        name = t.next("value")
        if name not in self.values:
            raise t.error(f"{name} is used before it is made")
        return self.values[name]

    def _assignment(self, t: _Tokens) -> None:
        target = t.next("value")
        if target in self.values:
            raise t.error(f"{target} is made twice")
        t.next("sign", "=")
        word = t.next("name")
        if word in _ROLES:
            name = json.loads(t.next("string"))
            t.next("sign", ":")
            self.values[target] = leaf(name, self._tensor_type(t), word)
            self.inputs.append(self.values[target])
            return
        cls = self.ops.get(word)
        if cls is None:
            raise t.error(f"there is no op {word!r}")
        attributes: dict[str, Any] = {}
        t.next("sign", "(")
        while not t.accept(")"):
            name = t.next("name")
            t.next("sign", "=")
            attributes[name] = self._attribute(t)
            if not t.accept(","):
                t.next("sign", ")")
                break
        fields = {f.name for f in dataclasses.fields(cls)}
        if set(attributes) != fields:
            raise t.error(f"{word} has the attributes {sorted(fields)}, found {sorted(attributes)}")
        operands: list[Node] = []
        t.next("sign", "(")
        while not t.accept(")"):
            operands.append(self._value(t))
            if not t.accept(","):
                t.next("sign", ")")
                break
        t.next("sign", ":")
        stated = self._type(t)
        origins: list[str] = []
        if t.accept("@"):
            while True:
                origins.append(json.loads(t.next("string")))
                if not t.accept(","):
                    break
        with location.keep(tuple(origins)):
            made = node(cls(**attributes), *operands)
        if not made.type.same(stated):
            raise t.error(f"{word} gives {made.type}, the text says {stated}")
        self.values[target] = made

    def _type(self, t: _Tokens) -> TensorType | TupleType:
        if not t.accept("("):
            return self._tensor_type(t)
        items: list[TensorType] = []
        while not t.accept(")"):
            items.append(self._tensor_type(t))
            if not t.accept(","):
                t.next("sign", ")")
                break
        return TupleType(tuple(items))

    def _tensor_type(self, t: _Tokens) -> TensorType:
        name = t.next("name")
        if name not in _DTYPES:
            raise t.error(f"unknown type {name!r}")
        shape: list[int] = []
        t.next("sign", "[")
        while not t.accept("]"):
            shape.append(self._size(t))
            if not t.accept(","):
                t.next("sign", "]")
                break
        return TensorType(tuple(shape), as_dtype(name))

    def _size(self, t: _Tokens) -> int:
        value = self._attribute(t)
        if not isinstance(value, int) or isinstance(value, bool):
            raise t.error(f"{value!r} is not a size")
        return value

    # Attributes: sums of products of atoms, or anything that is not a number.

    def _attribute(self, t: _Tokens) -> Any:
        out = self._product(t)
        while t.peek() in (("sign", "+"), ("sign", "-")):
            sign = t.next()
            other = self._product(t)
            out = out + other if sign == "+" else out - other
        return out

    def _product(self, t: _Tokens) -> Any:
        out = self._atom(t)
        while t.peek() in (("sign", "*"), ("sign", "//"), ("sign", "%")):
            sign = t.next()
            other = self._atom(t)
            out = out * other if sign == "*" else out // other if sign == "//" else out % other
        return out

    def _atom(self, t: _Tokens) -> Any:
        kind, word = t.peek()
        if t.accept("-"):
            return -self._atom(t)
        if t.accept("("):
            return self._parenthesis(t)
        if t.accept("@"):
            label = t.next("name")
            if label not in self.bodies:
                raise t.error(f"there is no body {label!r} before this line")
            return self.bodies[label]
        t.next()
        if kind == "int":
            return int(word)
        if kind == "float":
            return float(word)
        if kind == "string" and word[0] == "'":
            return word[1:-1]
        if kind == "digest":
            if word[1:] not in self.constants:
                raise t.error(f"the constant {word} was not given")
            return self.constants[word[1:]]
        if kind == "name":
            if word in ("max", "min") and t.accept("("):
                a = self._attribute(t)
                t.next("sign", ",")
                b = self._attribute(t)
                t.next("sign", ")")
                return (dim_max if word == "max" else dim_min)(a, b)
            if word in self.dims:
                return self.dims[word]
            if word in _DTYPES:
                return as_dtype(word)
            if word in _WORDS:
                return _WORDS[word]
        raise t.error(f"can't read {word!r} as an attribute")

    def _parenthesis(self, t: _Tokens) -> Any:
        """A tuple, or an expression in parentheses."""
        items: list[Any] = []
        comma = False
        while not t.accept(")"):
            items.append(self._attribute(t))
            if t.accept(","):
                comma = True
            else:
                t.next("sign", ")")
                break
        return items[0] if len(items) == 1 and not comma else tuple(items)


_WORDS = {"True": True, "False": False, "None": None, "inf": float("inf"), "nan": float("nan")}


def parse_graph(text: str, ops: Mapping[str, type], constants: Mapping[str, Any] | None = None) -> Graph:
    """The graph that ``text`` describes. ``ops`` maps names to op classes (``ops.op_classes()``), ``constants`` digests to values
    (``constants_of``). Raises ModelFormatError with the line for anything else."""
    return _Parser(text, ops, constants or {}).run()
