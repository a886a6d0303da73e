"""Types that are only stored (float8, float4, int4, int2): moved as they are, refused by arithmetic. ``Cast``'s samples
convert them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import compile_graph, program_of
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import STORAGE, DType, as_dtype, float32, float64, int8, int32, promote, uint8
from kerogen.runtime.errors import DTypeError
from kerogen.runtime.executable import Executable

from ..oracle import oracle


def codes(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 1 << dtype.bits, shape, np.uint8).view(dtype.np)


def moved(x, y):
    """Movements, a padding that is not 0, a constant, a choice and a gather; results are bytes of the operands."""
    one = o.full((2, 3), 1, x.dtype)
    z = o.concat([o.transpose(x, (1, 0)), o.pad(y, [(1, 0), (0, 0)], value=1)], 0)
    z = o.concat([o.flip(z, 0), one], 0)
    return o.take(
        o.where(np.arange(z.shape[0])[:, None] % 3 == 0, z, o.slice_(z, (0, 0), z.shape)), np.array([5, 0, 2, 7, 1, 3]), 0
    )


def by_hand(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    one = np.ones((), np.float32).astype(x.dtype).view(np.uint8)
    x, y = x.view(np.uint8), y.view(np.uint8)
    z = np.concatenate([x.T, np.pad(y, [(1, 0), (0, 0)], constant_values=one)])
    z = np.concatenate([z[::-1], np.full((2, 3), one)])
    return z[[5, 0, 2, 7, 1, 3]]


def graph(dtype: DType) -> Graph:
    x, y = leaf("x", TensorType((3, 4), dtype)), leaf("y", TensorType((2, 3), dtype))
    return Graph((x, y), (moved(x, y),))


@pytest.mark.parametrize("target", ["native", "x86-64-v3", "x86-64-v2"])
@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_movements_keep_every_bit(dtype: DType, target: str, rng) -> None:
    x, y = codes(dtype, (3, 4), rng), codes(dtype, (2, 3), rng)
    got = Executable(plans=[compile_graph(graph(dtype), target=Target.named(target))])(x, y)
    assert got.dtype == dtype.np
    assert np.array_equal(got.view(np.uint8), by_hand(x, y))


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_movements_in_triton(dtype: DType, rng) -> None:
    oracle("triton")
    from kerogen.compiler.codegen.triton.interpreter import interpret

    arrays = codes(dtype, (3, 4), rng), codes(dtype, (2, 3), rng)
    program = program_of(graph(dtype), dataclasses.replace(Target.host(), arch="cuda"))
    names: dict = {}
    memory: dict[str, np.ndarray] = {}

    def place(value, array=None) -> str:
        if value not in names:
            names[value] = f"v{len(names)}"
            memory[names[value]] = np.zeros(tuple(value.shape), value.dtype.np) if array is None else np.asarray(array)
        return names[value]

    for v, a in (*zip(program.inputs, arrays), *program.constants):
        place(v, a)
    calls = [(c.kernel, {b.name: place(v) for b, v in zip(c.kernel.buffers, c.values)}) for c in (*program.setup, *program.calls)]
    done = interpret(calls, memory)
    assert np.array_equal(done[place(program.outputs[0])].view(np.uint8), by_hand(*arrays))


@pytest.mark.parametrize("dtype", STORAGE, ids=str)
def test_arithmetic_is_refused(dtype: DType) -> None:
    x = leaf("x", TensorType((3,), dtype))
    for compute in (
        lambda: o.add(x, x),
        lambda: o.neg(x),
        lambda: o.sum_(x),
        lambda: o.matmul(o.reshape(x, (1, 3)), x),
        lambda: o.lt(x, x),
    ):
        with pytest.raises(
            DTypeError, match=rf"\w+ doesn't compute in {dtype}, which is only a way to store numbers; cast it first"
        ):
            compute()


def test_beside_another_type_they_count_as_the_nearest_that_computes() -> None:
    f8, f8b, i4, u4 = map(as_dtype, ("float8_e4m3fn", "float8_e5m2", "int4", "uint4"))
    assert promote(f8, float64) is float64 and promote(f8, f8b) is float32 and promote(f8, int32) is float32
    assert (
        promote(i4, int32) is int32
        and promote(i4, int8) is int8
        and promote(u4, uint8) is uint8
        and promote(i4, u4).name == "int16"
    )
    assert promote(i4, as_dtype("float16")).name == "float16" and promote(i4, i4) is i4
    assert (i4.min, i4.max, u4.max, i4.bits, f8.bits, f8.itemsize) == (-8, 7, 15, 4, 8, 1)


def test_dequantised_weights(rng) -> None:
    """int4 codes times a scale, cast inside the kernel that reads them."""
    q, scale = codes(as_dtype("int4"), (33, 5), rng), rng.random((1, 5), np.float32)
    a, b = leaf("q", TensorType((33, 5), as_dtype("int4"))), leaf("scale", TensorType((1, 5), float32))
    program = Graph((a, b), (o.mul(o.cast(a, float32), b),))
    assert np.array_equal(Executable(plans=[compile_graph(program)])(q, scale), q.astype(np.float32) * scale)
    assert len(program_of(program, Target.host()).calls) == 1
