"""The public verbs: ``compile`` takes anything and returns an ``Executable``; ``grad`` and ``value_and_grad`` differentiate functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from .runtime.errors import ArgumentError, ModelFormatError, StateError

PRECISIONS = ("highest", "high", "tf32", "bfloat16")


@dataclass(frozen=True)
class Options:
    """How to compile. ``precision``: "highest" is float32 accuracy, the default; "high", "tf32" (GPU) and "bfloat16" give accuracy for speed.
    ``threads``: None uses the cores this process may run on."""

    precision: str = "highest"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"precision={self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.threads is not None and (not isinstance(self.threads, int) or self.threads < 1):
            raise ArgumentError(f"threads={self.threads!r} must be a positive int, or None for all cores")

    @staticmethod
    def of(x: Options | Mapping[str, Any] | None) -> Options:
        """Options from a dict; an unknown name is an error that lists the known ones."""
        if x is None:
            return Options()
        if isinstance(x, Options):
            return x
        known = {f.name for f in fields(Options)}
        unknown = set(x) - known
        if unknown:
            raise ArgumentError(f"unknown option {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
        return replace(Options(), **x)


_ = (os, Callable, Sequence, Path, ModelFormatError, StateError)
