"""Adafactor: second moments kept as their row and column means (Shazeer and Stern, 2018). Arguments, slots and arithmetic are Keras 3's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .optimizer import Optimizer
from .schedules import LearningRateSchedule
from .variable import Variable


class Adafactor(Optimizer):
    """For a variable (..., n, m) the slots are r (..., n), c (..., m) and v, their outer product; v alone for fewer than two axes. The step is relative
    to the variable's size: its root mean square, of at least ``epsilon_2``."""

    def __init__(self, learning_rate: Any = 0.001, beta_2_decay: float = -0.8, epsilon_1: float = 1e-30, epsilon_2: float = 1e-3,
                 clip_threshold: float = 1.0, relative_step: bool = True, **kwargs: Any):
        super().__init__(learning_rate, **kwargs)
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = beta_2_decay, epsilon_1, epsilon_2
        self.clip_threshold, self.relative_step = clip_threshold, relative_step

    def build(self, variables: Sequence[Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._moments: list[tuple[Variable, Variable, Variable]] = []
        for v in variables:
            factored = len(v.shape) >= 2
            # Keras has placeholders where nothing is factored, and writes them into files.
            rows = self.add_variable(v.shape[:-1] if factored else (), dtype=v.dtype if factored else "int32", name=v.name)
            columns = self.add_variable((*v.shape[:-2], v.shape[-1]) if factored else (), dtype=v.dtype if factored else "int32", name=v.name)
            self._moments.append((rows, columns, self.add_variable_from_reference(v, "velocity")))

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        from . import ops

        def rms(x: Any) -> Any:
            return ops.sqrt(ops.mean(ops.square(x)))

        def mix(slot: Variable, value: Any) -> Any:
            moved = beta * slot + (1.0 - beta) * value
            slot.assign(moved)
            return moved

        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        if self.relative_step and not isinstance(self._learning_rate, LearningRateSchedule):
            rate = ops.minimum(rate, 1.0 / ops.sqrt(step))
        size = ops.maximum(rms(variable), self.epsilon_2) * ops.minimum(rate, 1.0 / ops.sqrt(step))
        square = ops.square(gradient) + self.epsilon_1
        beta = 1.0 - ops.power(step, self.beta_2_decay)
        rows, columns, velocity = self._moments[self._get_variable_index(variable)]
        if len(variable.shape) < 2:
            v = mix(velocity, square)
        else:
            r, c = mix(rows, ops.mean(square, axis=-1)), mix(columns, ops.mean(square, axis=-2))
            v = ops.expand_dims(r / ops.mean(r, axis=-1, keepdims=True), -1) * ops.expand_dims(c, -2)
            velocity.assign(v)
        update = gradient / ops.sqrt(v)
        variable.assign(variable - size * (update / ops.maximum(rms(update) / self.clip_threshold, 1.0)))

    def get_config(self) -> dict:
        return {**super().get_config(), "beta_2_decay": self.beta_2_decay, "epsilon_1": self.epsilon_1, "epsilon_2": self.epsilon_2,
                "clip_threshold": self.clip_threshold, "relative_step": self.relative_step}
