"""A kernel as Triton source: the text, and what a launch must pass.

Launch: a one-dimensional grid of ``grid`` programs; arguments are the buffers' pointers in the order of ``Kernel.buffers``, then ``params`` as
scalars of their types, then, where ``checks``, a pointer to the call's error word (int64).
"""

from __future__ import annotations

from dataclasses import dataclass

from ....runtime.dim import key
from ....runtime.errors import InternalError
from ...kernel.attention import Attend
from ...kernel.ir import Kernel
from ...kernel.routine import Routine
from ...kernel.text import kernel_text
from ...schedule.triton import TritonSchedule, choose, inline_stages, match_dot
from . import mathlib
from .emitter import Emitter, identifier
from .scalars import POINTER


@dataclass(frozen=True)
class Source:
    """``signature``: argument name -> Triton type, in order. ``params``: values of the size arguments (free dimensions make them ``Dim``).
    ``limits``: sizes that must stay below 2**31 for this text to be right (else emit with ``narrow=False``). ``grid`` may be a ``Dim``."""

    name: str
    text: str
    signature: tuple[tuple[str, str], ...]
    buffers: tuple[str, ...]
    params: tuple[int, ...]
    limits: tuple[int, ...]
    grid: int
    checks: bool
    num_warps: int
    num_stages: int


def emit_source(kernel: Kernel | Routine, schedule: TritonSchedule | None = None, narrow: bool | None = None) -> Source:
    """Triton source of ``kernel``. ``schedule``: see ``schedule.triton.choose``. ``narrow``: index arithmetic in 32 bits (default: where sizes allow)."""
    from .attention import attention_source
    from .gemm import emit_dot
    from .generic import emit_generic
    from .routines import routine_source
    if isinstance(kernel, Attend):
        return attention_source(kernel)
    if isinstance(kernel, Routine):
        return routine_source(kernel)
    schedule = schedule or choose(kernel)
    flat = inline_stages(kernel)
    if narrow is None:
        narrow = all(_elements(b.shape) < 1 << 30 for b in kernel.buffers) and _elements(tuple(a.extent for a in kernel.axes)) < 1 << 30
    if schedule.form == "dot":
        form = match_dot(flat)
        if form is None:
            raise InternalError(f"{kernel.name}: a dot schedule for a kernel that tl.dot cannot compute")
        em, grid = emit_dot(flat, form, schedule, narrow)
    else:
        em, grid = emit_generic(flat, schedule, narrow)
    return _assemble(kernel, schedule, em, grid)


def _elements(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= int(d)  # the choice at the traced sizes; Source.limits guards the others
    return n


def _assemble(kernel: Kernel, schedule: TritonSchedule, em: Emitter, grid: int) -> Source:
    buffers = tuple(b.name for b in kernel.buffers)
    signature = [(identifier(b.name), POINTER[b.dtype]) for b in kernel.buffers]
    for k, (name, _) in em.params.items():
        signature.append((name, "i32" if k in em.limits else "i64"))
    if em.checks:
        signature.append(("error_ptr", "*i64"))
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in kernel.name) + "_kernel"  # "and", "range" are names of kernels too
    name = name if not name[0].isdigit() else f"k{name}"
    comment = "".join(f"# {line}\n" for line in kernel_text(kernel).splitlines() if len(line) < 400)
    body = "\n".join(f"    {line}" for line in em.levels[0].lines) or "    pass"
    text = (f"import triton\nimport triton.language as tl\n\n\n{mathlib.text(list(em.scalars.helpers))}{''.join(em.functions.values())}"
            f"{comment}@triton.jit\ndef {name}({', '.join(n for n, _ in signature)}):\n{body}\n")
    params = tuple(n for _, n in em.params.values())
    limits = tuple({key(n): n for n in em.limits.values()}.values())
    return Source(name, text, tuple(signature), buffers, params, limits, grid, em.checks, schedule.num_warps, schedule.num_stages)
