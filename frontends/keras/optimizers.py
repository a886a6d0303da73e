"""Optimizers: Keras 3's arguments, defaults, slots and arithmetic. ``update_step`` is traced: one fused update per variable."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ...runtime.errors import ArgumentError
from . import schedules
from .initializers import Constant
from .optimizer import Optimizer
from .schedules import LearningRateSchedule
from .variable import Variable


def _fraction(owner: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ArgumentError(f"{owner}: {name} must be a number in [0, 1], got {value!r}")
    return float(value)


class _Fused(Optimizer):
    """Common to all: slots are named by ``_slots(self)``; ``new(...)`` gives the next slot values and the variable's next value."""

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


class SGD(_Fused):
    """w -= lr g; with momentum m = momentum m - lr g, w += m (Nesterov: w += momentum m - lr g)."""

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=None, clipnorm=None, clipvalue=None, global_clipnorm=None,
                 use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None, gradient_accumulation_steps=None,
                 name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
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


class Adam(_Fused):
    """Kingma and Ba (2014), with Keras' form of the bias correction; ``amsgrad`` keeps the maximum of v (Reddi et al., 2018)."""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, weight_decay=None, clipnorm=None,
                 clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def _slot_names(self):
        return [(("momentum", "velocity"), "zeros"), *([(("velocity_hat",), "zeros")] if self.amsgrad else [])]

    def new(self, rate, g, w, m, v, v_hat=None):
        from . import ops

        alpha = rate * ops.sqrt(1.0 - self._power(self.beta_2, g)) / (1.0 - self._power(self.beta_1, g))
        m = m + (g - m) * (1.0 - self.beta_1)
        v = v + (ops.square(g) - v) * (1.0 - self.beta_2)
        if v_hat is None:
            return m, v, w - m * alpha / (ops.sqrt(v) + self.epsilon)
        v_hat = ops.maximum(v_hat, v)
        return m, v, v_hat, w - m * alpha / (ops.sqrt(v_hat) + self.epsilon)

    def get_config(self) -> dict:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "amsgrad": self.amsgrad}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017): w -= weight_decay lr w before the step."""

    def __init__(self, learning_rate=0.001, weight_decay=0.004, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, clipnorm=None,
                 clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        if weight_decay is None:
            raise ArgumentError("AdamW: weight_decay must be a number, got None (Adam is the optimizer without it)")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps, name, **kwargs)


class RMSprop(_Fused):
    """Gradients divided by a running root mean square (Tieleman and Hinton, 2012); ``centered`` uses the variance instead."""

    def __init__(self, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False, weight_decay=None, clipnorm=None,
                 clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
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
        return {**super().get_config(), "rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}


class Adagrad(_Fused):
    """Duchi et al. (2011)."""

    def __init__(self, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7, weight_decay=None, clipnorm=None, clipvalue=None,
                 global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def _slot_names(self):
        return [(("accumulator",), Constant(self.initial_accumulator_value))]

    def new(self, rate, g, w, a):
        from . import ops

        a = a + ops.square(g)
        return a, w - rate * g / ops.sqrt(a + self.epsilon)

    def get_config(self) -> dict:
        return {**super().get_config(), "initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}


class Adadelta(_Fused):
    """Zeiler (2012)."""

    def __init__(self, learning_rate=0.001, rho=0.95, epsilon=1e-7, weight_decay=None, clipnorm=None, clipvalue=None, global_clipnorm=None,
                 use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None, gradient_accumulation_steps=None,
                 name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
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


class Adamax(_Fused):
    """Adam with the infinity norm (Kingma and Ba, 2014, section 7)."""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None, clipnorm=None, clipvalue=None,
                 global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def _slot_names(self):
        return [(("momentum", "norm"), "zeros")]

    def new(self, rate, g, w, m, u):
        from . import ops

        m = m + (g - m) * (1.0 - self.beta_1)
        u = ops.maximum(self.beta_2 * u, ops.absolute(g))
        return m, u, w - rate * m / ((1.0 - self._power(self.beta_1, g)) * (u + self.epsilon))

    def get_config(self) -> dict:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


class Nadam(_Fused):
    """Adam with Nesterov momentum (Dozat, 2016). Its last variable is the running product of the momentum schedule."""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None, clipnorm=None, clipvalue=None,
                 global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def _slot_names(self):
        return [(("momentum", "velocity"), "zeros")]

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self._u_product = self.add_variable((), "ones", variables[0].dtype if variables else "float32", "variable")

    def _schedule(self, like: Any, ahead: int) -> Any:
        from . import ops

        return self.beta_1 * (1.0 - 0.5 * ops.power(ops.cast(0.96, like.dtype), self._step(like, ahead)))

    def update_all(self, grads, variables, learning_rate):
        self._u_product.assign(self._u_product * self._schedule(self._u_product, 1))
        super().update_all(grads, variables, learning_rate)

    def new(self, rate, g, w, m, v):
        from . import ops

        u, u_next = self._schedule(g, 1), self._schedule(g, 2)
        product = ops.cast(self._u_product, g.dtype)
        m = m + (g - m) * (1.0 - self.beta_1)
        v = v + (ops.square(g) - v) * (1.0 - self.beta_2)
        m_hat = u_next * m / (1.0 - product * u_next) + (1.0 - u) * g / (1.0 - product)
        v_hat = v / (1.0 - self._power(self.beta_2, g))
        return m, v, w - m_hat * rate / (ops.sqrt(v_hat) + self.epsilon)

    def get_config(self) -> dict:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


class Lion(_Fused):
    """The sign of an interpolated momentum (Chen et al., 2023)."""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.99, weight_decay=None, clipnorm=None, clipvalue=None, global_clipnorm=None,
                 use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None, gradient_accumulation_steps=None,
                 name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        if not 0 < beta_1 <= 1:
            raise ArgumentError(f"Lion: beta_1 must lie in (0, 1], got {beta_1}")
        self.beta_1, self.beta_2 = beta_1, beta_2

    def _slot_names(self):
        return [(("momentum",), "zeros")]

    def new(self, rate, g, w, m):
        from . import ops

        w = w - rate * ops.sign(m * self.beta_1 + g * (1.0 - self.beta_1))
        return m * self.beta_2 + g * (1.0 - self.beta_2), w

    def get_config(self) -> dict:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2}


class Lamb(_Fused):
    """Adam with a step scaled by the variable's norm (You et al., 2019)."""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, weight_decay=None, clipnorm=None, clipvalue=None,
                 global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def _slot_names(self):
        return [(("momentum", "velocity"), "zeros")]

    def new(self, rate, g, w, m, v):
        from . import ops

        m = m + (g - m) * (1.0 - self.beta_1)
        v = v + (ops.square(g) - v) * (1.0 - self.beta_2)
        update = m / (1.0 - self._power(self.beta_1, g)) / (ops.sqrt(v / (1.0 - self._power(self.beta_2, g))) + self.epsilon)
        w_norm, u_norm = ops.sqrt(ops.sum(ops.square(w))), ops.sqrt(ops.sum(ops.square(update)))
        usable = ops.logical_and(w_norm > 0.0, u_norm > 0.0)
        ratio = ops.where(usable, w_norm / ops.where(usable, u_norm, ops.ones_like(u_norm)), ops.ones_like(u_norm))
        return m, v, w - ratio * rate * update

    def get_config(self) -> dict:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


class Ftrl(_Fused):
    """Follow the regularised leader (McMahan et al., 2013), with Keras' shrinkage and ``beta``."""

    def __init__(self, learning_rate=0.001, learning_rate_power=-0.5, initial_accumulator_value=0.1, l1_regularization_strength=0.0,
                 l2_regularization_strength=0.0, l2_shrinkage_regularization_strength=0.0, beta=0.0, weight_decay=None, clipnorm=None,
                 clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, loss_scale_factor=None,
                 gradient_accumulation_steps=None, name=None, **kwargs):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
                         loss_scale_factor, gradient_accumulation_steps, name, **kwargs)
        if learning_rate_power > 0:
            raise ArgumentError(f"Ftrl: learning_rate_power must be <= 0, got {learning_rate_power}")
        for key, value in (("initial_accumulator_value", initial_accumulator_value), ("l1_regularization_strength", l1_regularization_strength),
                           ("l2_regularization_strength", l2_regularization_strength),
                           ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength)):
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
        return {**super().get_config(), "learning_rate_power": self.learning_rate_power, "initial_accumulator_value": self.initial_accumulator_value,
                "l1_regularization_strength": self.l1_regularization_strength, "l2_regularization_strength": self.l2_regularization_strength,
                "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength, "beta": self.beta}


CLASSES: dict[str, type[Optimizer]] = {c.__name__: c for c in (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, Nadam, Lion, Lamb, Ftrl)}
ALIASES: dict[str, type[Optimizer]] = {n.lower(): c for n, c in CLASSES.items()}
__all__ = [*CLASSES, "Optimizer", "LearningRateSchedule", "schedules", "serialize", "deserialize", "get"]


def serialize(optimizer: Optimizer) -> Any:
    from .serialization import serialize_keras_object

    return serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    from .serialization import deserialize_keras_object

    if isinstance(config, dict) and isinstance(config.get("class_name"), str) and config["class_name"].lower() in ALIASES:
        config = {"module": "keras.optimizers", "registered_name": None, **config, "class_name": ALIASES[config["class_name"].lower()].__name__}
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
