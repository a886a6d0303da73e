"""Attention recognised in graphs that are written out, and transposes around it folded into its layouts."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ir.verify import verify
from kerogen.compiler.ops.attention import Attention, AttentionGrad
from kerogen.compiler.ops.movement import Transpose
from kerogen.compiler.passes.attention import raise_attention
from kerogen.compiler.passes.canonicalize import canonicalize
from kerogen.compiler.passes.claims import claims_of
from kerogen.compiler.passes.decompose import decompose
from kerogen.compiler.pipeline import compile_graph, grad
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import bool_, float32
from kerogen.runtime.executable import Executable
from tests.compare import assert_close

B, T, S, H, D = 2, 5, 7, 3, 4
SWAP = (0, 2, 1, 3)


def leaves() -> dict[str, Node]:
    """q, k, v with time before heads, as a projection gives them; what may be added; which keys count."""
    shapes = {"q": (B, T, H, D), "k": (B, S, H, D), "v": (B, S, H, D), "bias": (B, 1, 1, S), "more": (H, T, S)}
    out = {n: leaf(n, TensorType(s, float32)) for n, s in shapes.items()}
    return {**out, "mask": leaf("mask", TensorType((B, 1, T, S), bool_))}


def heads_first(x: dict[str, Node]) -> tuple[Node, Node, Node]:
    return ops.transpose(x["q"], SWAP), ops.transpose(x["k"], (0, 2, 3, 1)), ops.transpose(x["v"], SWAP)


def exported(x: dict[str, Node], between: Callable[[Node], Node]) -> Node:
    """As other frameworks export it: heads first, keys transposed once more, heads joined behind."""
    q, k, v = heads_first(x)
    return ops.reshape(ops.transpose(ops.matmul(ops.softmax(between(ops.matmul(q, k))), v), SWAP), (B, T, H * D))


def by_einsum(x: dict[str, Node], between: Callable[[Node], Node]) -> Node:
    return ops.einsum("bhts,bshd->bthd", ops.softmax(between(ops.einsum("bthd,bshd->bhts", x["q"], x["k"]))), x["v"])


def transposed_product(x: dict[str, Node], between: Callable[[Node], Node]) -> Node:
    """Values on the left."""
    return ops.einsum("bshd,bhts->bhdt", x["v"], ops.softmax(between(ops.einsum("bthd,bshd->bhts", x["q"], x["k"]))))


FORMS = {"exported": exported, "einsum": by_einsum, "values on the left": transposed_product}
BETWEEN: dict[str, Callable[[dict[str, Node]], Callable[[Node], Node]]] = {
    "scaled": lambda x: lambda s: ops.mul(s, 0.3),
    "divided": lambda x: lambda s: ops.div(s, 3.0),
    "as it is": lambda x: lambda s: s,
    "bias": lambda x: lambda s: ops.add(ops.mul(s, 0.5), x["bias"]),
    "two biases": lambda x: lambda s: ops.add(x["more"], ops.sub(ops.mul(0.5, s), x["bias"])),
    "mask": lambda x: lambda s: ops.where(x["mask"], ops.mul(s, 0.5), -1e9),
    "infinite mask": lambda x: lambda s: ops.where(x["mask"], s, -np.inf),
    "bias and two masks": lambda x: lambda s: ops.where(x["mask"], ops.where(ops.gt(x["bias"], 0.0), ops.add(s, x["more"]), -1e9), -1e9),
}


def drawn(graph: Graph, seed: str) -> list[np.ndarray]:
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    out = []
    for x in graph.inputs:
        if x.dtype is bool_:
            seen = rng.random(x.shape) < 0.6
            seen[..., 2] = True
            out.append(seen)
        else:
            a = rng.standard_normal(x.shape).astype(np.float32)
            if x.op.name == "bias":
                a[..., 2] = np.abs(a[..., 2])  # every query sees a key
            out.append(a)
    return out


def raised(graph: Graph) -> Graph:
    out = canonicalize(raise_attention(canonicalize(graph)))
    verify(out)
    return out


def count(graph: Graph, cls: type) -> int:
    return sum(isinstance(n.op, cls) for n in graph.nodes)


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("form", FORMS)
def test_written_out(form: str, between: str) -> None:
    x = leaves()
    graph = Graph(tuple(x.values()), (FORMS[form](x, BETWEEN[between](x)),), name="g")
    found = raised(graph)
    assert count(found, Attention) == 1
    assert count(found, Transpose) == (1 if form == "values on the left" else 0)
    arrays = drawn(graph, form + between)
    (expected,) = evaluate(graph, arrays)
    assert_close(evaluate(found, arrays)[0], expected, 1e-6)
    assert_close(np.asarray(Executable(plans=[compile_graph(graph)])(*arrays)), expected, 2e-6)


def _wrong_axis(x: dict[str, Node]) -> Node:
    return ops.einsum("bhts,bshd->bthd", ops.softmax(ops.einsum("bthd,bshd->bhts", x["q"], x["k"]), 2), x["v"])


def _scaled_behind(x: dict[str, Node]) -> Node:
    return by_einsum(x, lambda s: ops.mul(ops.add(s, x["bias"]), 0.5))


def _high_filler(x: dict[str, Node]) -> Node:
    return by_einsum(x, lambda s: ops.where(x["mask"], s, -5.0))


def _bias_may_lie_lower(x: dict[str, Node]) -> Node:
    return by_einsum(x, lambda s: ops.where(x["mask"], ops.add(s, x["bias"]), -1e5))


def _other_function(x: dict[str, Node]) -> Node:
    return by_einsum(x, ops.sin)


@pytest.mark.parametrize("make", [_wrong_axis, _scaled_behind, _high_filler, _bias_may_lie_lower, _other_function])
def test_something_else(make: Callable[[dict[str, Node]], Node]) -> None:
    x = leaves()
    graph = Graph(tuple(x.values()), (make(x),))
    assert count(raised(graph), Attention) == 0
    arrays = drawn(graph, make.__name__)
    assert_close(np.asarray(Executable(plans=[compile_graph(graph)])(*arrays)), evaluate(graph, arrays)[0], 2e-6)


def test_probabilities_that_are_read_elsewhere_stay() -> None:
    x = leaves()
    p = ops.softmax(ops.einsum("bthd,bshd->bhts", x["q"], x["k"]))
    y = ops.einsum("bhts,bshd->bthd", p, x["v"])
    assert count(raised(Graph(tuple(x.values()), (y, p))), Attention) == 0
    assert count(raised(Graph(tuple(x.values()), (y,))), Attention) == 1


@pytest.mark.parametrize("both", [False, True])
def test_derivatives_follow_their_operands(both: bool) -> None:
    """Transposes before and behind vanish from forward and backward pass; ``both``: the same attention over operands as they are, too."""
    x = leaves()
    q, k, v = (ops.transpose(x[n], SWAP) for n in "qkv")
    y = ops.transpose(ops.attention(q, k, v, layout="BHTD"), SWAP)
    ct = leaf("ct", TensorType((B, T, H, D), float32))
    outs = [y, *grad(y, [x[n] for n in "qkv"], ct)]
    if both:
        z = ops.attention(x["q"], x["k"], x["v"])
        outs += [z, *grad(z, [x[n] for n in "qkv"], ops.neg(ct))]
    graph = Graph((*(x[n] for n in "qkv"), ct), tuple(outs))
    found = raised(graph)
    assert count(found, Transpose) == 0 and count(found, AttentionGrad) == 1 + both
    assert all(n.op.layouts == ("BTHD",) * 4 for n in found.nodes if isinstance(n.op, (Attention, AttentionGrad)))
    arrays = drawn(graph, "derivatives")
    for a, e in zip(evaluate(found, arrays), evaluate(graph, arrays), strict=True):
        assert_close(a, e, 1e-6)


def test_claims() -> None:
    """A target that claims attention keeps it and its derivative whole; one that does not gets the ops that define them."""
    x = leaves()
    y = ops.attention(x["q"], x["k"], x["v"])
    ct = leaf("ct", y.type)
    graph = Graph((*x.values(), ct), (y, *grad(y, [x["q"], x["k"], x["v"]], ct)))
    whole = decompose(graph, claims_of(Target.named("x86-64-v3")))
    assert count(whole, Attention) == count(whole, AttentionGrad) == 1
    parts = decompose(graph)
    assert not any(n.op.kind == "composite" or n.has_items for n in parts.nodes)
    arrays = drawn(graph, "claims")
    for a, e in zip(evaluate(parts, arrays), evaluate(whole, arrays), strict=True):
        assert_close(a, e, 1e-6)
