"""What KEROGEN_DEBUG=1 prints of a compilation: every pass, every kernel, a total."""

from __future__ import annotations

import re

import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import compile_graph
from kerogen.runtime.config import DEBUG
from kerogen.runtime.dtype import float32

LINE = re.compile(r"kerogen timed: (pass|kernel|total) +([0-9.]+) ms  (.+)")


def test_times_of_passes_and_kernels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    x, w = (leaf(n, TensorType(s, float32)) for n, s in (("x", (13, 45)), ("w", (45, 71))))
    graph = Graph((x, w), (o.matmul(o.softmax(x), w),), name="timed")
    compile_graph(graph)
    assert not capsys.readouterr().err
    monkeypatch.setenv(DEBUG.name, "1")
    compile_graph(graph)
    found = [LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    assert all(found), "a line of another form"
    by = {kind: [(float(m[2]), m[3]) for m in found if m[1] == kind] for kind in ("pass", "kernel", "total")}
    assert {"canonicalize", "decompose", "fuse", "lower", "storage", "order"} <= {name for _, name in by["pass"]}
    assert len(by["kernel"]) >= 2 and all(re.fullmatch(r"\w+ \((compiled|cached)\)", name) for _, name in by["kernel"])
    (total, text), = by["total"]
    assert abs(total - sum(ms for kind in ("pass", "kernel") for ms, _ in by[kind])) < 0.1 * (len(by["pass"]) + len(by["kernel"]))
    assert re.fullmatch(r"passes [0-9.]+ ms, \d+ kernels compiled, \d+ cached: [0-9.]+ ms", text)
