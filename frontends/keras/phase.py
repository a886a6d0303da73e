"""Whether layers compute for training or for inference: told by the outermost call to those inside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

# ``training`` of the outermost call, for layers inside that aren't told.
_TRAINING: ContextVar[tuple[Any] | None] = ContextVar("kerogen_training", default=None)


@contextlib.contextmanager
def training_phase(training: Any) -> Iterator[None]:
    """Layers called inside compute for training (True), inference (False) or by their own default (None)."""
    token = _TRAINING.set((training,))
    try:
        yield
    finally:
        _TRAINING.reset(token)


def current_training() -> Any:
    context = _TRAINING.get()
    return None if context is None else context[0]
