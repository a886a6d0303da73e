"""Triton source of routines, one file per family. Rows, or matrices, are lanes of a program wherever they are independent."""

from __future__ import annotations

from collections.abc import Callable

from .....runtime.errors import UnsupportedOpError
from ....kernel.routine import Factor, Order, Prefix, Routine, TriangularSolve
from ..source import Source
from .factor import factor_body, triangular_body
from .order import order_body
from .prefix import prefix_body
from .text import assemble

# class -> function(routine, names of its buffers) giving (lines of the body, number of programs)
_BODIES: dict[type[Routine], Callable[..., tuple[list[str], int]]] = {
    Factor: factor_body, Order: order_body, Prefix: prefix_body, TriangularSolve: triangular_body,
}


def routine_source(routine: Routine) -> Source:
    """The source of ``routine``; UnsupportedOpError for one that has no Triton form."""
    body = _BODIES.get(type(routine))
    if body is None:
        raise UnsupportedOpError(f"{routine.name} ({type(routine).__name__}) has no Triton form")
    return assemble(routine, *body(routine))
