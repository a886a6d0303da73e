"""Inputs whose free dimensions have different names, or none, and still fit when the call tells the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import kerogen as kg
from kerogen.errors import KerogenError


def _model(a, b):
    info = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("MatMul", ["s", "w"], ["y"])], "g",
                              [info("a", TensorProto.FLOAT, a), info("b", TensorProto.FLOAT, b)], [info("y", TensorProto.FLOAT, None)],
                              [helper.make_tensor("w", TensorProto.FLOAT, [4, 2], np.arange(8.0))])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("a", "b"), [([None, 4], [None, 4]), (["N", 4], ["M", 4]), (["N", 4], [3, 4])])
@pytest.mark.parametrize("rows", [3, 1])
def test_sizes_meet_at_the_call(rng, a, b, rows):
    exe = kg.compile(_model(a, b))
    x, y = rng.standard_normal((rows, 4)).astype(np.float32), rng.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_allclose(exe(x, y), (x + y) @ np.arange(8.0).reshape(4, 2), rtol=1e-5, atol=1e-5)


def test_sizes_that_do_not_meet(rng):
    exe = kg.compile(_model(["N", 4], ["M", 4]))
    with pytest.raises(KerogenError, match="5"):
        exe(rng.standard_normal((5, 4)).astype(np.float32), rng.standard_normal((3, 4)).astype(np.float32))
