"""Dropout inside recurrent cells: masks that are the same at every step."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import ops, random
from ..trace import current_scope


def rate(layer: str, name: str, value: Any) -> float:
    """A dropout rate, moved into [0, 1] as Keras does."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentError(f"{layer}: {name} must be a number from 0 to 1, got {value!r}")
    return min(1.0, max(0.0, value))


class DropoutRNNCell:
    """Beside ``Layer``, for cells with ``dropout``, ``recurrent_dropout`` and ``seed_generator``.

    A mask has the shape of a step's input (or state), zeros at the rate and 1 / (1 - rate) elsewhere. It is drawn once and used at all steps of a call;
    with ``dropout_mask_count`` there is a list of that many. Outside a ``RNN`` layer the masks last as long as one traced call of the outermost model.
    """

    dropout: float
    recurrent_dropout: float
    seed_generator: random.SeedGenerator
    dropout_mask_count: int | None = None

    def get_dropout_mask(self, step_input: Any) -> Any:
        """The mask (or list of masks) for inputs; None without dropout."""
        return self._kept("dropout", step_input, self.dropout)

    def get_recurrent_dropout_mask(self, step_input: Any) -> Any:
        """The mask (or list of masks) for states; None without dropout."""
        return self._kept("recurrent_dropout", step_input, self.recurrent_dropout)

    def reset_dropout_mask(self) -> None:
        self._forget("dropout")

    def reset_recurrent_dropout_mask(self) -> None:
        self._forget("recurrent_dropout")

    def _kept(self, which: str, like: Any, rate: float) -> Any:
        if rate <= 0:
            return None
        scope = current_scope()
        found = None if scope is None else scope.kept.get((id(self), which))
        if found is None:
            ones = ops.ones_like(like)
            draws = [random.dropout(ones, rate, seed=self.seed_generator) for _ in range(self.dropout_mask_count or 1)]
            found = draws if self.dropout_mask_count else draws[0]
            if scope is not None:
                scope.kept[id(self), which] = found
        return found

    def _forget(self, which: str) -> None:
        scope = current_scope()
        if scope is not None:
            scope.kept.pop((id(self), which), None)
