"""Optimizers: Keras 3's names, defaults, slots and arithmetic. The moment-based ones are in ``adam``."""

from __future__ import annotations

import inspect
from typing import Any

from ...runtime.errors import ArgumentError
from . import schedules
from .adafactor import Adafactor
from .adam import Adam, Adamax, AdamW, Lamb, Lion, Nadam
from .fused_optimizer import FusedOptimizer
from .initializers import Constant
from .optimizer import Optimizer
from .schedules import LearningRateSchedule


def _fraction(owner: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{owner}: {name} must be a number in [0, 1], got {value!r}")
    return float(value)


class SGD(FusedOptimizer):
    """w -= lr g; with momentum m = momentum m - lr g, w += m (Nesterov: w += momentum m - lr g)."""

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.momentum, self.nesterov = _fraction("SGD", "momentum", momentum), nesterov

    def _slot_names(self):
        return [(("momentum",), "zeros")] if self.momentum else []

    def new(self, rate, g, w, m=None):
        if m is None:
            return (w - g * rate,)
        m = m * self.momentum - g * rate
        return m, w + (m * self.momentum - g * rate if self.nesterov else m)

    def get_config(self) -> dict:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(FusedOptimizer):
    """Gradients divided by a running root mean square (Tieleman and Hinton, 2012); ``centered`` uses the variance instead."""

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        centered=False,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.rho, self.momentum, self.epsilon, self.centered = rho, _fraction("RMSprop", "momentum", momentum), epsilon, centered

    def _slot_names(self):
        out = [(("velocity",), "zeros")]
        if self.momentum:
            out.append((("momentum",), "zeros"))
        if self.centered:
            out.append((("average_gradient",), "zeros"))
        return out

    def new(self, rate, g, w, v, *rest):
        from . import ops

        rest = list(rest)
        v = self.rho * v + (1.0 - self.rho) * ops.square(g)
        if self.centered:
            rest[-1] = self.rho * rest[-1] + (1.0 - self.rho) * g
            denominator = v - ops.square(rest[-1]) + self.epsilon
        else:
            denominator = v + self.epsilon
        step = rate * g / ops.sqrt(denominator)
        if self.momentum:
            rest[0] = step = self.momentum * rest[0] + step
        return v, *rest, w - step

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }


class Adagrad(FusedOptimizer):
    """Duchi et al. (2011)."""

    def __init__(
        self,
        learning_rate=0.001,
        initial_accumulator_value=0.1,
        epsilon=1e-7,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def _slot_names(self):
        return [(("accumulator",), Constant(self.initial_accumulator_value))]

    def new(self, rate, g, w, a):
        from . import ops

        a = a + ops.square(g)
        return a, w - rate * g / ops.sqrt(a + self.epsilon)

    def get_config(self) -> dict:
        return {**super().get_config(), "initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}


class Adadelta(FusedOptimizer):
    """Zeiler (2012)."""

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.95,
        epsilon=1e-7,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.rho, self.epsilon = rho, epsilon

    def _slot_names(self):
        return [(("accumulated_grad", "accumulated_delta_var"), "zeros")]

    def new(self, rate, g, w, grads, deltas):
        from . import ops

        grads = self.rho * grads + (1.0 - self.rho) * ops.square(g)
        delta = -(ops.sqrt(deltas + self.epsilon) * g / ops.sqrt(grads + self.epsilon))
        deltas = self.rho * deltas + (1.0 - self.rho) * ops.square(delta)
        return grads, deltas, w + rate * delta

    def get_config(self) -> dict:
        return {**super().get_config(), "rho": self.rho, "epsilon": self.epsilon}


class Ftrl(FusedOptimizer):
    """Follow the regularised leader (McMahan et al., 2013), with Keras' shrinkage and ``beta``."""

    def __init__(
        self,
        learning_rate=0.001,
        learning_rate_power=-0.5,
        initial_accumulator_value=0.1,
        l1_regularization_strength=0.0,
        l2_regularization_strength=0.0,
        l2_shrinkage_regularization_strength=0.0,
        beta=0.0,
        weight_decay=None,
        clipnorm=None,
        clipvalue=None,
        global_clipnorm=None,
        use_ema=False,
        ema_momentum=0.99,
        ema_overwrite_frequency=None,
        loss_scale_factor=None,
        gradient_accumulation_steps=None,
        name=None,
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        if learning_rate_power > 0:
            raise ArgumentError(f"Ftrl: learning_rate_power must be <= 0, got {learning_rate_power}")
        for key, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
        ):
            if value < 0:
                raise ArgumentError(f"Ftrl: {key} must be >= 0, got {value}")
        self.learning_rate_power, self.initial_accumulator_value, self.beta = learning_rate_power, initial_accumulator_value, beta
        self.l1_regularization_strength, self.l2_regularization_strength = l1_regularization_strength, l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength

    def _slot_names(self):
        return [(("accumulator", "linear"), [Constant(self.initial_accumulator_value), "zeros"])]

    def new(self, rate, g, w, a, linear):
        from . import ops

        power = -float(self.learning_rate_power)
        l1, l2 = self.l1_regularization_strength, self.l2_regularization_strength + self.beta / (2.0 * rate)
        grown = a + ops.square(g)
        slope = g + 2.0 * self.l2_shrinkage_regularization_strength * w
        linear = linear + slope - (ops.power(grown, power) - ops.power(a, power)) / rate * w
        quadratic = ops.power(grown, power) / rate + 2.0 * l2
        return grown, linear, (ops.clip(linear, -l1, l1) - linear) / quadratic

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
            "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }


CLASSES: dict[str, type[Optimizer]] = {
    c.__name__: c for c in (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, Nadam, Lion, Lamb, Ftrl, Adafactor)
}
ALIASES: dict[str, type[Optimizer]] = {n.lower(): c for n, c in CLASSES.items()}
__all__ = [*CLASSES, "Optimizer", "LearningRateSchedule", "schedules", "serialize", "deserialize", "get"]


def serialize(optimizer: Optimizer) -> Any:
    from .serialization import serialize_keras_object

    return serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    from .serialization import deserialize_keras_object

    if isinstance(config, dict) and isinstance(config.get("class_name"), str) and config["class_name"].lower() in ALIASES:
        config = {
            "module": "keras.optimizers",
            "registered_name": None,
            **config,
            "class_name": ALIASES[config["class_name"].lower()].__name__,
        }
    return deserialize_keras_object(config, custom_objects=custom_objects)


def get(identifier: Any) -> Any:
    """An optimizer from a name, a config dict, a class or an optimizer; None stays None."""
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        identifier = deserialize(identifier)
    elif isinstance(identifier, str):
        from .serialization import by_name

        identifier = by_name("optimizer", identifier, CLASSES, ALIASES)
    if inspect.isclass(identifier):
        identifier = identifier()
    if isinstance(identifier, Optimizer):
        return identifier
    raise ArgumentError(f"{identifier!r} is no optimizer: give a name such as 'adam', or an Optimizer")
