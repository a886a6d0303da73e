"""From kernels to object code: lifting, cache key, the form's emitter, assembling.

The key of an object is the text of the lifted kernel (names of kernels and free dimensions don't enter), the schedule, the target and the emitters' version;
objects are kept by it in memory and on disk, with the units and the scratch that the emitter settled on, so that a hit emits no text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ....runtime import cache, cpu
from ....runtime.dim import Dim, Poly, dim_max, dim_min, unguarded
from ...kernel.expr import Check, post_order
from ...kernel.ir import Kernel, stage_exprs
from ...kernel.routine import Routine
from ...kernel.text import kernel_text
from ...schedule.attention import AttentionSchedule
from ...schedule.contraction import DirectSchedule, GemmSchedule, LanewiseSchedule
from ...target import Target
from ...version import source_digest
from .attention import emit_attention
from .builder import Module
from .direct import emit_direct
from .gemm import emit_gemm
from .lanewise import emit_lanewise
from .lift import lift
from .loops import Emitted, emit_loops
from .routines import emit_routine

# Schedules that a template emits: type -> function(lifted kernel, schedule, target, module, symbol, error_param) -> Emitted.
TEMPLATES: dict[type, Callable[..., Emitted]] = {AttentionSchedule: emit_attention, GemmSchedule: emit_gemm, DirectSchedule: emit_direct,
                                               LanewiseSchedule: emit_lanewise}


@dataclass(frozen=True)
class Code:
    """A compiled kernel. ``image`` keys ``object`` (an ELF object that exports ``symbol``); ``params`` are the values a call passes, ``units`` and
    ``scratch`` (bytes) what ``runtime.plan.KernelCall`` wants; all may be Dims. ``text`` is the LLVM text, where this process emitted it."""

    image: str
    symbol: str
    object: bytes
    params: tuple[int, ...]
    units: int
    scratch: int
    text: str = ""
    fresh: bool = False  # whether this call compiled it


@dataclass(frozen=True)
class _Entry:
    object: bytes
    units: int
    scratch: int
    text: str


_memory: dict[str, _Entry] = {}


def compile_kernel(kernel: Kernel | Routine, schedule: object | None, target: Target, error: int = 0) -> Code:
    """Machine code for ``kernel``; ``schedule`` None is the general emitter's own choice. ``error`` is added to the codes of the kernel's error sites."""
    with unguarded():
        lifted, params = kernel.lifted() if isinstance(kernel, Routine) else lift(kernel)
        checks = any(isinstance(e, Check) for st in kernel.stages for e in post_order(stage_exprs(st)))
        error_param = len(params) if checks else None
        key = kernel_key(lifted, schedule, target)
        symbol = f"k{key[:24]}"
        entry = _memory.get(key) or _cached(key)
        fresh = entry is None
        if entry is None:
            entry = _make(key, lifted, symbol, schedule, target, error_param)
        _memory[key] = entry
        return Code(key, symbol, entry.object, (*params, error) if checks else params, _resolve(entry.units, params), _resolve(entry.scratch, params),
                    entry.text, fresh)


def emit_call(call: Any, target: Target, error: int = 0) -> Code:
    """``compile_kernel`` for a ``program.Call``."""
    return compile_kernel(call.kernel, call.schedule, target, error)


def kernel_key(lifted: Kernel | Routine, schedule: object | None, target: Target) -> str:
    """The cache key of a lifted kernel's object code."""
    with unguarded():
        text = lifted.text if isinstance(lifted, Routine) else kernel_text(replace(lifted, name="k"))
        machine = machine_of(target)
        parts = (text, repr(schedule), machine.text, machine.flags, cpu.llvm_version(), source_digest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def machine_of(target: Target) -> cpu.Machine:
    """LLVM's view of a target."""
    return cpu.named_machine(target.name)


def assembly(text: str, target: Target) -> str:
    """The assembly of LLVM text."""
    machine = machine_of(target)
    return cpu.disassemble(text, machine.cpu, machine.flags)


def emit_text(lifted: Kernel | Routine, symbol: str, schedule: object | None, target: Target,
              error_param: int | None = None) -> tuple[str, Emitted]:
    """(LLVM text, what the emitter settled on) of a lifted kernel."""
    with unguarded():
        module = Module()
        template = TEMPLATES.get(type(schedule))
        if template is not None:
            emitted = template(lifted, schedule, target, module, symbol, error_param)
        elif isinstance(lifted, Routine):
            emitted = emit_routine(lifted, target, module, symbol)
        else:
            emitted = emit_loops(lifted, target, module, symbol, error_param)
        return module.text(), emitted


def _make(key: str, lifted: Kernel | Routine, symbol: str, schedule: object | None, target: Target, error_param: int | None) -> _Entry:
    text, emitted = emit_text(lifted, symbol, schedule, target, error_param)
    machine = machine_of(target)
    image = cpu.assemble(text, machine.cpu, machine.flags, 0, machine.triple)
    head = json.dumps([_plain(emitted.units), _plain(emitted.scratch)]).encode()
    cache.put("kernel", key, len(head).to_bytes(4, "little") + head + image)
    return _Entry(image, emitted.units, emitted.scratch, text)


def _cached(key: str) -> _Entry | None:
    data = cache.get("kernel", key)
    if data is None:
        return None
    n = int.from_bytes(data[:4], "little")
    units, scratch = (_sized(x) for x in json.loads(data[4: 4 + n]))
    return _Entry(data[4 + n:], units, scratch, "")


def _plain(n: int) -> Any:
    return n.expr if type(n) is Dim else int(n)


def _sized(x: Any) -> int:
    def tuples(v: Any) -> Any:
        return tuple([tuples(i) for i in v]) if isinstance(v, list) else v
    return x if isinstance(x, int) else Dim(1 << 40, tuples(x))


def _resolve(n: int, params: Sequence[int]) -> int:
    """A size over the lifted parameters as a size over the caller's free dimensions."""
    return _value(n.expr, params) if type(n) is Dim else n


def _value(expr: Poly, params: Sequence[int]) -> int:
    total: int = 0
    for monomial, coefficient in expr:
        term: int = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                term = term * params[int(atom[1:])]
                continue
            x, y = _value(atom[1], params), _value(atom[2], params)
            term = term * {"//": lambda x=x, y=y: x // y, "%": lambda x=x, y=y: x % y, "max": lambda x=x, y=y: dim_max(x, y),
                           "min": lambda x=x, y=y: dim_min(x, y)}[atom[0]]()
        total = total + term
    return total
