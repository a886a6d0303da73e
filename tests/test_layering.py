"""Every import of the library against the layer table (the design's section 2), which is data here: LAYERS, THIRD_PARTY, ORACLES."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("runtime", "compiler", "frontends")  # installed as kerogen.runtime and so on


@dataclass(frozen=True)
class Layer:
    """``modules``: patterns of dotted names without "kerogen."; a module belongs to the first layer that matches. ``below``: the layers
    that it may import, beside itself."""

    name: str
    modules: tuple[str, ...]
    below: tuple[str, ...] = ()


def _in(*packages: str) -> tuple[str, ...]:
    return tuple(pattern for package in packages for pattern in (package, f"{package}.*"))


LAYERS = (
    # Importing kerogen.compiler.ir.graph runs the __init__ of every package above it: those import nothing. Nor do the version,
    # which is a part of cache keys and of saved plans, and the digest of the compiler's text, which is one of cache keys.
    Layer("packages", ("runtime", "compiler", "compiler.codegen", "frontends", "_version", "compiler.version")),
    Layer("base", ("runtime.dtype", "runtime.errors", "runtime.config", "runtime.dim"), ("packages",)),
    # Two parts of the runtime that the compiler's upper half may know: the plan, which is the language between the two, and the
    # machine: what the CPU has, LLVM's assembler, the cache of objects.
    Layer("plan", ("runtime.plan",), ("packages", "base")),
    Layer("machine", ("runtime.cpu", "runtime.cache"), ("packages", "base")),
    # NumPy bodies of ops without a kernel form; the interpreter of programs calls them as the runtime does.
    Layer("host", _in("runtime.host"), ("packages", "base", "plan")),
    Layer("runtime", ("runtime.*",), ("packages", "base", "plan", "machine", "host")),
    Layer("target", ("compiler.target",), ("packages", "base")),
    Layer("ir", _in("compiler.ir"), ("packages", "base", "target")),
    # A kernel knows buffers, not graphs: never ir.
    Layer("kernel", _in("compiler.kernel"), ("packages", "base", "target")),
    Layer("ops", _in("compiler.ops"), ("packages", "base", "host", "target", "ir", "kernel")),
    Layer("passes", _in("compiler.passes"), ("packages", "base", "target", "ir", "kernel", "ops")),
    Layer("schedule", _in("compiler.schedule"), ("packages", "base", "target", "kernel")),
    # Slots and their live ranges are a program's result, and a part of the plan's vocabulary.
    Layer("program", _in("compiler.program"), ("packages", "base", "plan", "host", "target", "kernel", "schedule")),
    Layer("emit", ("compiler.codegen.*",), ("packages", "base", "target", "kernel", "schedule", "program")),
    # The two backends never import each other.
    Layer("llvm", _in("compiler.codegen.llvm"), ("packages", "base", "machine", "target", "kernel", "schedule", "program", "emit")),
    Layer("triton", _in("compiler.codegen.triton"), ("packages", "base", "target", "kernel", "schedule", "program", "emit")),
    Layer(
        "pipeline",
        (
            "compiler.pipeline", "compiler.build", "compiler.regions", "compiler.emission", "compiler.stages", "compiler.dump", "compiler.explain",
            "compiler.check_kernels",
        ),
        ("packages", "base", "plan", "machine", "host", "runtime", "target", "ir", "kernel", "ops", "passes", "schedule", "program", "emit", "llvm", "triton"),
    ),
    # The two front ends never import each other.
    Layer("keras", _in("frontends.keras"), ("packages", "base", "plan", "machine", "runtime", "ir", "ops", "pipeline")),
    Layer("onnx", _in("frontends.onnx"), ("packages", "base", "plan", "machine", "runtime", "ir", "ops", "pipeline")),
)
FACADE = "kerogen"  # every module that no layer above names; it may import everything
# Patterns of the layers above that a more specific layer below them must win over.
SPECIFIC = ("llvm", "triton")


@dataclass(frozen=True)
class ThirdParty:
    """``modules``: who may import it. ``lazy``: only inside a function, or for type checkers."""

    modules: tuple[str, ...]
    lazy: bool = False


THIRD_PARTY = {
    "numpy": ThirdParty(("*",)),
    "ml_dtypes": ThirdParty(("*",)),
    "llvmlite": ThirdParty(("runtime.cpu", "compiler.codegen.llvm.*")),
    "triton": ThirdParty(("compiler.codegen.triton.compile", "compiler.codegen.triton.worker"), lazy=True),
    "cuda": ThirdParty(("runtime.cuda",), lazy=True),
    "networkx": ThirdParty(("compiler.passes.*", "compiler.program.*"), lazy=True),
    "h5py": ThirdParty(("frontends.keras.*",), lazy=True),
    "onnx": ThirdParty(("frontends.onnx", "frontends.onnx.*")),
    "google.protobuf": ThirdParty(("frontends.onnx.*",)),  # what onnx's files are read with, and its dependency
    "rich": ThirdParty(("frontends.keras.*", "kerogen.*"), lazy=True),  # soft: plain text where it isn't installed
}
# What tests compare with. The library has its own of everything that these do; a name here also covers its submodules.
ORACLES = ("onnxruntime", "keras", "jax", "jaxlib", "torch", "scipy", "tensorflow", "onnx.reference", "onnx.backend", "sklearn")
# A peer is timed beside kerogen where the user names it: `kerogen bench MODEL --against onnxruntime`.
PEERS = {"onnxruntime": ThirdParty(("kerogen.benchmark", "kerogen.peers"), lazy=True)}


@dataclass(frozen=True)
class Import:
    """One imported name: ``target`` is absolute ("kerogen.runtime.dtype", "numpy"); ``lazy`` where importing the file doesn't run it."""

    target: str
    line: int
    lazy: bool


def module_files(root: Path) -> dict[str, Path]:
    """Dotted name as installed ("kerogen.runtime.dtype") -> file, for the library in the checkout at ``root``; links are not followed."""
    found = {}
    for folder in (*FOLDERS, "kerogen"):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if folder == "kerogen" and len(parts) > 2 and parts[1] in FOLDERS:
                continue
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(parts if folder == "kerogen" else ("kerogen", *parts))] = path
    return found


def imports_of(module: str, path: Path, modules: Iterable[str]) -> Iterator[Import]:
    """The import statements of a file, ``importlib.import_module`` and ``__import__`` on literals included."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    known = set(modules)

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from .ir import graph` imports a module, `from .ir.graph import Graph` a name of one. Of packages that are not
                # ours that isn't known: the longer name is the stricter one (onnx.reference).
                longer = f"{base}.{alias.name}"
                yield Import(longer if longer in known or not base.startswith("kerogen") else base, node.lineno, lazy)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
            name = node.args[0].value
            if called in ("import_module", "__import__") and not name.startswith("."):
                yield Import(name, node.lineno, lazy)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                yield from visit(child, True)
            for child in node.orelse:
                yield from visit(child, lazy)
            return
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), False)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def layer_of(module: str) -> str:
    """The layer of "kerogen.compiler.ir.graph"; the facade for what no layer names."""
    name = module.removeprefix("kerogen.")
    if module != "kerogen" and (name.split(".")[0] in FOLDERS or name == "_version"):
        for layer in sorted(LAYERS, key=lambda layer: layer.name not in SPECIFIC):
            if _matches(name, layer.modules):
                return layer.name
        return f"no layer ({name})"
    return FACADE


def _covers(package: str, target: str) -> bool:
    return target == package or target.startswith(package + ".")


def _third_party_fault(module: str, found: Import) -> str | None:
    target = found.target
    name = module.removeprefix("kerogen.") if layer_of(module) != FACADE else f"kerogen.{module.removeprefix('kerogen').lstrip('.')}"
    if target.split(".")[0] in FOLDERS:
        return f"imports {target}: under the bare name every class exists twice; imports in the library are relative"
    if any(_covers(oracle, target) for oracle in ORACLES):
        peer = next((rule for package, rule in PEERS.items() if _covers(package, target)), None)
        if peer is not None and _matches(name, peer.modules) and found.lazy:
            return None
        return f"imports {target}: an oracle, for tests and benchmarks only"
    if target.split(".")[0] in sys.stdlib_module_names:
        return None
    for package, rule in THIRD_PARTY.items():
        if _covers(package, target):
            if not _matches(name, rule.modules):
                return f"imports {target}, which only {', '.join(rule.modules)} may"
            if rule.lazy and not found.lazy:
                return f"imports {target} at module level: only inside the function that needs it"
            return None
    return f"imports {target}, which is neither in the standard library nor in THIRD_PARTY"


def violations(root: Path) -> list[str]:
    """One line per import that the tables forbid."""
    modules = module_files(root)
    below = {layer.name: {layer.name, *layer.below} for layer in LAYERS}
    faults = []
    for module, path in modules.items():
        own = layer_of(module)
        if own.startswith("no layer"):
            faults.append(f"{path.relative_to(root)}: is in no layer of tests/test_layering.py")
            continue
        for found in imports_of(module, path, modules):
            if found.target == "kerogen" or found.target.startswith("kerogen."):
                other = layer_of(found.target)
                fault = None
                if own != FACADE and other not in below[own]:
                    fault = f"imports {found.target}: {own} must not import {other}"
            else:
                fault = _third_party_fault(module, found)
            if fault:
                faults.append(f"{path.relative_to(root)}:{found.line}: {fault}")
    return faults


def test_every_import_follows_the_layer_table():
    assert violations(ROOT) == []


def test_tests_and_benchmarks_import_no_folder_under_its_bare_name():
    bare = []
    for folder in ("tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for found in imports_of(".".join(path.relative_to(ROOT).with_suffix("").parts), path, ()):
                if found.target.split(".")[0] in FOLDERS:
                    bare.append(f"{path.relative_to(ROOT)}:{found.line}: {found.target}")
    assert bare == []


def test_every_layer_is_reached():
    """A pattern with a typing error would leave its modules to another layer's rules."""
    reached = {layer_of(module) for module in module_files(ROOT)}
    known = {layer.name for layer in LAYERS} | {FACADE}
    assert reached <= known
    optional = {"target"}  # one file; the others are packages, and stand
    assert known - reached <= optional


PLANTED = {
    # file, text, and a part of the message that must name it
    "a kernel that knows graphs": ("compiler/kernel/a.py", "from ..ir.graph import Graph", "kernel must not import ir"),
    "the same, in a function": ("compiler/kernel/a.py", "def f():\n    from ..ir import graph", "kernel must not import ir"),
    "the same, for types": (
        "compiler/kernel/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..ir import graph", "kernel must not import ir"
    ),
    "a runtime that knows the compiler": ("runtime/a.py", "from ..compiler import pipeline", "runtime must not import pipeline"),
    "dtypes that know the plan": ("runtime/dtype.py", "from . import plan", "base must not import plan"),
    "a program that runs": ("compiler/program/a.py", "from ...runtime import executable", "program must not import runtime"),
    "a schedule of graphs": ("compiler/schedule/a.py", "from ..ir import graph", "schedule must not import ir"),
    "one front end in another": ("frontends/onnx/a.py", "from ..keras import layers", "onnx must not import keras"),
    "a front end that runs a pass": ("frontends/keras/a.py", "from ...compiler.passes import fuse", "keras must not import passes"),
    "one backend in another": ("compiler/codegen/llvm/a.py", "from ..triton import source", "llvm must not import triton"),
    "a package that imports its parts": ("compiler/__init__.py", "from .ir import graph", "packages must not import ir"),
    "the facade from below": ("frontends/keras/a.py", "from ...api import compile", "keras must not import kerogen"),
    "an absolute import": ("compiler/kernel/a.py", "import kerogen.compiler.ir.graph", "kernel must not import ir"),
    "a bare name": ("compiler/kernel/a.py", "from compiler.kernel import expr", "every class exists twice"),
    "an oracle": ("compiler/ops/a.py", "def f():\n    import jax.numpy as jnp", "jax.numpy: an oracle"),
    "an oracle by name": ("compiler/ops/a.py", "import importlib\nm = importlib.import_module('torch')", "torch: an oracle"),
    "an oracle in a dependency": ("frontends/onnx/a.py", "from onnx import reference", "onnx.reference: an oracle"),
    "a peer imported early": ("kerogen/benchmark.py", "import onnxruntime", "onnxruntime: an oracle"),
    "LLVM outside its place": ("compiler/pipeline.py", "import llvmlite.binding", "only runtime.cpu"),
    "Triton at module level": ("compiler/codegen/triton/compile.py", "import triton", "at module level"),
    "an undeclared dependency": ("kerogen/a.py", "import requests", "neither in the standard library"),
    "a module in no layer": ("compiler/helpers.py", "", "is in no layer"),
}
ALLOWED = {
    "the version, anywhere": ("runtime/a.py", "from .._version import __version__"),
    "a program of a plan's slots": ("compiler/program/a.py", "from ...runtime.plan import Slot"),
    "a pass on graphs and kernels": ("compiler/passes/a.py", "from ..ir import graph\nfrom ..kernel.expr import Expr"),
    "networkx in a pass's function": ("compiler/passes/a.py", "def f():\n    import networkx as nx"),
    "a peer where it is named": ("kerogen/benchmark.py", "def f():\n    import onnxruntime"),
    "onnx itself": ("frontends/onnx/a.py", "import onnx\nfrom onnx.defs import onnx_opset_version"),
    "a front end on the pipeline": ("frontends/keras/a.py", "from ...compiler.pipeline import executable\nfrom ...compiler import ops"),
    "the facade": ("kerogen/a.py", "from .compiler import pipeline\nfrom .frontends.keras import layers"),
}


@pytest.fixture
def tree(tmp_path):
    """A checkout with the modules that the planted imports name."""
    for name in (
        "runtime/__init__ runtime/dtype runtime/executable runtime/plan compiler/__init__ compiler/pipeline compiler/ir/__init__ compiler/ir/graph "
        "compiler/kernel/__init__ compiler/kernel/expr compiler/ops/__init__ compiler/passes/__init__ compiler/passes/fuse "
        "compiler/schedule/__init__ compiler/program/__init__ compiler/codegen/__init__ compiler/codegen/llvm/__init__ compiler/codegen/triton/__init__ "
        "compiler/codegen/triton/source frontends/__init__ frontends/keras/__init__ frontends/keras/layers frontends/onnx/__init__ "
        "kerogen/__init__ kerogen/_version kerogen/api"
    ).split():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert violations(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(("file", "text", "message"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(tree, file, text, message):
    (tree / file).write_text(text)
    faults = violations(tree)
    assert len(faults) == 1
    assert faults[0].startswith(file)
    assert message in faults[0]


@pytest.mark.parametrize(("file", "text"), ALLOWED.values(), ids=ALLOWED)
def test_what_the_table_allows_passes(tree, file, text):
    (tree / file).write_text(text)
    assert violations(tree) == []


def test_import_is_light():
    """`import kerogen`, and naming an error: no NumPy, no compiler, nothing heavy, in a process of its own; the best of five times."""
    code = (
        "import sys, time; before = set(sys.modules); start = time.perf_counter(); import kerogen; seconds = time.perf_counter() - start;"
        "from kerogen import KerogenError; print(seconds, *sorted(set(sys.modules) - before))"
    )
    seconds = []
    for _ in range(5):
        out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        seconds.append(float(out[0]))
    loaded = out[1:]
    heavy = ("numpy", "ml_dtypes", *THIRD_PARTY, *ORACLES)
    assert [name for name in loaded if any(_covers(package, name) for package in heavy)] == []
    # The names, the version, and what KerogenError needs.
    assert [name for name in loaded if name.startswith("kerogen")] == [
        "kerogen", "kerogen._version", "kerogen.errors", "kerogen.runtime", "kerogen.runtime.errors",
    ]
    assert [name for name in loaded if name.split(".")[0] in FOLDERS] == []
    assert min(seconds) < 0.05


def test_other_platforms_can_import(tmp_path):
    """On a machine that kerogen can't compile for, the names and the errors are there all the same."""
    code = (
        "import sys, platform; sys.platform = 'darwin'; platform.system = lambda: 'Darwin'; platform.machine = lambda: 'arm64';"
        "import kerogen; from kerogen.errors import UnsupportedPlatformError; import kerogen.onnx; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stderr
