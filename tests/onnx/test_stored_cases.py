"""The cases that the wheel stores: converted from PyTorch modules (opset 6 and later), and small models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kerogen.frontends.onnx import load
from kerogen.runtime.errors import UnsupportedOpError

from .backend import assert_case, data_folder, data_sets

FOLDERS = sorted(
    p for kind in ("pytorch-converted", "pytorch-operator", "simple") for p in (data_folder() / kind).iterdir() if p.is_dir()
)
# Sequences, strings and gradients: not tensors, or not inference.
REFUSED = {p.name for p in FOLDERS if p.name.startswith(("test_sequence_model", "test_strnorm", "test_gradient"))}


@pytest.mark.parametrize("folder", [p for p in FOLDERS if p.name not in REFUSED], ids=lambda p: p.name)
def test_pass(folder: Path):
    model = load(folder / "model.onnx")
    sets = data_sets(folder)
    assert sets
    for inputs, outputs in sets:
        got = model(*inputs)
        for g, o in zip([got] if len(outputs) == 1 else got, outputs, strict=True):
            assert_case(np.asarray(g), o, 1e-3, 1e-7)


@pytest.mark.parametrize("folder", [p for p in FOLDERS if p.name in REFUSED], ids=lambda p: p.name)
def test_refuse(folder: Path):
    report = load(folder / "model.onnx").check()
    assert not report.ok
    with pytest.raises(UnsupportedOpError):
        raise report.error()
