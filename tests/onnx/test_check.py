"""Everything that can't be compiled is listed at once."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.frontends.onnx import check, load
from kerogen.frontends.onnx.registry import FOLDS, HANDLERS, load_handlers, schema_of
from kerogen.runtime.errors import UnsupportedOpError

from . import models
from .models import onnx


def odd():
    return onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
    odd (float[n, 3, 8, 8] x, float16[n] h) => (float[n, 3, 8, 8] y, float[n, 3, 8, 8] z, float[2] u) {
      a = Relu(x)
      b = com.acme.Warp(a)
      c = com.acme.Warp(b)
      d = Add(c, x)
      y = NonMaxSuppression(d, x)
      e = Softmax<axis=9>(x)
      f = Exp<base=2>(x)
      g = Gelu(x)
      z = Add(e, f)
      i = Add(x, h)
      j = Add(i, g)
      s = ReduceSum(j)
      k = Cast<to=8>(s)
      u = Identity(k)
      unused = com.acme.Never(x)
    }""")


def test_all_issues_at_once():
    report = check(odd())
    assert not report.ok
    found = {(i.operator, i.kind, i.attribute) for i in report.issues}
    assert ("Warp", "unsupported", "") in found
    assert ("NonMaxSuppression", "unsupported", "") in found, "behind a node that can't be compiled"
    assert ("Softmax", "invalid", "axis") in found
    assert ("Exp", "invalid", "base") in found
    assert ("Gelu", "invalid", "") in found, "Gelu came with opset 20"
    assert ("Add", "invalid", "") in found, "float32 + float16"
    assert sum(i.operator == "Warp" for i in report.issues) == 2
    assert not any(i.operator == "Never" for i in report.issues), "nothing needs its result"
    assert not any(i.operator in ("Relu", "Identity") for i in report.issues)
    text = str(report.error())
    assert 'com.acme.Warp      node "Warp#1"  used 2x  (opset 1, float32)' in text
    assert "axis 9 lies outside rank 4" in text and "attribute 'base'" in text and "came with a later one" in text


def test_the_error_is_the_report():
    with pytest.raises(UnsupportedOpError) as e:
        load(odd()).trace({"n": 3})
    assert str(e.value) == str(check(odd()).error())


def test_types_that_are_no_tensors():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> m (seq(float[n]) s, string[n] t, complex64[n] q) => (int64 y)'
        "{ y = SequenceLength(s) a = Identity(t) b = Identity(q) }"
    )
    reasons = [i.reason for i in check(model).issues]
    assert any("'s' is a sequence" in r for r in reasons)
    assert any("'t' is a tensor of STRING" in r for r in reasons)
    assert any("'q' is a tensor of COMPLEX64" in r for r in reasons)


def test_unknown_rank_needs_a_shape():
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> m (float[] x) => (float[] y) { y = Exp(x) }')
    model.graph.input[0].type.tensor_type.ClearField("shape")
    (issue,) = check(model).issues
    assert "no stated rank" in issue.reason and "--shape x=" in issue.hint
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_allclose(load(model, shapes={"x": ("n", None)})(x), np.exp(x), rtol=1e-6)


def test_newer_opset_and_missing_domain():
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> m (float[n] x) => (float[n] y) { y = Exp(x) }')
    model.opset_import[0].version = 99
    with pytest.raises(UnsupportedOpError, match="needs opset 99; this kerogen reads 1 to"):
        load(model)
    model.opset_import[0].version = 17
    model.graph.node[0].domain = "other"
    (issue,) = check(model).issues
    assert issue.kind == "invalid" and "'other' is not imported" in issue.reason


def test_report_of_a_good_model(rng):
    report = check(models.cnn(rng))
    assert report.ok and report.free_dims == ("batch",)
    assert report.inputs == ("x  float32 [batch, 3, 13, 11]",) and report.outputs == ("y  float32 [batch, 4]",)
    assert report.parameters == sum(int(np.prod(t.dims)) for t in models.cnn(rng).graph.initializer)
    text = str(report)
    assert "opset 17" in text and "11 nodes, 9 kinds of operator" in text and "all 9 operators supported" in text
    # By hand: 13*11*6*45 + 7*3*8*27 + 6*4*7*8 + 7*4 multiply-adds.
    assert report.macs == "44.52 kMAC with free dimensions at 1"


def test_the_table_names_operators_of_the_standard():
    """No handler or fold under a misspelt name."""
    load_handlers()
    for domain, name in (*HANDLERS, *FOLDS):
        assert any(schema_of(name, domain, v) for v in (1, 7, 13, 2**30)), name
    assert len(HANDLERS) >= 140
