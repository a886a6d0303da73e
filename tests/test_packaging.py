"""What is installed works: every package and file reaches the wheel, every module imports, and the wheel runs in an empty environment."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import kerogen
from tests.test_layering import FOLDERS, ROOT, module_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_package_directory_has_an_init():
    """setuptools leaves a directory without one out of the wheel, and says nothing."""
    missing = set()
    for folder in (*FOLDERS, "kerogen"):
        for path in (ROOT / folder).rglob("*.py"):
            for parent in path.relative_to(ROOT).parents[:-1]:
                if not (ROOT / parent / "__init__.py").is_file():
                    missing.add(str(parent))
    assert missing == set()


def test_links_show_the_folders_in_place():
    for folder in FOLDERS:
        link = ROOT / "kerogen" / folder
        assert link.is_symlink()
        assert os.readlink(link) == f"../{folder}"


# cuda.py and triton/compile.py import their libraries when called, so all modules import on every machine.
@pytest.mark.parametrize("module", sorted(module_files(ROOT)))
def test_module_imports(module):
    if module != "kerogen.__main__":
        importlib.import_module(module)


def _type_checking_names() -> set[str]:
    tree = ast.parse(Path(kerogen.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    assert all(isinstance(statement, ast.ImportFrom) for statement in block.body)
    return {alias.asname for statement in block.body for alias in statement.names}


def test_the_public_names_are_the_same_for_python_and_for_type_checkers():
    promised = """
        Sequential Model Input Layer Variable layers ops activations initializers regularizers losses optimizers metrics callbacks models
        load_model saving utils random config compile grad value_and_grad spec Options Executable load onnx from_keras bench
        set_num_threads KerogenError
    """.split()
    tables = {*kerogen._MODULES, *kerogen._NAMES}
    assert _type_checking_names() == tables
    assert sorted(kerogen.__all__) == sorted({*tables, "__version__"})
    assert set(promised) <= tables
    assert set(promised) <= set(dir(kerogen))


def test_no_public_name_is_hidden_by_a_module():
    """Importing kerogen.x binds x in kerogen: a function of that name would be gone."""
    assert [name for name in kerogen._NAMES if (ROOT / "kerogen" / f"{name}.py").exists() or (ROOT / "kerogen" / name).exists()] == []
    assert [name for name in kerogen._MODULES if importlib.util.find_spec(f"kerogen.{name}") is None] == []


@pytest.mark.parametrize("name", sorted(kerogen.__all__))
def test_public_name_is_there(name):
    value = getattr(kerogen, name)
    if name in kerogen._MODULES:
        assert value is sys.modules[f"kerogen.{name}"]


@pytest.mark.parametrize("name", sorted(kerogen._MODULES))
def test_public_module_exports_only_its_own(name):
    """A star import without __all__ would hand on numpy, typing and the like."""
    module = importlib.import_module(f"kerogen.{name}")
    names = [n for n in vars(module) if not n.startswith("_") and n != "annotations"]
    assert names
    foreign = [n for n in names if not (getattr(vars(module)[n], "__module__", None) or "kerogen").startswith("kerogen")]
    modules = [n for n in names if isinstance(vars(module)[n], type(sys)) and not vars(module)[n].__name__.startswith("kerogen.")]
    assert foreign + modules == []


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'kerogen' has no attribute 'Sequentail'"):
        _ = kerogen.Sequentail


def _requirement_names(requirements: list[str], extra: str = "") -> list[str]:
    """Names of those requirements that hold here; markers are evaluated by the library that pip uses too."""
    from packaging.requirements import Requirement

    parsed = map(Requirement, requirements)
    return [r.name for r in parsed if r.marker is None or r.marker.evaluate({"extra": extra})]


def _link_dependencies(into: Path) -> None:
    """Puts links to the installed core dependencies and to what they need in turn, and to nothing else, into a folder: what pip would
    install, without the download."""
    into.mkdir()
    todo, done = _requirement_names(PROJECT["dependencies"]), set()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in done:
            continue
        done.add(name)
        distribution = importlib.metadata.distribution(name)
        todo += _requirement_names(distribution.requires or [])
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            link = into / top
            if not link.exists():
                link.symlink_to(distribution.locate_file(top))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Made by ``python -m build`` from a copy of the sources, so that no old build/ folder adds to it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    skipped = shutil.ignore_patterns("__pycache__")
    for name in (*FOLDERS, "kerogen"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=skipped)
    for name in FOLDERS:  # as in a zip from GitHub, or a checkout on Windows
        (source / "kerogen" / name).unlink()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    # setuptools is in the [test] extra: no second environment is made, and nothing is downloaded.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    return path


def test_wheel_holds_every_module_and_data_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = set()
    for module, path in module_files(ROOT).items():
        expected.add(module.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py"))
    assert expected <= names
    extra = {n for n in names if n.endswith(".py")} - expected
    assert extra == set()
    assert {"kerogen/py.typed", "kerogen/datasets/digits.npz", "kerogen/datasets/NOTICE.txt"} <= names
    assert wheel.name == f"kerogen-{kerogen.__version__}-py3-none-any.whl"
    [metadata] = [n for n in names if n.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    for extra_name in ("gpu", "test"):
        assert f"Provides-Extra: {extra_name}" in text


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel in an environment that holds the core dependencies only; called with arguments, runs its Python outside the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    _link_dependencies(folder / "dependencies")
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(f"{folder / 'dependencies'}\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KEROGEN_"))}
    environment["KEROGEN_CACHE_DIR"] = str(folder / "cache")

    def run(*arguments: str, program: str = "python") -> str:
        command = [str(python.with_name(program)), *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    run.site = site
    return run


def test_installed_package_is_the_wheel(installed):
    out = installed("-c", "import kerogen, kerogen.compiler, kerogen.runtime; print(kerogen.__file__, kerogen.runtime.__file__, sep='\\n')")
    assert all(Path(line).is_relative_to(installed.site) for line in out.split())


def test_installed_environment_has_no_oracle(installed):
    """Else the tests here would pass with a dependency that nobody declared."""
    out = installed("-c", "from importlib.util import find_spec as f; print([n for n in ('keras', 'jax', 'onnxruntime', 'triton') if f(n)])")
    assert out.strip() == "[]"


def test_installed_modules_all_import(installed):
    modules = sorted(set(module_files(ROOT)) - {"kerogen.__main__"})
    code = f"import importlib\nfor m in {modules!r}: importlib.import_module(m)\nprint('all')"
    assert installed("-c", code) == "all\n"


def test_installed_command_line(installed):
    for program, arguments in (("python", ("-m", "kerogen", "--help")), ("kerogen", ("--help",))):
        out = installed(*arguments, program=program)
        assert out.startswith("usage: kerogen")
        for command in ("demo", "bench", "import"):
            assert command in out


def test_installed_package_compiles_and_trains(installed):
    """Dense layers by kernels made on the spot, against NumPy; then two steps of training that lower the loss."""
    code = """
import numpy as np, kerogen as kg
r = np.random.default_rng(3)
model = kg.Sequential([kg.Input((7,)), kg.layers.Dense(5, activation="relu"), kg.layers.Dense(3)])
x = r.standard_normal((11, 7)).astype("float32")
w1, b1, w2, b2 = [r.standard_normal(w.shape).astype("float32") for w in model.get_weights()]
model.set_weights([w1, b1, w2, b2])
got = np.asarray(kg.compile(model)(x))
want = np.maximum(x.astype("float64") @ w1 + b1, 0) @ w2 + b2
assert np.all(abs(got - want) <= 1e-5 * (1 + abs(want))), abs(got - want).max()
model.compile(optimizer="sgd", loss="mse")
y = r.standard_normal((11, 3)).astype("float32")
losses = model.fit(x, y, batch_size=11, epochs=3, verbose=0, shuffle=False).history["loss"]
assert abs(losses[0] - np.mean((want - y) ** 2)) <= 1e-4 * losses[0], losses
assert losses[0] > losses[1] > losses[2], losses
model.save("m.keras")
again = kg.load_model("m.keras")
assert np.array_equal(np.asarray(again.predict(x, verbose=0)), np.asarray(model.predict(x, verbose=0)))
print("ok")
"""
    assert installed("-c", code) == "ok\n"


def test_digits_are_split_by_class_and_by_seed():
    import numpy as np

    from kerogen.datasets import digits

    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert (x_train.shape, x_test.shape, x_train.dtype, y_train.dtype) == ((1438, 8, 8), (359, 8, 8), np.uint8, np.uint8)
    counts = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])  # of the published data set
    assert np.array_equal(np.bincount(y_train) + np.bincount(y_test), counts)
    assert np.array_equal(np.bincount(y_test), np.round(counts * 0.2).astype(int))
    scans = np.concatenate([x_train, x_test])
    assert len({scan.tobytes() for scan in scans}) == 1797
    assert (scans.min(), scans.max()) == (0, 16)
    again = digits.load_data()
    assert np.array_equal(again[0][0], x_train) and np.array_equal(again[1][1], y_test)
    assert not np.array_equal(digits.load_data(seed=1)[1][0], x_test)
    for wrong in (1.0, -0.1):
        with pytest.raises(ValueError, match="test_split"):
            digits.load_data(test_split=wrong)
