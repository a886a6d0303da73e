"""Hand-built kernels as Triton source, run in Triton's interpreter (addresses and races checked), against the kernel interpreter."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from kerogen.compiler.codegen.triton.interpreter import interpret, shared
from kerogen.compiler.codegen.triton.source import emit_source
from kerogen.compiler.kernel import scalar_ops as s
from kerogen.compiler.kernel.expr import Axis, Const, Load, Ref, op
from kerogen.compiler.kernel.interp import run_kernel
from kerogen.compiler.kernel.ir import Buffer, Contract, Kernel, Reduce, Store
from kerogen.compiler.kernel.monoid import MAX, SUM
from kerogen.compiler.schedule.triton import TritonSchedule, choose
from kerogen.runtime.dim import Dim
from kerogen.runtime.dtype import float32
from kerogen.runtime.errors import IndexRangeError, InternalError
from tests.codegen.triton.kernels import CASES, arrays, gather_kernel, gemm_kernel, softmax_kernel
from tests.compare import assert_close
from tests.oracle import oracle

oracle("triton")


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def compare(kernel: Kernel, given: dict[str, np.ndarray], schedule: TritonSchedule | None = None, tolerance: float = 1e-5) -> None:
    expected = {k: a.copy() for k, a in given.items()}
    run_kernel(kernel, expected)
    got = interpret([(kernel, {k: k for k in given})], given, [schedule])
    assert set(got) == {b.name for b in kernel.writes}
    for name, a in got.items():
        assert_close(a, expected[name], 1e-2 if a.dtype.kind == "V" or a.dtype.itemsize == 2 else tolerance, what=f"{kernel.name}.{name}")


FORMS = {"gemm": "dot", "gemm_bfloat16": "dot", "batched_gemm": "dot", "conv": "dot", "conv_input_grad": "dot", "conv_weight_grad": "dot"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_kernel(name: str) -> None:
    kernel, given = CASES[name](rng_of(name))
    assert choose(kernel).form == FORMS.get(name, "generic")
    compare(kernel, given)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("schedule", [TritonSchedule("generic", 1), TritonSchedule("generic", 128, 16), TritonSchedule("generic", 32, 128)], ids=str)
def test_any_schedule_gives_the_same(name: str, schedule: TritonSchedule) -> None:
    """Serial, blocked and whole-row loops; contractions in the generic form too."""
    kernel, given = CASES[name](rng_of(name))
    if schedule.rows * schedule.columns < 8:
        small = {"softmax": softmax_kernel(3, 17), "gemm": gemm_kernel(5, 7, 3)}.get(name)
        if small is None:
            return  # one point a program: two kernels show that the tile may have a single element
        kernel, given = arrays(rng_of(name), small)
    elif kernel.name == "softmax" and "softmax_long" == name:
        kernel, given = arrays(rng_of(name), softmax_kernel(3, 1003))
    compare(kernel, given, schedule)


@pytest.mark.parametrize("schedule", [TritonSchedule("dot", 16, 64, 16), TritonSchedule("dot", 64, 16, 64, group=2)], ids=str)
@pytest.mark.parametrize("name", sorted(FORMS))
def test_dot_tiles(name: str, schedule: TritonSchedule) -> None:
    kernel, given = CASES[name](rng_of(name))
    compare(kernel, given, schedule)


def test_two_contractions_share_a_tile() -> None:
    """A gate: silu-like product of two GEMMs over different depths."""
    i, j, t, u = Axis("i", 45), Axis("j", 37), Axis("t", 50), Axis("u", 20)
    x, y = Buffer("x", (45, 50), float32), Buffer("y", (45, 20), float32)
    a, b, out = Buffer("a", (50, 37), float32), Buffer("b", (20, 37), float32), Buffer("out", (45, 37), float32)
    v = op(s.mul, op(s.sigmoid, Ref("p", (), float32)), Ref("q", (), float32))
    kernel = Kernel("gate", (x, y, a, b, out), 1, (i, j), (
        Contract("p", (), (t,), Load(x, (i, t)), Load(a, (t, j)), float32),
        Contract("q", (), (u,), Load(y, (i, u)), Load(b, (u, j)), float32), Store(out, (), (i, j), v)))
    assert choose(kernel).form == "dot"
    compare(*arrays(rng_of("gate"), kernel))


@pytest.mark.parametrize("rows, columns", [(0, 5), (4, 0), (1, 1), (1, 300), (257, 1)])
def test_small_and_empty(rows: int, columns: int) -> None:
    compare(*arrays(rng_of("small"), softmax_kernel(rows, columns)))
    i, j = Axis("i", rows), Axis("j", columns)
    x, y = Buffer("x", (rows, columns), float32), Buffer("y", (rows,), float32)
    kernel = Kernel("sum", (x, y), 1, (i,), (Reduce("r", (), (j,), SUM, (Load(x, (i, j)),)), Store(y, (), (i,), Ref("r", (), float32))))
    compare(*arrays(rng_of("sum"), kernel))


def test_wide_indices() -> None:
    """The text with 64-bit indices computes the same."""
    for name in ("softmax", "conv", "gather", "scatter_add", "max_pool"):
        kernel, given = CASES[name](rng_of(name))
        expected = {k: a.copy() for k, a in given.items()}
        run_kernel(kernel, expected)
        source = emit_source(kernel, narrow=False)
        assert ".to(tl.int64)" in source.text
        written = [b.name for b in kernel.writes]
        got = shared().run([(source, kernel.outputs, [b.name for b in kernel.buffers])], given, written)
        for n in written:
            assert_close(got[n], expected[n], 1e-5, what=f"{name}.{n}")


def _free_row_kernel(rows: int, columns: int) -> Kernel:
    i, j = Axis("i", rows), Axis("j", columns)
    x, y = Buffer("x", (rows, columns), float32), Buffer("y", (rows, columns), float32)
    top = Ref("m", (), float32)
    return Kernel("free", (x, y), 1, (i,), (Reduce("m", (), (j,), MAX, (Load(x, (i, j)),)), Store(y, (j,), (i, j), op(s.sub, Load(x, (i, j)), top))))


def test_free_sizes_are_arguments() -> None:
    """One text serves every batch size and row length; sizes are numbers of the call."""
    source = emit_source(_free_row_kernel(Dim.free("batch", 3), Dim.free("time", 4)))
    assert [t for _, t in source.signature] == ["*fp32", "*fp32", "i32", "i32"]
    same = emit_source(_free_row_kernel(Dim.free("batch", 5000), Dim.free("time", 7)))
    assert same.text == source.text and same.num_warps == source.num_warps
    for batch, time in [(3, 4), (17, 211), (130, 1)]:
        x = rng_of(f"{batch}").standard_normal((batch, time)).astype(np.float32)
        got = shared().run([(source, 1, ["x", "y"])], {"x": x, "y": np.zeros_like(x)}, ["y"], {"batch": batch, "time": time})
        assert_close(got["y"], x - x.max(1, keepdims=True), 1e-6)


def test_free_batch_gemm() -> None:
    source = emit_source(gemm_kernel(Dim.free("batch", 33), 45, 70))
    for batch in (1, 33, 200):
        given = arrays(rng_of("b"), gemm_kernel(batch, 45, 70))[1]
        expected = {k: a.copy() for k, a in given.items()}
        run_kernel(gemm_kernel(batch, 45, 70), expected)
        got = shared().run([(source, 1, list(given))], given, ["out"], {"batch": batch})
        assert_close(got["out"], expected["out"], 1e-5)


def test_index_out_of_range_is_reported() -> None:
    kernel, given = arrays(rng_of("gather"), gather_kernel(), ids=np.arange(50) % 41)
    compare(kernel, given)
    for wrong in (41, -1, 2**40):
        given["ids"][17] = wrong
        with pytest.raises(IndexRangeError, match="site 3"):
            interpret([(kernel, {k: k for k in given})], given)


def test_program_of_calls() -> None:
    """Calls in order over shared arrays, one of them in place."""
    first, given = CASES["softmax"](rng_of("softmax"))
    x = given["x"]
    second = Kernel("twice", (Buffer("a", x.shape, float32), Buffer("b", x.shape, float32)), 1, (Axis("i", x.shape[0]), Axis("j", x.shape[1])), (
        Store(Buffer("b", x.shape, float32), (), (Axis("i", x.shape[0]), Axis("j", x.shape[1])),
              op(s.mul, Load(Buffer("a", x.shape, float32), (Axis("i", x.shape[0]), Axis("j", x.shape[1]))), Const(2.0, float32))),))
    got = interpret([(first, {"x": "x", "y": "p"}), (second, {"a": "p", "b": "p"})], {"x": x, "p": np.zeros_like(x)})
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    assert_close(got["p"], (2 * e / e.sum(1, keepdims=True)).astype(np.float32), 1e-6)


# The checks of the interpreter are worth what they catch: break the text, see each of them speak.


def broken(name: str, old: str, new: str) -> None:
    kernel, given = CASES[name](rng_of(name))
    source = emit_source(kernel)
    assert old in source.text, source.text
    bad = replace(source, text=source.text.replace(old, new))
    shared().run([(bad, kernel.outputs, [b.name for b in kernel.buffers])], given, [b.name for b in kernel.writes])


def test_a_dropped_mask_is_caught() -> None:
    with pytest.raises(InternalError, match=r"load of 4 bytes at .*\(.* has \d+ bytes\)"):
        broken("gemm", "mask=m_in & ka0_in", "mask=ka0_in")
    with pytest.raises(InternalError, match="store of 4 bytes"):
        broken("conv_input_grad", "mask=m_in & n_in)", "mask=n_in)")


def test_a_wrong_stride_is_caught() -> None:
    with pytest.raises(InternalError, match=r"\bbytes\)|race"):
        broken("softmax", "y_ptr + (p * 77)", "y_ptr + (p * 76)")
    with pytest.raises(InternalError, match="store of 4 bytes|race"):
        broken("softmax", "y_ptr + (p * 77)", "y_ptr + (p * 78)")


def test_two_programs_storing_to_one_element_are_caught() -> None:
    with pytest.raises(InternalError, match="race: program 1's store"):
        broken("column_sum", "y_ptr + p", "y_ptr + p % 64")
