"""Machine code for routines: one file per family, one emitter per class, all with the kernels' ABI."""

from __future__ import annotations

from collections.abc import Callable

from .....runtime.errors import InternalError
from ....kernel.routine import Factor, Order, Prefix, Routine, TriangularSolve
from ....target import Target
from ..builder import Module
from ..loops import Emitted
from .factor import emit_factor
from .order import emit_order
from .prefix import emit_prefix
from .triangular import emit_triangular

# class -> function(lifted routine, target, module, symbol) -> Emitted
EMITTERS: dict[type[Routine], Callable[..., Emitted]] = {
    Factor: emit_factor, Order: emit_order, Prefix: emit_prefix, TriangularSolve: emit_triangular,
}


def emit_routine(routine: Routine, target: Target, module: Module, symbol: str) -> Emitted:
    """Adds the function ``symbol`` for a lifted routine to ``module``."""
    emitter = EMITTERS.get(type(routine))
    if emitter is None:
        raise InternalError(f"there is no machine code for the routine {type(routine).__name__}")
    return emitter(routine, target, module, symbol)
