"""Fixtures: ``rng`` (a generator seeded by the test's name), ``golden`` (text kept beside the test). And the environment of every test:
its own compile cache, JAX below Keras, fixed seeds, the same hypothesis examples each time."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.oracle import in_ci

_cache_dir: str | None = None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="accept the text that tests produce now as their golden files")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and in_ci():
        raise pytest.UsageError("--update-golden with CI=true would make every golden test pass")
    os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="3")
    # One cache for this session, never the user's. Workers of pytest-xdist inherit it from the process that started them.
    if not hasattr(config, "workerinput"):
        global _cache_dir
        _cache_dir = os.environ["KEROGEN_CACHE_DIR"] = tempfile.mkdtemp(prefix="kerogen-tests-")
    hypothesis.settings.register_profile("kerogen", deadline=None, derandomize=True, database=None, print_blob=True)
    hypothesis.settings.load_profile("kerogen")


def pytest_unconfigure() -> None:
    if _cache_dir is not None:
        shutil.rmtree(_cache_dir, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _no_module_under_two_names():
    """`import compiler.ir` works in the repository's root, and makes a second copy of every class. Checked when the session ends."""
    yield
    bare = sorted(name for name in sys.modules if name.split(".")[0] in ("compiler", "runtime", "frontends"))
    assert not bare, f"imported under their bare names instead of as kerogen.*: {', '.join(bare)}"


def _seed(request: pytest.FixtureRequest) -> int:
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture(autouse=True)
def _seeds(request: pytest.FixtureRequest) -> None:
    """The global generators of Python and NumPy start from the test's name: no test depends on which ran before it."""
    random.seed(_seed(request))
    np.random.seed(_seed(request))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Seeded by the test's name, parameters included."""
    return np.random.default_rng(_seed(request))


class Golden:
    """Text that equals what a file holds: ``assert golden == str(graph)``. ``golden("kernel")`` is a second file of the same test."""

    def __init__(self, path: Path, update: bool):
        self.path, self.update = path, update

    def __call__(self, part: str) -> Golden:
        return Golden(self.path.with_name(f"{self.path.stem}.{_file_name(part)}.txt"), self.update)

    def __eq__(self, text: object) -> bool:
        if not isinstance(text, str):
            raise TypeError(f"golden files hold text, not {type(text).__name__}: compare with str(...)")
        text = text.rstrip("\n") + "\n"
        if self.update:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(text, encoding="utf-8")
        return self.path.is_file() and self.path.read_text(encoding="utf-8") == text

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<golden {self.path}>"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The golden text of this test, in ``golden/<test file>/<test>.txt`` beside its file; --update-golden writes it."""
    folder = request.path.parent / "golden" / request.path.stem
    return Golden(folder / f"{_file_name(request.node.name)}.txt", request.config.getoption("--update-golden"))


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    import difflib

    file, text = (left, right) if isinstance(left, Golden) else (right, left)
    if op != "==" or not isinstance(file, Golden) or not isinstance(text, str):
        return None
    if not file.path.is_file():
        return [f"there is no {file.path}", "read the text, then accept it with: pytest --update-golden", "", *text.splitlines()]
    known = file.path.read_text(encoding="utf-8").splitlines()
    diff = difflib.unified_diff(known, text.splitlines(), "golden", "now", lineterm="")
    return [f"text differs from {file.path}", "if the new text is right: pytest --update-golden", "", *diff]
