"""Whole programs through Triton source: a CNN's forward pass and its training step, against the graph's NumPy evaluation; and to cubins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.codegen.triton.compile import compile_cubin
from kerogen.compiler.codegen.triton.interpreter import interpret_program
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import grad, program_of
from kerogen.compiler.program.program import Program
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import float32, int32, int64
from kerogen.runtime.errors import IndexRangeError
from tests.compare import assert_norm_close
from tests.oracle import oracle

oracle("triton")
BATCH, SHAPES = 7, {"w1": (3, 3, 1, 8), "b1": (8,), "w2": (3, 3, 8, 12), "b2": (12,), "gamma": (12,), "beta": (12,), "w3": (48, 10), "b3": (10,)}


def program(graph: Graph) -> Program:
    return program_of(graph, replace(Target.host(), arch="cuda"))


def model() -> tuple[Node, Node, list[Node], Node, Node]:
    """Two convolutions, batch normalisation, pooling, a dense layer: (x, labels, parameters, probabilities, loss)."""
    x = leaf("x", TensorType((BATCH, 8, 9, 1), float32), "input")
    labels = leaf("labels", TensorType((BATCH,), int32), "input")
    parameters = [leaf(k, TensorType(s, float32), "state") for k, s in SHAPES.items()]
    w1, b1, w2, b2, gamma, beta, w3, b3 = parameters
    same = ((1, 1), (1, 1))
    h = ops.relu(ops.add(ops.conv(x, w1, (1, 1), same, (1, 1)), b1))
    h = ops.max_pool(h, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
    h = ops.add(ops.conv(h, w2, (1, 1), same, (1, 1)), b2)
    centred = ops.sub(h, ops.mean(h, (0, 1, 2), True))
    variance = ops.mean(ops.square(centred), (0, 1, 2), True)
    h = ops.relu(ops.add(ops.mul(ops.mul(centred, ops.rsqrt(ops.add(variance, 1e-3))), gamma), beta))
    h = ops.reshape(ops.max_pool(h, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)), (BATCH, 48))
    logits = ops.add(ops.matmul(h, w3), b3)
    picked = ops.mul(ops.log_softmax(logits, 1), ops.one_hot(labels, 10, float32))
    return x, labels, parameters, ops.softmax(logits, 1), ops.neg(ops.mean(ops.sum_(picked, (1,))))


def feeds(rng: np.random.Generator) -> list[np.ndarray]:
    weights = [0.3 * rng.standard_normal(s) for s in SHAPES.values()]
    return [rng.standard_normal((BATCH, 8, 9, 1)).astype(np.float32), rng.integers(0, 10, BATCH).astype(np.int32), *[w.astype(np.float32) for w in weights]]


def test_cnn_forward(rng: np.random.Generator) -> None:
    x, _, parameters, probabilities, _ = model()
    graph = Graph([x, *parameters], [probabilities], name="forward")
    arrays = [a for i, a in enumerate(feeds(rng)) if i != 1]
    (got,), (expected,) = interpret_program(program(graph), arrays), evaluate(graph, arrays)
    assert_norm_close(got, expected, 2e-6)


def test_cnn_training_step(rng: np.random.Generator) -> None:
    """Three steps of SGD: parameters are donated, each step starts from the last one's result."""
    x, labels, parameters, _, loss = model()
    updated = [ops.sub(p, ops.mul(g, 0.1)) for p, g in zip(parameters, grad(loss, parameters))]
    graph = Graph([x, labels, *parameters], [loss, *updated], aliases=tuple((i + 1, i + 2) for i in range(len(parameters))), name="train")
    step, mine = program(graph), feeds(rng)
    theirs = [a.copy() for a in mine]
    losses = []
    for _ in range(3):
        got, expected = interpret_program(step, mine), evaluate(graph, theirs)
        theirs[2:] = expected[1:]
        assert_norm_close(got[0], expected[0], 1e-5, what="loss")
        for name, a, b in zip(SHAPES, mine[2:], theirs[2:]):
            assert_norm_close(a, b, 1e-5, what=name)
        losses.append(float(got[0]))
    assert losses[2] < losses[0]


def test_cnn_training_step_compiles(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
    x, labels, parameters, _, loss = model()
    graph = Graph([x, labels, *parameters], [loss, *grad(loss, parameters)], name="train")
    for arch in (80, 90):
        for call in program(graph).calls:
            cubin, meta = compile_cubin(call.kernel, arch=arch)
            assert cubin[:4] == b"\x7fELF" and len(meta.signature) >= len(call.values)


def test_bad_index_says_where(rng: np.random.Generator) -> None:
    table, ids = leaf("table", TensorType((11, 5), float32), "input"), leaf("ids", TensorType((9,), int64), "input")
    graph = Graph([table, ids], [ops.mul(ops.take(table, ids, 0), 2.0)], name="embedding")
    wrong = rng.integers(0, 11, 9)
    wrong[4] = 11
    with pytest.raises(IndexRangeError, match=r"\[0, 11\)|11"):
        interpret_program(program(graph), [rng.standard_normal((11, 5)).astype(np.float32), wrong])
