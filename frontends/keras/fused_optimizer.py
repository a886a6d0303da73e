"""Optimizers whose update is a function of values: gradient, variable and slots in, next slots and variable out. Traced, it is one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .optimizer import Optimizer
from .variable import Variable


class FusedOptimizer(Optimizer):
    """Subclasses name their slots (``_slot_names``) and give the next values (``new``)."""

    def _slot_names(self) -> Sequence[tuple[tuple[str, ...], Any]]:
        """Groups of (names, initializer): the slots of one group are interleaved per variable, groups follow each other."""
        return ()

    def build(self, variables: Sequence[Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._slots: list[list[Variable]] = [[] for _ in variables]
        for names, initializer in self._slot_names():
            for column in self.add_optimizer_variables(variables, list(names), initializer):
                for mine, v in zip(self._slots, column):
                    mine.append(v)

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        from . import ops

        slots = self._slots[self._get_variable_index(variable)]
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        *state, value = self.new(rate, gradient, ops.convert_to_tensor(variable), *[ops.convert_to_tensor(s) for s in slots])
        for s, new in zip(slots, state, strict=True):
            s.assign(new)
        variable.assign(value)

    def new(self, rate: Any, g: Any, w: Any, *slots: Any) -> tuple:
        """(next value of each slot..., next value of the variable)."""
        raise NotImplementedError

    def _step(self, g: Any, ahead: int = 1) -> Any:
        from . import ops

        return ops.cast(self.iterations + ahead, g.dtype)

    def _power(self, base: float, g: Any) -> Any:
        from . import ops

        return ops.power(ops.cast(base, g.dtype), self._step(g))
