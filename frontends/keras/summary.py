"""``model.summary()``: Keras' table of layers, as plain text with box characters."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from typing import Any

from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError
from .structure import flatten


def count(weights: list) -> int:
    return sum(v.size for v in weights)


def memory(weights: list) -> str:
    """Their size in memory: "748.00 B", "2.92 KB"."""
    size = float(sum(v.size * as_dtype(v.array.dtype).itemsize for v in weights))
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if size < 1024 or unit == "TB":
            return f"{size:.2f} {unit}"
        size /= 1024
    return ""


def output_shape(layer: Any) -> str:
    """The shapes of the layer's results, "?" where it was never called on symbolic tensors."""
    nodes = getattr(layer, "_inbound_nodes", None)
    outputs: Any = None
    if nodes:
        outputs = [x.shape for n in nodes for x in n.outputs]
        first = nodes[0]
        outputs = [x.shape for x in first.outputs] if len(set(outputs)) == 1 or len(nodes) == 1 else outputs
    elif getattr(layer, "built", False) and hasattr(type(layer), "outputs"):
        try:
            outputs = [x.shape for x in layer.outputs]
        except AttributeError:
            outputs = None
    if not outputs:
        return "?"
    return ", ".join(f"({', '.join(map(str, s))})" for s in outputs)  # Keras writes (None), not (None,)


def _sequential_like(model: Any) -> bool:
    """Whether every call of a functional model has one input and nothing is shared: then the column of connections says nothing."""
    nodes = []
    for at_depth in model._nodes_by_depth.values():
        if len(at_depth) > 1 or len(flatten(at_depth[0].input_tensors)) > 1:
            return False
        nodes += at_depth
    inside = {id(n) for n in nodes}
    return all(len([n for n in layer._inbound_nodes if id(n) in inside]) <= 1 for layer in model.layers)


def print_summary(model: Any, line_length: int | None = None, positions: list | None = None, print_fn: Callable | None = None,
                  expand_nested: bool = False, show_trainable: bool = False, layer_range: list | None = None) -> None:
    """Writes the table with ``print_fn`` (default: ``print``), once, as one text."""
    from .functional import Functional

    functional = isinstance(model, Functional)
    layers = model.operations if functional else model.layers
    connected = functional and not _sequential_like(model)
    header = ["Layer (type)", "Output Shape", "Param #"] + (["Connected to"] if connected else [])
    positions = list(positions or ([0.3, 0.56, 0.74, 1.0] if connected else [0.45, 0.80, 1.0]))
    right = {2}
    default = 108 if connected else 88
    if show_trainable:
        default += 12
        positions = [p * 0.90 for p in positions] + [1.0]
        header.append("Trainable")
    line_length = line_length or min(default, max(shutil.get_terminal_size().columns - 4, 60))
    edges = [int(p * line_length) for p in positions]
    widths = [b - a - 3 for a, b in zip([0, *edges], edges)]
    if min(widths) < 1 or len(widths) != len(header):
        raise ArgumentError(f"summary: {len(header)} columns don't fit line_length={line_length} with positions={positions}")
    inside = {id(n) for nodes in model._nodes_by_depth.values() for n in nodes} if functional else set()

    def fields(layer: Any, prefix: str) -> list[str]:
        if not hasattr(layer, "built"):
            params = "0"
        else:
            params = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        row = [f"{prefix}{layer.name} ({type(layer).__name__})", output_shape(layer), params]
        if connected:
            links = [f"{x._keras_history.operation.name}[{x._keras_history.node_index}][{x._keras_history.tensor_index}]"
                     for n in layer._inbound_nodes if id(n) in inside for x in n.input_tensors]
            row.append(", ".join(links) or "-")
        if show_trainable:
            weights = getattr(layer, "weights", None)
            row.append("-" if not weights else "Y" if layer.trainable else "N")
        return row

    def rows(layer: Any, level: int) -> list[list[str]]:
        out = [fields(layer, "   " * level + "└ " if level else "")]
        if expand_nested and getattr(layer, "layers", None):
            for inner in layer.layers:
                out += rows(inner, level + 1)
        return out

    first, last = _range(layers, layer_range)
    table = [header] + [r for layer in layers[first:last] for r in rows(layer, 0)]
    lines = [f'Model: "{model.name}"', *_table(table, widths, right)]
    trainable, frozen = model.trainable_weights, model.non_trainable_weights
    optimizer = getattr(model, "optimizer", None)
    extra = list(optimizer.variables) if optimizer is not None and getattr(optimizer, "built", False) else []
    lines.append(f" Total params: {count(trainable) + count(frozen) + count(extra):,} ({memory([*trainable, *frozen, *extra])})")
    lines.append(f" Trainable params: {count(trainable):,} ({memory(trainable)})")
    lines.append(f" Non-trainable params: {count(frozen):,} ({memory(frozen)})")
    if extra:
        lines.append(f" Optimizer params: {count(extra):,} ({memory(extra)})")
    (print_fn or print)("\n".join(lines))


def _table(rows: list[list[str]], widths: list[int], right: set[int]) -> list[str]:
    def rule(left: str, line: str, cross: str, end: str) -> str:
        return left + cross.join(line * (w + 2) for w in widths) + end

    out = [rule("┏", "━", "┳", "┓")]
    for i, row in enumerate(rows):
        cells = [_wrap(text, w) for text, w in zip(row, widths)]
        bar = "┃" if i == 0 else "│"
        for k in range(max(map(len, cells))):
            parts = [(c[k] if k < len(c) else "") for c in cells]
            parts = [p.rjust(w) if j in right else p.ljust(w) for j, (p, w) in enumerate(zip(parts, widths))]
            out.append(bar + bar.join(f" {p} " for p in parts) + bar)
        out.append(rule("┡", "━", "╇", "┩") if i == 0 else rule("├", "─", "┼", "┤") if i + 1 < len(rows) else rule("└", "─", "┴", "┘"))
    return out


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width``, broken at spaces, or within a word that is longer."""
    out: list[str] = []
    line = ""
    for word in re.findall(r"\s*\S+", text):
        if line and len(line) + len(word) > width:
            out.append(line)
            line, word = "", word.lstrip()
        line += word
        for _ in range(math.ceil(len(line) / width) - 1):
            out.append(line[:width])
            line = line[width:]
    return [*out, line]


def _range(layers: list, layer_range: list | None) -> tuple[int, int]:
    if layer_range is None:
        return 0, len(layers)
    if len(layer_range) != 2 or not all(isinstance(x, str) for x in layer_range):
        raise ArgumentError(f"summary: layer_range is two names (or patterns), got {layer_range!r}")
    low = [i for i, x in enumerate(layers) if re.match(layer_range[0], x.name)]
    high = [i for i, x in enumerate(layers) if re.match(layer_range[1], x.name)]
    if not low or not high:
        raise ArgumentError(f"summary: layer_range {layer_range} matches no layer; the layers are {', '.join(x.name for x in layers)}")
    return (min(high), max(low) + 1) if min(low) > max(high) else (min(low), max(high) + 1)
