"""What can't be compiled, all at once: issues of single nodes, gathered into one report or one error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from ...runtime.errors import KerogenError, ModelFormatError, UnsupportedOpError


@dataclass(frozen=True)
class Issue:
    """One node that can't be compiled. ``kind``: "unsupported" (kerogen lacks it) or "invalid" (the model breaks a rule of ONNX).
    """

    node: str
    operator: str
    domain: str
    opset: int
    dtype: str
    attribute: str
    reason: str
    hint: str
    kind: str = "unsupported"

    @property
    def title(self) -> str:
        return f"{self.domain}.{self.operator}" if self.domain else self.operator


class Refusal(Exception):
    """Raised by a handler for a node it can't import; the importer makes an Issue of it."""

    def __init__(self, reason: str, hint: str = "", attribute: str = "", kind: str = "unsupported") -> None:
        super().__init__(reason)
        self.reason, self.hint, self.attribute, self.kind = reason, hint, attribute, kind


class NeedsValues(Exception):
    """Raised where the structure of the graph (a shape, an axis, a limit) depends on the values of these small inputs of the
    model.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"needs the values of {', '.join(names)}")
        self.names = names


@dataclass(frozen=True)
class CheckReport:
    """The outcome of ``check``: ``ok``, the model's facts, and every issue."""

    name: str
    opset: int
    producer: str
    nbytes: int
    nodes: int
    operators: dict[str, int]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    free_dims: tuple[str, ...] = ()
    parameters: int = 0
    macs: str = ""
    issues: tuple[Issue, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.issues

    def as_dict(self) -> dict:
        return {"ok": self.ok, **asdict(self)}

    def error(self) -> KerogenError:
        return error_of(self.name, self.nodes, self.issues)

    def __str__(self) -> str:
        out = [
            f"{self.name}  ONNX opset {self.opset}{f' ({self.producer})' if self.producer else ''}"
            f"{f'   {size_text(self.nbytes)}' if self.nbytes else ''}"
            f"   {self.nodes} nodes, {len(self.operators)} kinds of operator"
        ]
        out += [f"  input   {t}" for t in self.inputs]
        out += [f"  output  {t}" for t in self.outputs]
        if self.free_dims:
            out.append(f"  free dimensions: {', '.join(self.free_dims)}")
        if self.parameters:
            out.append(f"  {count_text(self.parameters)} parameters{f', {self.macs}' if self.macs else ''}")
        if self.ok:
            out.append(f"  all {len(self.operators)} operators supported")
        else:
            out.append(table(self.issues))
        return "\n".join(out)


def error_of(name: str, nodes: int, issues: Sequence[Issue]) -> KerogenError:
    """One error for all issues."""
    invalid = all(i.kind == "invalid" for i in issues)
    head = f"{name}: {len(issues)} of {nodes} nodes {'break rules of ONNX' if invalid else 'can' + chr(39) + 't be compiled'}"
    return (ModelFormatError if invalid else UnsupportedOpError)(head + "\n" + table(issues))


def table(issues: Sequence[Issue]) -> str:
    """One line per distinct problem, the first node that has it and how often it occurs."""
    count = Counter((i.title, i.reason) for i in issues)
    first = {}
    for i in issues:
        first.setdefault((i.title, i.reason), i)
    width = max(len(i.title) for i in first.values())
    lines = []
    for k, i in first.items():
        detail = "; ".join(x for x in (i.reason, i.hint) if x)
        facts = ", ".join(
            x for x in (f"opset {i.opset}" if i.opset else "", i.dtype, f"attribute {i.attribute}" if i.attribute else "") if x
        )
        often = f"  used {count[k]}x" if count[k] > 1 else ""
        lines.append(f'  {i.title:{width}}  node "{i.node}"{often}{f"  ({facts})" if facts else ""}  {detail}')
    return "\n".join(lines)


def size_text(nbytes: int) -> str:
    """Bytes for a person: 45.6 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.1f} {unit}"
    return f"{nbytes} bytes"


def count_text(n: int, unit: str = "") -> str:
    """A count for a person: 11.69 M, 1.82 GMAC."""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.2f} {prefix}{unit}"
    return f"{n} {unit}".rstrip()
