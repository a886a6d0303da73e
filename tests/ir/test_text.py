"""Graph text: what it looks like, that it parses back, and that broken text is refused with its line. (Every op:
tests/test_ops.py.)
"""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir import location
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.text import constants_of, graph_text, parse_graph
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ir.verify import verify
from kerogen.runtime.dim import Dim, dim_max, key
from kerogen.runtime.dtype import float32
from kerogen.runtime.errors import ModelFormatError

OPS = o.op_classes()

TEXT = """graph "net" {
  dims batch=7
  %i0 = input "x" : float32[batch, 3]
  %i1 = state "w" : float32[3, 3]
  %i2 = parameter "never \\"used\\"" : int64[]
  %0 = DotGeneral(contract_a=(1,), contract_b=(0,), batch_a=(), batch_b=(), precision='highest', accumulate=None)(%i0, %i1) : float32[batch, 3]\
 @ "block/dense"
  %1 = Reshape(shape=(3*batch,))(%0) : float32[3*batch]
  %2 = Full(shape=(3, 3), value=-1e-05, dtype=float32)() : float32[3, 3]
  %3 = Add()(%i1, %2) : float32[3, 3]
  output "y" = %1
  output "new w" = %3
  alias 1 -> 1
}
"""


def net() -> Graph:
    n = Dim.free("batch", 7)
    x, w = leaf("x", TensorType((n, 3), float32)), leaf("w", TensorType((3, 3), float32), "state")
    unused = leaf('never "used"', TensorType((), o.iota((1,), 0, "int64").dtype), "parameter")
    with location.scope("block"), location.scope("dense"):
        y = o.matmul(x, w)
    return Graph((x, w, unused), (o.reshape(y, (-1,)), o.add(w, -1e-5)), ((1, 1),), ("y", "new w"), "net")


def test_text_is_as_written() -> None:
    graph = net()
    verify(graph)
    assert graph_text(graph) == TEXT


def test_parsed_graph_computes_the_same(rng) -> None:
    graph, again = net(), parse_graph(TEXT, OPS)
    verify(again)
    assert graph_text(again) == TEXT
    assert (
        again.aliases == ((1, 1),)
        and again.output_names == ("y", "new w")
        and [n.op.role for n in again.inputs] == ["input", "state", "parameter"]
    )
    assert key(again.outputs[0].shape) == key(graph.outputs[0].shape)
    assert again.outputs[0].inputs[0].origins == ("block/dense",)
    feed = [rng.standard_normal((7, 3)).astype(np.float32), rng.standard_normal((3, 3)).astype(np.float32), np.int64(1)]
    for a, b in zip(evaluate(graph, feed), evaluate(again, feed)):
        np.testing.assert_array_equal(a, b)


def test_sizes_of_every_form_parse_back() -> None:
    n, m = Dim.free("batch", 7), Dim.free("time", 5)
    for size in (
        n,
        4 * n + 1,
        n - 2,
        n * m,
        (n + 1) // 2,
        n % 3,
        3 - 1 * n + 2 * m,
        dim_max(n, m),
        n * n * 2 - m,
        (n * m + 3) // (m + 1) * 2,
        -1 * n + 9,
    ):
        x = leaf("x", TensorType((n, m, abs(size) if type(size) is not Dim else size), float32))
        graph = Graph((x,), (o.neg(x),))
        again = parse_graph(graph_text(graph), OPS)
        assert key(again.inputs[0].shape) == key(x.shape), graph_text(graph)
        assert [int(k) for k in again.inputs[0].shape] == [int(k) for k in x.shape]


def test_constants_travel_by_digest(rng) -> None:
    a = rng.standard_normal((2, 3)).astype(np.float32)
    graph = Graph((), (o.exp(a),))
    text = graph_text(graph)
    assert str(a[0, 0]) not in text
    assert parse_graph(text, OPS, constants_of(graph)).outputs[0] is graph.outputs[0]
    with pytest.raises(ModelFormatError, match="line 2: the constant #[0-9a-f]+ was not given"):
        parse_graph(text, OPS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("DotGeneral", "DotGenerale", "line 6: there is no op 'DotGenerale'"),
        ("%0 = ", "%1 = ", "line 7: %1 is made twice"),
        ("(%i0, %i1)", "(%i0, %i9)", "line 6: %i9 is used before"),
        ("float32[3*batch]", "float32[4*batch]", r"line 7: Reshape gives float32\[3\*batch\], the text says float32\[4\*batch\]"),
        ("precision='highest'", "precision='best'", "line 6: .*'best' is none of"),
        ("contract_a=(1,), ", "", "line 6: DotGeneral has the attributes"),
        ("alias 1 -> 1", "alias 1", "line 12: expected ->"),
        ("float32[3, 3]", "float33[3, 3]", "line 4: unknown type 'float33'"),
        ("3*batch", "3*items", "line 7: can't read 'items'"),
        ("-1e-05", "__import__", "line 8: can't read '__import__'"),
        ('output "y" = %1', 'output "y" = %1 %2', "line 10: can't read '%2' at the end"),
        ("batch=7", "batch=", "line 2: expected int"),
        ("shape=(3*batch,)", "shape=(3*batch", "line 7: expected"),
        ('input "x"', 'buffer "x"', "line 3: there is no op 'buffer'"),
        ("}\n", "", "has the form"),
        ('graph "net"', "digraph", "line 1: expected graph"),
        ("shape=(3, 3), value", "shape=(3, 'a'), value", "line 8"),
    ],
)
def test_broken_text_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ModelFormatError, match=message):
        parse_graph(TEXT.replace(old, new), OPS)
