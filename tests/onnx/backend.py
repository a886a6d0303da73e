"""onnx's own backend tests as cases: model, inputs, expected outputs, tolerances."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from tests.oracle import oracle

# The official tolerances (rtol of the case, atol 1e-7), except for results in a half type: the reference rounds every
# intermediate to it, a compiler
# need not, so two units of the last place are allowed there.
_HALF = {"float16": 2.0**-9, "bfloat16": 2.0**-6}


@cache
def node_cases() -> dict:
    """The single-operator cases by name. They are made in memory with NumPy's global generator: seeded here, so that all runs see
    the same inputs.
    """
    loader = oracle("onnx.backend.test.loader")
    state = np.random.get_state()
    np.random.seed(0)
    try:
        return {c.name: c for c in loader.load_model_tests(kind="node")}
    finally:
        np.random.set_state(state)


def array(x):
    onnx: ModuleType = oracle("onnx")
    return onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x)


def assert_case(got: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> None:
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    rtol = max(rtol, _HALF.get(wanted.dtype.name, 0))
    if wanted.dtype.kind == "V":
        got, wanted = got.astype(np.float32), wanted.astype(np.float32)
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


def data_sets(folder: Path) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The stored inputs and outputs of a case."""
    out = []
    for data in sorted(folder.glob("test_data_set_*")):
        sides = [sorted(data.glob(f"{side}_*.pb"), key=lambda p: int(p.stem.rsplit("_", 1)[1])) for side in ("input", "output")]
        out.append(tuple([_tensor(p) for p in side] for side in sides))
    return out


def _tensor(path: Path) -> np.ndarray:
    onnx = oracle("onnx")
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def data_folder() -> Path:
    """Where the wheel keeps the stored cases."""
    return Path(os.path.dirname(oracle("onnx.backend.test.loader").__file__)).parent / "data"


def light_model(url: str) -> tuple[Path, np.ndarray]:
    """A CNN of the zoo with constant weights, and its expected output."""
    path = data_folder() / "light" / Path(url).name
    return path, _tensor(path.with_name(path.stem + "_output_0.pb"))
