"""Every routine's Triton source compiles to a cubin (the interpreter takes more than the compiler does)."""

from __future__ import annotations

import pytest

from kerogen.compiler.codegen.triton.routines import routine_source
from kerogen.compiler.kernel.ir import Buffer
from kerogen.compiler.kernel.routine import Factor, Order, Prefix, Routine, TriangularSolve
from kerogen.runtime.dtype import as_dtype, int32
from kerogen.runtime.errors import UnsupportedOpError

from ...oracle import oracle

SIZES = (3, 5, 7)


def arrays(dtype: str, reads: int, shape=SIZES) -> tuple[Buffer, ...]:
    return tuple(Buffer(n, shape, as_dtype(dtype)) for n in (*[f"in{i}" for i in range(reads)], "out0"))


def order(dtype: str, descending: bool) -> Order:
    return Order("argsort", (Buffer("in0", SIZES, as_dtype(dtype)), Buffer("out0", SIZES, int32)), 1, (*SIZES, 5), descending)


SQUARE = (3, 4, 4)
ROUTINES: list[Routine] = [
    *[Prefix("fold", arrays(t, 1), 1, SIZES, fold, i % 2 == 0, i % 3 == 0)
      for i, (fold, t) in enumerate([("sum", "float32"), ("sum", "int8"), ("prod", "float64"), ("max", "bfloat16"), ("min", "uint64"), ("logsumexp", "float64"),
                                     ("logsumexp", "float16")])],
    Prefix("fold", arrays("float32", 2), 1, SIZES, "affine"),
    *[order(t, d) for t, d in [("float32", False), ("bfloat16", True), ("int64", True), ("uint8", False), ("bool", True)]],
    Factor("cholesky", arrays("float32", 1, SQUARE), 1, (3, 4), "cholesky"),
    Factor("lu", (*arrays("float64", 1, SQUARE), Buffer("out1", (3, 4), int32), Buffer("out2", (3, 4), int32)), 3, (3, 4), "lu"),
    *[TriangularSolve("solve", arrays("float32", 2, SQUARE), 1, (3, 4, 4), low, low, not low) for low in (False, True)],
]


@pytest.mark.parametrize("routine", ROUTINES, ids=[f"{i}-{type(r).__name__}" for i, r in enumerate(ROUTINES)])
def test_compiles(routine: Routine) -> None:
    oracle("triton")
    from kerogen.compiler.codegen.triton.compile import compile_source

    cubin = compile_source(routine_source(routine), 90)
    assert (cubin[0] if isinstance(cubin, tuple) else cubin)[:4] == b"\x7fELF"


def test_a_routine_without_a_form_is_a_typed_error() -> None:
    class Other(Routine):
        pass

    with pytest.raises(UnsupportedOpError, match=r"tree \(Other\) has no Triton form"):
        routine_source(Other("tree", (), 0, ()))
