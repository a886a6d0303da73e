"""Whole models with random weights against ONNX Runtime, at several batch sizes of one compiled model."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.frontends.onnx import load
from kerogen.runtime.dim import Dim, text
from kerogen.runtime.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError
from tests.oracle import oracle

from . import models


def reference(model, feeds):
    ort = oracle("onnxruntime")
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


def close(ours, theirs):
    ours = ours if isinstance(ours, list) else [ours]
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("make", [models.mlp, models.cnn])
def test_equals_onnxruntime(make, batch, rng):
    proto = make(rng)
    model = load(proto)
    (name,) = model.input_names
    x = rng.standard_normal((batch, *model.inputs[0].shape[1:])).astype(np.float32)
    close(model(x), reference(proto, {name: x}))


def test_transformer_block_at_free_batch_and_time(rng):
    proto = models.transformer(rng)
    model = load(proto)
    assert model.free_dims == ("batch", "time")
    for batch, time in [(1, 9), (3, 1), (2, 13)]:
        feeds = {"x": rng.standard_normal((batch, time, 24)).astype(np.float32), "mask": rng.random((batch, 1, 1, time)) < 0.7}
        feeds["mask"][..., 0] = True
        close(model(**feeds), reference(proto, feeds))


def test_shape_arithmetic_stays_an_expression(rng):
    """The Reshape by Concat(batch, time, 24) is symbolic: one graph for all sizes."""
    model = load(models.transformer(rng))
    graph = model.trace({"batch": Dim.free("batch", 4), "time": Dim.free("time", 6)})
    assert [text(d) for d in graph.outputs[0].shape] == ["batch", "time", "24"]
    assert not any(n.op.name == "Iota" for n in graph.nodes if hasattr(n.op, "name") and not n.op.name.startswith("x"))
    shapes = {tuple(map(text, n.shape)) for n in graph.nodes if type(n.op).__name__ == "Reshape"}
    assert ("batch", "time", "3", "8") in shapes and ("batch", "time", "24") in shapes


def test_a_fixed_dimension_is_no_expression(rng):
    model = load(models.mlp(rng), dims={"batch": 5})
    assert model.free_dims == () and model.inputs[0].shape == (5, 23)
    with pytest.raises(ShapeError, match=r"'x' is \[5, 23\], got \[4, 23\]"):
        model(np.ones((4, 23), np.float32))


def test_new_weights_are_served(rng):
    proto = models.mlp(rng)
    model = load(proto)
    x = rng.standard_normal((3, 23)).astype(np.float32)
    before = model(x)[0]
    new = rng.standard_normal((17, 31)).astype(np.float32)
    model.weights["w2"].assign(new)
    for t in proto.graph.initializer:
        if t.name == "w2":
            t.CopyFrom(oracle("onnx").numpy_helper.from_array(new, "w2"))
    assert model.weights["w2"].version == 1, "what plans prepared from the old weights must know"
    after = model(x)
    close(after, reference(proto, {"x": x}))
    assert np.abs(after[0] - before).max() > 1e-3
    with pytest.raises(ShapeError, match=r"weight 'w2' is \[17, 31\], got \[31, 17\]"):
        model.weights["w2"].assign(new.T)


def test_wrong_inputs(rng):
    model = load(models.mlp(rng))
    x = np.ones((2, 23), np.float32)
    with pytest.raises(DTypeError, match="'x' is float32, got float64"):
        model(x.astype(np.float64))
    with pytest.raises(ShapeError, match=r"\[batch, 23\], got \[2, 22\]"):
        model(x[:, 1:])
    with pytest.raises(ArgumentError, match="takes 1 inputs"):
        model(x, x)
    with pytest.raises(ArgumentError, match="needs inputs x"):
        model()
    with pytest.raises(UnknownNameError, match="no input 'z'"):
        model(z=x)
    with pytest.raises(ArgumentError, match="no free dimension 'n'"):
        load(models.mlp(rng), dims={"n": 3})


def test_values_that_shape_the_graph(rng):
    """A Reshape whose target is an input of the model is compiled for each value of it."""
    proto = models.parsed(
        """<ir_version: 8, opset_import: ["" : 17]>
    m (float[a, b] x, int64[n] shape) => (float[c, d] y) {
      e = Exp(x)
      y = Reshape(e, shape)
    }""",
        {},
    )
    model = load(proto)
    x = rng.standard_normal((3, 8)).astype(np.float32)
    for shape in ([4, 6], [-1, 2], [0, 8], [4, 6]):
        feeds = {"x": x, "shape": np.array(shape)}
        close(model(**feeds), reference(proto, feeds))


def test_branches(rng):
    """A condition that depends on data: both branches, and a selection."""
    proto = models.parsed(
        """<ir_version: 8, opset_import: ["" : 17]>
    m (float[n, 5] x) => (float[n, 5] y) {
      s = ReduceSum<keepdims=0>(x)
      zero = Constant<value_float=0.0>()
      c = Greater(s, zero)
      y = If (c) <
        then_branch = a () => (float[n, 5] ya) { ya = Exp(x) },
        else_branch = b () => (float[n, 5] yb) { two = Constant<value_float=2.0>() t = Mul(x, two) yb = Neg(t) }
      >
    }""",
        {},
    )
    model = load(proto)
    for sign in (1, -1):
        x = sign * np.abs(rng.standard_normal((3, 5))).astype(np.float32)
        close(model(x), reference(proto, {"x": x}))


def test_model_local_function_with_attribute_reference(rng):
    proto = models.onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
    m (float[n, 5] x) => (float[n, 5] y) {
      h = mine.act<slope=0.3>(x)
      y = mine.act(h)
    }
    <domain: "mine", opset_import: ["" : 17]>
    act<slope: float = 0.1>(v) => (w) {
      w = LeakyRelu<alpha: float = @slope>(v)
    }""")
    x = rng.standard_normal((4, 5)).astype(np.float32)
    close(load(proto)(x), reference(proto, {"x": x}))
