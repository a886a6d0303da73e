"""The nine CNNs of onnx's backend tests, with the official inputs and tolerances."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.frontends.onnx import load
from tests.oracle import oracle

from .backend import light_model

NAMES = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)


@pytest.mark.parametrize("name", NAMES)
def test_cnn(name):
    onnx, runner = oracle("onnx"), oracle("onnx.backend.test.runner")
    (case,) = [c for c in oracle("onnx.backend.test.loader").load_model_tests(kind="real") if c.name == f"test_{name}"]
    path, wanted = light_model(case.url)
    model = load(path)
    (v,) = model.inputs
    (info,) = [i for i in onnx.load(path).graph.input if i.name == v.name]
    x = runner.Runner.generate_dummy_data(info, seed=0, name=case.name, random=False)  # what the official runner feeds
    np.testing.assert_allclose(model(x), wanted, rtol=case.rtol, atol=case.atol)
