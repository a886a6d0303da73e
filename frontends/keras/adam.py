"""Adam and its kin: optimizers with first and second moments, or their sign. Arguments, slots and arithmetic are Keras 3's."""

from __future__ import annotations

from typing import Any

from ...runtime.errors import ArgumentError
from .fused_optimizer import FusedOptimizer


class Adam(FusedOptimizer):
    """Kingma and Ba (2014), with Keras' form of the bias correction; ``amsgrad`` keeps the maximum of v (Reddi et al., 2018)."""

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
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
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2017): w -= weight_decay lr w before the step."""

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=0.004,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
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
        if weight_decay is None:
            raise ArgumentError("AdamW: weight_decay must be a number, got None (Adam is the optimizer without it)")
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
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


class Adamax(FusedOptimizer):
    """Adam with the infinity norm (Kingma and Ba, 2014, section 7)."""

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
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


class Nadam(FusedOptimizer):
    """Adam with Nesterov momentum (Dozat, 2016). Its last variable is the running product of the momentum schedule."""

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
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


class Lamb(FusedOptimizer):
    """Adam with a step scaled by the variable's norm (You et al., 2019)."""

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
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


class Lion(FusedOptimizer):
    """The sign of an interpolated momentum (Chen et al., 2023)."""

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.99,
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
