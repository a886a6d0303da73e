"""Kernels to cubins for sm_80 and sm_90, without a GPU; what the machine code shows of their quality."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from kerogen.compiler.codegen.triton.compile import compile_cubin, compile_source
from kerogen.compiler.codegen.triton.source import emit_source
from kerogen.compiler.kernel.expr import Axis, Cast, Load, op
from kerogen.compiler.kernel.ir import Buffer, Kernel, Store
from kerogen.compiler.kernel.scalar_ops import SCALAR_OPS
from kerogen.runtime import dtype as d
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import bfloat16
from kerogen.runtime.errors import ArgumentError
from tests.codegen.triton.kernels import CASES, gemm_kernel, softmax_kernel
from tests.codegen.triton.test_scalars import _supported
from tests.oracle import oracle

triton = oracle("triton")
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@pytest.fixture(autouse=True, scope="module")
def _own_triton_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def tool(tmp_path: Path, cubin: bytes, name: str, *args: str) -> str:
    path = tmp_path / "kernel.cubin"
    path.write_bytes(cubin)
    return subprocess.run([str(TOOLS / name), *args, str(path)], capture_output=True, text=True, check=True).stdout


def usage(tmp_path: Path, cubin: bytes) -> dict[str, int]:
    """Registers, stack (spills) and shared memory of the kernel."""
    return {k: int(v) for k, v in re.findall(r"\b(REG|STACK|SHARED):(\d+)", tool(tmp_path, cubin, "cuobjdump", "-res-usage"))}


@pytest.mark.parametrize("arch", [80, 90])
@pytest.mark.parametrize("name", sorted(CASES))
def test_cubin(name: str, arch: int, tmp_path: Path) -> None:
    kernel, _ = CASES[name](np.random.default_rng(zlib.crc32(name.encode())))
    cubin, meta = compile_cubin(kernel, arch=arch)
    assert cubin[:4] == b"\x7fELF" and f"sm_{arch}" in tool(tmp_path, cubin, "cuobjdump", "-elf")
    assert [n for n, _ in meta.signature][: len(kernel.buffers)] == [f"{b.name}_ptr" for b in kernel.buffers]
    used = usage(tmp_path, cubin)
    assert used["STACK"] == 0, used


@pytest.mark.parametrize("arch, instruction", [(80, r"\bHMMA\.16816\.F32\.BF16"), (90, r"\bHGMMA\.64x\d+x16\.F32\.BF16")])
def test_bfloat16_runs_on_tensor_cores(arch: int, instruction: str, tmp_path: Path) -> None:
    """The odd sizes are padded by masks, and operands are copied asynchronously in 16-byte pieces where the sizes allow."""
    cubin, meta = compile_cubin(gemm_kernel(1000, 4096, 1024, bfloat16), arch=arch)
    code = tool(tmp_path, cubin, "nvdisasm", "-c")
    assert re.search(instruction, code)
    assert re.search(r"LDGSTS\.E\.BYPASS(\.LTC128B)?\.128|UTMALDG", code)
    assert usage(tmp_path, cubin)["STACK"] == 0 and 0 < meta.shared <= (163 if arch == 80 else 227) * 1024


def test_float32_contractions_stay_exact(tmp_path: Path) -> None:
    """"highest" is IEEE float32 on a GPU: no tensor core rounds an operand. "tf32" may."""
    exact = tool(tmp_path, compile_cubin(gemm_kernel(512, 512, 512))[0], "nvdisasm", "-c")
    assert "FFMA" in exact and not re.search(r"\bH?GMMA|\bHMMA", exact)
    fast = tool(tmp_path, compile_cubin(gemm_kernel(512, 512, 512, precision="tf32"))[0], "nvdisasm", "-c")
    assert re.search(r"\bHG?MMA\.\w+\.F32\.TF32", fast)


def test_rows_are_loaded_in_wide_pieces(tmp_path: Path) -> None:
    code = tool(tmp_path, compile_cubin(softmax_kernel(4096, 1024))[0], "nvdisasm", "-c")
    assert re.search(r"LDG\.E\.128", code) and re.search(r"STG\.E\.128", code)


def test_free_sizes_compile(tmp_path: Path) -> None:
    source = emit_source(gemm_kernel(Dim.free("batch", 77), 128, 64, bfloat16))
    cubin, meta = compile_source(source, 90)
    assert "i32" in [t for _, t in meta.signature] and usage(tmp_path, cubin)["STACK"] == 0


@pytest.mark.parametrize("dtype", d.ALL, ids=str)
def test_every_operation_and_cast_compiles(dtype: d.DType) -> None:
    """All operations of a type in one kernel: they pass Triton's type checks, not only its interpreter's."""
    i = Axis("i", 1000)
    a, b = Buffer("a", (1000,), dtype), Buffer("b", (1000,), dtype)
    stores, outs = [], []

    def result(expr, name: str) -> None:
        outs.append(Buffer(f"o_{name}", (1000,), expr.dtype))
        stores.append(Store(outs[-1], (), (i,), expr))

    for fn in SCALAR_OPS.values():
        if _supported(fn, dtype):
            result(op(fn, *[Load(x, (i,)) for x in (a, b)[: fn.arity]]), fn.name)
    for target in d.ALL:
        result(Cast(Load(a, (i,)), target), f"as_{target}")
    for k in range(0, len(stores), 24):
        part = Kernel(f"all_{k}", (a, b, *outs[k: k + 24]), len(outs[k: k + 24]), (i,), tuple(stores[k: k + 24]))
        assert compile_cubin(part, arch=80)[0][:4] == b"\x7fELF"


def test_cache_is_by_content(tmp_path: Path) -> None:
    from kerogen.runtime.cache import Cache
    cache = Cache(str(tmp_path), 1 << 24)
    kernel = softmax_kernel(7, 45)
    first = compile_cubin(kernel, arch=80, cache=cache)
    assert cache.misses == 1
    assert compile_cubin(kernel, arch=80, cache=cache) == first and cache.hits == 1
    assert compile_cubin(kernel, arch=90, cache=cache)[0] != first[0] and cache.misses == 2


def test_unknown_architecture() -> None:
    with pytest.raises(ArgumentError, match="sm_70 is not a GPU that kerogen compiles for"):
        compile_cubin(softmax_kernel(3, 5), arch=70)


def test_without_triton_the_error_says_what_to_install() -> None:
    code = """
import sys
sys.modules["triton"] = None
from kerogen.compiler.codegen.triton.compile import require_triton
try:
    require_triton()
except Exception as e:
    print(type(e).__name__, e)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]).stdout
    assert out.startswith("UnsupportedPlatformError") and "pip install kerogen[gpu]" in out


