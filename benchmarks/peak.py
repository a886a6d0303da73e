"""The FMA peak of one core, measured: a loop of independent fused multiply-adds on full vectors, nothing else.

What the kernels of a benchmark are compared with. It has to be measured in the same rounds as they are: clocks change with load
and heat.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from kerogen.compiler.codegen.llvm.builder import Builder, Module, Value, const, size_of, vector
from kerogen.compiler.target import Target
from kerogen.runtime import cpu


class Peak:
    """float32 multiply-adds at full rate. Calling it runs ``flops`` floating point operations."""

    def __init__(self, target: Target, rounds: int = 200_000) -> None:
        if not target.fma:
            raise ValueError(f"{target.name} has no fused multiply-add")
        # Two FMA units of latency 4 or 5 want at least 10 independent chains; half of the registers are enough and none spills.
        chains = max(10, target.registers // 2)
        lanes = target.lanes(4)
        self.flops = 2 * chains * lanes * rounds
        machine = cpu.named_machine(target.name)
        text = _source(chains, lanes, rounds, machine.triple)
        address = cpu.load(cpu.assemble(text, machine.cpu, machine.flags, 0, machine.triple), ["fma_peak"])["fma_peak"]
        self._out = (ctypes.c_float * lanes)()
        self._run: Callable = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)

    def __call__(self) -> None:
        self._run(ctypes.addressof(self._out))


def _source(chains: int, lanes: int, rounds: int, triple: str) -> str:
    type_ = vector("float", lanes)
    module = Module(triple)
    b = Builder(module, "fma_peak", [("ptr", "out")])
    # x -> x * 0.5 + 1 converges to 2: no denormals, no infinities. The factors come from memory, so that nothing is folded.
    factor, term = (_opaque(b, const(type_, x)) for x in (0.5, 1.0))
    start = [const(type_, i) for i in range(chains)]
    with b.loop(const("i64", 0), const("i64", rounds), state=start) as loop:
        loop.next([b.fma(s, factor, term) for s in loop.state])
    total = loop.results[0]
    for s in loop.results[1:]:
        total = b.fadd(total, s)
    b.store(total, b.arguments[0])
    b.ret()
    b.finish()
    return module.text()


def _opaque(b: Builder, x: Value) -> Value:
    """``x`` through a volatile slot."""
    slot = b.emit("ptr", f"alloca {x.type}, align {size_of(x.type)}")
    b.do(f"store volatile {x}, ptr {slot.text}, align {size_of(x.type)}")
    return b.emit(x.type, f"load volatile {x.type}, ptr {slot.text}, align {size_of(x.type)}")
