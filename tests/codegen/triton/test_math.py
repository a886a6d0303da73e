"""Functions of floats as Triton text in Triton's interpreter: the bounds of ``codegen.accuracy`` over the whole range."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler.codegen.accuracy import ACCURACY
from kerogen.compiler.codegen.triton.interpreter import interpret
from kerogen.compiler.kernel.expr import Axis, Load, op
from kerogen.compiler.kernel.ir import Buffer, Kernel, Store
from kerogen.compiler.kernel.scalar_ops import SCALAR_OPS
from kerogen.runtime.dtype import as_dtype
from tests.codegen.reference import TWO, beside, case, pairs
from tests.codegen.ulp import ulps
from tests.oracle import oracle

oracle("triton")


def run(name: str, *operands: np.ndarray) -> np.ndarray:
    dtype, n = as_dtype(operands[0].dtype), len(operands[0])
    i = Axis("i", n)
    reads = tuple(Buffer(f"a{k}", (n,), dtype) for k in range(len(operands)))
    out = Buffer("out", (n,), dtype)
    kernel = Kernel(
        "function", (*reads, out), 1, (i,), (Store(out, (), (i,), op(SCALAR_OPS[name], *[Load(b, (i,)) for b in reads])),)
    )
    memory = {**{b.name: a for b, a in zip(reads, operands)}, "out": np.zeros(n, dtype.np)}
    return interpret([(kernel, {k: k for k in memory})], memory)["out"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACCURACY)
def test_function(name: str, dtype: type[np.floating]) -> None:
    *given, want = pairs(name, dtype) if name in TWO else case(name, dtype)
    got = run(name, *given)
    d = ulps(got, want, dtype, beside(name, given[0], want))
    worst = int(np.argmax(d))
    arguments = ", ".join(repr(a[worst]) for a in given)
    bound = ACCURACY[name].triton[0 if dtype == np.float32 else 1]
    assert d[worst] <= bound, f"{name}({arguments}) = {got[worst]!r}, expected {want[worst]!r}: {d[worst]:.2f} ulp"
