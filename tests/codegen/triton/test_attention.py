"""Attention as Triton source: forward and both halves of the derivative in Triton's interpreter, and as cubins."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kerogen.compiler.build import program_of
from kerogen.compiler.codegen.triton.attention import FlashSchedule, attention_source
from kerogen.compiler.codegen.triton.compile import compile_source
from kerogen.compiler.codegen.triton.interpreter import interpret_program
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph
from kerogen.compiler.kernel.attention import Attend
from kerogen.compiler.target import Target
from kerogen.runtime.dim import Dim
from tests.codegen.llvm.test_attention import CASES, draw, graph_of, rng_of
from tests.codegen.triton.test_compile import tool, usage
from tests.compare import assert_close
from tests.oracle import oracle

oracle("triton")
GPU = replace(Target.named("x86-64-v4"), arch="cuda")


def routines(graph: Graph) -> list[Attend]:
    return [c.kernel for c in program_of(graph, GPU).calls if isinstance(c.kernel, Attend)]


def smaller(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Fewer programs: the interpreter takes a millisecond for every product."""
    return (*(min(n, most) for n, most in zip(shape, (2, 70, 100))), *shape[3:])


@pytest.mark.parametrize("name", [n for n, (shape, extra, _) in CASES.items() if smaller(shape) == shape])
def test_forms(name: str) -> None:
    """The program of a GPU: three routines and nothing else; every address and every pair of programs is checked by the interpreter."""
    shape, extra, options = CASES[name]
    arrays = draw(rng_of("triton", name), shape, layout=options.get("layout", "BTHD"), **extra)
    graph = graph_of(arrays, "bias" in extra, "mask" in extra, **options)
    program = program_of(graph, GPU)
    assert [type(c.kernel).__name__ for c in program.calls] == ["Attend", "AttendQueryGrad", "AttendKeyGrad"]
    tolerance = {"float64": 1e-12, "bfloat16": 4e-2, "float16": 5e-3}.get(extra.get("dtype", "float32"), 5e-6)
    for what, a, e in zip(("out", "dq", "dk", "dv"), interpret_program(program, arrays), evaluate(graph, arrays), strict=True):
        assert_close(a, e, tolerance, what=what)


@pytest.mark.parametrize("offset", [0, 13])
def test_programs_skip_what_the_causal_edge_hides(offset: int) -> None:
    """Several blocks on both sides of the edge, for several heads of a group."""
    arrays = draw(rng_of("edge", offset), (1, 150, 170, 2, 1, 16, 16))
    graph = graph_of(arrays, False, False, causal=True, offset=offset)
    for a, e in zip(interpret_program(program_of(graph, GPU), arrays), evaluate(graph, arrays), strict=True):
        assert_close(a, e, 5e-6)


def cubin_graph(dtype: str, depth: int, causal: bool = True, time: int = 1024) -> Graph:
    arrays = draw(rng_of("cubin"), (1, 2, 2, 1, 1, depth, depth), dtype)
    arrays = [np.broadcast_to(a[:1, :1, :1], (2, time, 4, depth)) for a in arrays]
    return graph_of(arrays, False, False, causal=causal)


@pytest.fixture(autouse=True, scope="module")
def _own_triton_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.mark.parametrize(("dtype", "depth", "arch"), [("bfloat16", 64, 80), ("bfloat16", 128, 90), ("float32", 64, 90)])
def test_cubins(dtype: str, depth: int, arch: int, tmp_path: Path) -> None:
    """No spills; 16-bit products on tensor cores, float32 ones exact."""
    for form in routines(cubin_graph(dtype, depth)):
        cubin, meta = compile_source(attention_source(form), arch)
        assert usage(tmp_path, cubin)["STACK"] == 0, form.name
        assert meta.shared <= (163 if arch == 80 else 227) * 1024
        code = tool(tmp_path, cubin, "nvdisasm", "-c")
        on_tensor_cores = bool(re.search(r"\bHG?MMA", code))
        assert on_tensor_cores == (dtype == "bfloat16"), form.name


def test_free_sizes_are_arguments() -> None:
    (form, *_) = routines(cubin_graph("bfloat16", 64))
    batch, time = Dim.free("batch", 3), Dim.free("time", 100)
    free = replace(form, sizes=(batch, time, time, *form.sizes[3:]))
    source = attention_source(free, FlashSchedule(64, 64, 4, 2))
    assert [t for _, t in source.signature] == ["*bf16"] * 4 + ["i32"] * len(source.params)
    assert source.params and source.grid == 3 * 4 * 2
    assert compile_source(source, 90)[0][:4] == b"\x7fELF"
