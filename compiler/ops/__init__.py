"""Every op of the graph IR, one class in one file, and the functions that make nodes of them (``ops.add(x, y)``)."""

from __future__ import annotations

from . import base
from .functional import *  # noqa: F403
from .functional import __all__ as _functions

__all__ = [*_functions, "op_classes"]


def op_classes() -> dict[str, type[base.Op]]:
    """Every concrete op by its name: the closed table that the generic test and the text form go by.

    A class is concrete when it states its ``kind`` itself.
    """
    out: dict[str, type[base.Op]] = {}
    pending = [base.Op]
    while pending:
        for c in pending.pop().__subclasses__():
            pending.append(c)
            if vars(c).get("kind") and c.__module__ != base.__name__ and c.__module__.startswith(__name__ + "."):
                out[c.__name__] = c
    return dict(sorted(out.items()))
