"""Graphs written as ONNX: read by ONNX Runtime (and checked by onnx), equal to what kerogen computes."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.frontends.onnx import load, save
from kerogen.frontends.onnx.exporter import to_proto
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import bool_, float32, int64
from kerogen.runtime.errors import ArgumentError, ModelFormatError, UnsupportedOpError
from tests.oracle import oracle

from . import models


def session(proto):
    oracle("onnx").checker.check_model(proto, full_check=True)
    return oracle("onnxruntime").InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("make", [models.mlp, models.cnn, models.transformer])
def test_models_come_back(make, rng, tmp_path):
    model = load(make(rng))
    save(model, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    assert again.free_dims == model.free_dims and again.output_names == model.output_names
    run = session(oracle("onnx").load(tmp_path / "m.onnx"))
    for batch, time in ((1, 5), (4, 3)):
        sizes = {"batch": batch, "time": time}
        feeds = {}
        for v in model.inputs:
            shape = tuple(sizes.get(d, d) for d in v.shape)
            feeds[v.name] = rng.standard_normal(shape).astype(np.float32) if v.dtype is float32 else np.ones(shape, bool)
        ours, theirs, back = model(**feeds), run.run(None, feeds), again(**feeds)
        for a, b, c in zip(*[x if isinstance(x, list) else [x] for x in (ours, theirs, back)], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
            np.testing.assert_allclose(a, c, rtol=1e-4, atol=2e-5)


def both(build, arrays, opset=17, free=True):
    """Outputs of ONNX Runtime and of the evaluator for ``build(*leaves)``; the first axis of every operand is free (one dimension
    "n").
    """
    shapes = [((Dim.free("n", a.shape[0]), *a.shape[1:]) if free and a.ndim else a.shape) for a in arrays]
    kinds = {np.dtype(np.float32): float32, np.dtype(np.int64): int64, np.dtype(bool): bool_}
    leaves = [leaf(f"x{i}", TensorType(s, kinds[a.dtype])) for i, (s, a) in enumerate(zip(shapes, arrays))]
    out = build(*leaves)
    graph = Graph(tuple(leaves), tuple(out) if isinstance(out, (list, tuple)) else (out,))
    got = session(to_proto(graph, [], opset=opset)).run(None, {f"x{i}": a for i, a in enumerate(arrays)})
    return got, evaluate(graph, arrays)


CASES = {
    "broadcast both": lambda a, b: ops.add(ops.reshape(ops.sum_(a, (1,)), (a.shape[0], 1)), ops.sum_(b, (0,))),
    "broadcast to all": lambda a, b: ops.broadcast_to(ops.reshape(ops.mean(a, (0,)), (1, 7)), a.shape),
    "constants broadcast": lambda a, b: ops.add(ops.full(a.shape, 2.0, float32), ops.full(a.shape, 3.0, float32)),
    "size as value": lambda a, b: ops.div(a, a.shape[0] * 7),
    "reshape to computed": lambda a, b: ops.reshape(a, (7, a.shape[0])),
    "reshape two free": lambda a, b: ops.reshape(
        ops.mul(ops.reshape(a, (a.shape[0], 1, 7)), ops.reshape(b, (1, a.shape[0], 7))), (a.shape[0] * a.shape[0], 7)
    ),
    "slice": lambda a, b: ops.slice_(a, (1, 5), (a.shape[0], 1), (1, -2)),
    "flip": lambda a, b: ops.flip(a, (0, 1)),
    "pad crop": lambda a, b: ops.pad(a, ((2, 1), (-1, 3)), 0.5),
    "concat": lambda a, b: ops.concat([a, ops.neg(b), ops.ones_like(a)], 1),
    "matmul": lambda a, b: ops.matmul(a, ops.transpose(b, (1, 0))),
    "contract": lambda a, b: ops.dot_general(a, b, ((0,), (0,))),
    "einsum": lambda a, b: ops.einsum("ni,nj->jin", a, b),
    "reductions": lambda a, b: [ops.sum_(a, (0,)), ops.max_(a, (1,)), ops.min_(a), ops.prod(a, (1,), True)],
    "arg": lambda a, b: [ops.argmax(a, 1), ops.argmin(a, 0, True)],
    "logic": lambda a, b: ops.where(ops.logical_and(ops.gt(a, b), ops.ne(a, 0.25)), a, ops.logical_not(ops.le(b, 0))),
    "near zero": lambda a, b: [
        ops.expm1(ops.mul(a, 1e-4)),
        ops.log1p(ops.mul(ops.abs_(b), 1e-4)),
        ops.expm1(ops.mul(a, 30)),
        ops.log1p(ops.abs_(b)),
    ],
    "unary": lambda a, b: [
        ops.rsqrt(ops.add(ops.abs_(a), 0.1)),
        ops.trunc(ops.mul(a, 3)),
        ops.floordiv(a, b),
        ops.rem(a, b),
        ops.erf(a),
        ops.softplus(a),
    ],
    "composites": lambda a, b: [
        ops.softmax(a),
        ops.log_softmax(a, 0),
        ops.gelu(a),
        ops.gelu(a, True),
        ops.silu(b),
        ops.logsumexp(a, (1,)),
        ops.layer_norm(a, axes=(1,)),
        ops.softmax(a, (0, 1)),
    ],
    "iota": lambda a, b: ops.add(a, ops.iota(a.shape, 0, float32)),
    "take": lambda a, b: [ops.take(a, np.array([[0, 2], [1, 1]]), 1), ops.take_along_axis(a, ops.argmax(b, 1, True, int64), 1)],
}


@pytest.mark.parametrize("name", CASES)
def test_ops(name, rng):
    arrays = [rng.standard_normal((5, 7)).astype(np.float32) for _ in range(2)]
    got, wanted = both(CASES[name], arrays)
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == w.dtype and g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=2e-5, atol=1e-6 if name != "near zero" else 1e-12)


CONVS = {
    "conv": lambda x, w: ops.conv(x, w, (1, 2), ((1, 0), (2, 1)), (2, 1), 2),
    "transposed": lambda x, w: ops.conv_transpose(ops.conv(x, w, 2, 1, 1, 2), w, (9, 8), 2, 1, 1, 2),
    "max": lambda x, w: ops.max_pool(x, (3, 2), (2, 1), ((1, 1), (0, 1))),
    "mean": lambda x, w: [ops.avg_pool(x, 2, 1, 1), ops.avg_pool(x, (3, 2), (2, 2), ((1, 0), (0, 1)), count_include_pad=True)],
}


@pytest.mark.parametrize("name", CONVS)
def test_windows(name, rng):
    x, w = rng.standard_normal((3, 9, 8, 4)).astype(np.float32), rng.standard_normal((3, 3, 2, 6)).astype(np.float32)
    got, wanted = both(lambda x: CONVS[name](x, w), [x])
    for g, wanted_ in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, wanted_, rtol=1e-4, atol=1e-5)


def test_what_has_no_form_is_listed():
    x = leaf("x", TensorType((3, 4), float32))
    i = leaf("i", TensorType((2,), int64))
    graph = Graph(
        (x, i), (ops.scatter_add(x, i, ops.ones((2, 4))), ops.bitcast(x, "int32"), ops.bitcast(ops.neg(x), "int32")), name="net"
    )
    with pytest.raises(
        UnsupportedOpError, match=r"net can't be written as ONNX: no operator for Bitcast \(2x\), Scatter \(1x\)"
    ):
        to_proto(graph, [])
    with pytest.raises(ArgumentError, match="opsets 13 to 24"):
        to_proto(graph, [], opset=9)


def test_a_failed_save_leaves_the_old_file(rng, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ModelFormatError, match="can't be written"):
        save(load(models.mlp(rng)), tmp_path / "missing" / "m.onnx")
    state = leaf("s", TensorType((3,), float32), "state")

    class Updating:
        bindings = ()

        def trace(self, dims):
            return Graph((state,), (ops.neg(state),), ((0, 0),), name="step")

    with pytest.raises(ArgumentError, match="updates state"):
        save(Updating(), path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
