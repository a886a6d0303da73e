"""Learning rate schedules: functions of the step counter, traced into the training step. Names, arguments and values are Keras
3's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...runtime.errors import ArgumentError


class LearningRateSchedule:
    """Base class: ``schedule(step)`` gives the learning rate, a float32 scalar; ``step`` counts optimizer updates from 0."""

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step)")

    def get_config(self) -> dict:
        raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")

    @classmethod
    def from_config(cls, config: dict) -> LearningRateSchedule:
        return cls(**config)


def _positive(owner: Any, name: str, value: float) -> float:
    if not value > 0:
        raise ArgumentError(f"{type(owner).__name__}: {name} must be > 0, got {value}")
    return value


def _float(step: Any) -> Any:
    from . import ops

    return ops.cast(step, "float32")


class ExponentialDecay(LearningRateSchedule):
    """``initial * decay_rate ** (step / decay_steps)``."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ):
        self.initial_learning_rate, self.decay_rate, self.staircase, self.name = (
            initial_learning_rate,
            decay_rate,
            staircase,
            name,
        )
        self.decay_steps = _positive(self, "decay_steps", decay_steps)

    def _periods(self, step: Any) -> Any:
        from . import ops

        p = _float(step) / float(self.decay_steps)
        return ops.floor(p) if self.staircase else p

    def __call__(self, step: Any) -> Any:
        from . import ops

        return self.initial_learning_rate * ops.power(ops.cast(self.decay_rate, "float32"), self._periods(step))

    def get_config(self) -> dict:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class InverseTimeDecay(ExponentialDecay):
    """``initial / (1 + decay_rate * step / decay_steps)``."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ):
        super().__init__(initial_learning_rate, decay_steps, decay_rate, staircase, name)

    def __call__(self, step: Any) -> Any:
        return self.initial_learning_rate / (1.0 + self.decay_rate * self._periods(step))


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[0]`` up to and including step ``boundaries[0]``, and so on."""

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ArgumentError(
                f"PiecewiseConstantDecay: {len(boundaries)} boundaries need {len(boundaries) + 1} values, got {len(values)}"
            )
        self.boundaries, self.values, self.name = list(boundaries), list(values), name

    def __call__(self, step: Any) -> Any:
        from . import ops

        rate = ops.cast(self.values[-1], "float32")
        for boundary, value in reversed(list(zip(self.boundaries, self.values))):
            rate = ops.where(_float(step) <= float(boundary), ops.cast(value, "float32"), rate)
        return rate

    def get_config(self) -> dict:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(LearningRateSchedule):
    """From ``initial`` to ``end`` in ``decay_steps`` along ``(1 - t) ** power``; ``cycle`` starts anew with longer periods."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ):
        self.initial_learning_rate, self.end_learning_rate = initial_learning_rate, end_learning_rate
        self.power, self.cycle, self.name = power, cycle, name
        self.decay_steps = _positive(self, "decay_steps", decay_steps)

    def __call__(self, step: Any) -> Any:
        from . import ops

        step, length = _float(step), ops.cast(float(self.decay_steps), "float32")
        if self.cycle:
            length = length * ops.where(ops.equal(step, 0.0), ops.cast(1.0, "float32"), ops.ceil(step / float(self.decay_steps)))
        else:
            step = ops.minimum(step, length)
        left = ops.power(1.0 - step / length, float(self.power))
        return (self.initial_learning_rate - self.end_learning_rate) * left + self.end_learning_rate

    def get_config(self) -> dict:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


class CosineDecay(LearningRateSchedule):
    """Half a cosine from ``initial`` to ``alpha * initial``, after a linear warm-up to ``warmup_target`` where one is given."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ):
        self.initial_learning_rate, self.alpha, self.name = initial_learning_rate, alpha, name
        self.warmup_target, self.warmup_steps = warmup_target, warmup_steps
        self.decay_steps = _positive(self, "decay_steps", decay_steps)

    def _decay(self, step: Any, start: float) -> Any:
        from . import ops

        cosine = 0.5 * (1.0 + ops.cos(math.pi * (step / float(self.decay_steps))))
        return start * ((1.0 - self.alpha) * cosine + self.alpha)

    def __call__(self, step: Any) -> Any:
        from . import ops

        step = _float(step)
        if self.warmup_target is None:
            return self._decay(ops.minimum(step, float(self.decay_steps)), self.initial_learning_rate)
        warm = float(self.warmup_steps)
        step = ops.minimum(step, float(self.decay_steps) + warm)
        rising = (self.warmup_target - self.initial_learning_rate) * (step / max(warm, 1.0)) + self.initial_learning_rate
        return ops.where(step < warm, rising, self._decay(step - warm, self.warmup_target))

    def get_config(self) -> dict:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decay that restarts: each period is ``t_mul`` times as long and starts at ``m_mul`` times the rate (SGDR, Loshchilov
    2016).
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ):
        self.initial_learning_rate, self.alpha, self.name = initial_learning_rate, alpha, name
        self._t_mul, self._m_mul = t_mul, m_mul
        self.first_decay_steps = _positive(self, "first_decay_steps", first_decay_steps)

    def __call__(self, step: Any) -> Any:
        from . import ops

        done = _float(step) / float(self.first_decay_steps)
        if self._t_mul == 1.0:
            restarts = ops.floor(done)
            done = done - restarts
        else:
            t = float(self._t_mul)
            restarts = ops.floor(ops.log(1.0 - done * (1.0 - t)) / math.log(t))
            length = ops.power(ops.cast(t, "float32"), restarts)
            done = (done - (1.0 - length) / (1.0 - t)) / length
        scale = ops.power(ops.cast(float(self._m_mul), "float32"), restarts)
        cosine = 0.5 * scale * (1.0 + ops.cos(math.pi * done))
        return self.initial_learning_rate * ((1.0 - self.alpha) * cosine + self.alpha)

    def get_config(self) -> dict:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self._t_mul,
            "m_mul": self._m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }


CLASSES: dict[str, type[LearningRateSchedule]] = {
    c.__name__: c
    for c in (ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay, CosineDecay, CosineDecayRestarts)
}


def serialize(learning_rate_schedule: LearningRateSchedule) -> Any:
    from .serialization import serialize_keras_object

    return serialize_keras_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    from .serialization import deserialize_keras_object

    return deserialize_keras_object(config, custom_objects=custom_objects)
