"""Independent implementations to test against: never imported by the library, installed by ``pip install kerogen[test]``."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

import pytest


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def oracle(name: str) -> ModuleType:
    """The module ``name`` (onnxruntime, keras, jax, onnx.reference, ...), at the top of a test file or inside a test.

    Where it is not installed the test is skipped; with CI=true it fails, so that a broken environment can't pass for a tested one.
    """
    try:
        return import_module(name)
    except ImportError as error:
        if in_ci():
            pytest.fail(f"the oracle {name} is missing ({error}), and with CI=true that is a failure: pip install -e '.[test]'")
        pytest.skip(f"the oracle {name} is not installed: pip install -e '.[test]'", allow_module_level=True)
