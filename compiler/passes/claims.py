"""Which composites a target computes whole. What it claims becomes a step of its own (``op.routine``); the rest is decomposed."""

from __future__ import annotations

from ..target import Target
from .decompose import Claims


def claims_of(target: Target) -> Claims:
    """Whether a composite node stays whole: the target names its class, and the op has a routine for these operands."""
    return lambda n: n.op.name in target.claims and n.op.has_routine(n)
