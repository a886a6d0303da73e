"""The base of optimizers. ``apply`` is ordinary ``ops`` over variables: run eagerly it updates at once, inside a traced training
step it becomes
part of the one graph, with every variable a donated state. The order of operations is Keras 3's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...compiler.ir import location
from ...runtime.errors import ArgumentError, ShapeError, StateError
from . import initializers
from .naming import auto_name
from .schedules import LearningRateSchedule
from .variable import Variable


class Optimizer:
    """Subclasses define ``build(variables)`` (create slots), ``update_step(gradient, variable, learning_rate)`` and
    ``get_config``.

    Variables, in the order in which Keras saves them: iteration (int32), learning_rate (float32; absent with a schedule), then
    the slots.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        own = type(self).__name__
        if kwargs.pop("decay", None) is not None:
            warnings.warn(
                "`decay` is no longer an argument of optimizers and is ignored; use a LearningRateSchedule", stacklevel=3
            )
        if kwargs:
            raise ArgumentError(f"{own}: unknown argument(s) {', '.join(kwargs)}")
        for what, clip in (("clipnorm", clipnorm), ("clipvalue", clipvalue), ("global_clipnorm", global_clipnorm)):
            if clip is not None and (isinstance(clip, bool) or not isinstance(clip, (int, float)) or clip <= 0):
                raise ArgumentError(f"{own}: {what} must be a positive number, got {clip!r}")
        if sum(c is not None for c in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ArgumentError(
                f"{own}: only one of clipnorm, clipvalue and global_clipnorm can be set, got {clipnorm}, {clipvalue}, {global_clipnorm}"
            )
        if gradient_accumulation_steps is not None and (
            not isinstance(gradient_accumulation_steps, int) or gradient_accumulation_steps < 2
        ):
            raise ArgumentError(f"{own}: gradient_accumulation_steps must be an int >= 2, got {gradient_accumulation_steps!r}")
        if use_ema and not 0 <= ema_momentum <= 1:
            raise ArgumentError(f"{own}: ema_momentum must lie in [0, 1], got {ema_momentum}")
        if (
            use_ema
            and ema_overwrite_frequency is not None
            and (not isinstance(ema_overwrite_frequency, int) or ema_overwrite_frequency < 1)
        ):
            raise ArgumentError(f"{own}: ema_overwrite_frequency must be an int >= 1 or None, got {ema_overwrite_frequency!r}")
        self.name = name or auto_name(own)
        self.weight_decay, self.clipnorm, self.clipvalue, self.global_clipnorm = (
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
        )
        self.use_ema, self.ema_momentum, self.ema_overwrite_frequency = use_ema, ema_momentum, ema_overwrite_frequency
        self.loss_scale_factor, self.gradient_accumulation_steps = loss_scale_factor, gradient_accumulation_steps
        self.built = False
        self.version = 0  # counts changes that a compiled step has baked in (a new schedule, a new clip)
        self._variables: list[Variable] = []
        self._trainable_variables: list[Variable] = []
        self._index: dict[int, int] = {}
        self._excluded: tuple[frozenset[int], re.Pattern | None] = (frozenset(), None)
        self._iterations = self.add_variable((), dtype="int32", name="iteration")
        if isinstance(learning_rate, LearningRateSchedule) or callable(learning_rate):
            self._learning_rate = learning_rate
        elif isinstance(learning_rate, (int, float, np.floating)) and not isinstance(learning_rate, bool):
            self._learning_rate = self.add_variable((), initializers.Constant(float(learning_rate)), name="learning_rate")
        else:
            raise ArgumentError(f"{own}: learning_rate is a float, a LearningRateSchedule or a callable, not {learning_rate!r}")

    # -- variables

    @property
    def variables(self) -> list[Variable]:
        return list(self._variables)

    @property
    def iterations(self) -> Any:
        """Number of updates so far (with gradient accumulation: of real updates)."""
        if self.gradient_accumulation_steps:
            from . import ops

            return ops.floor_divide(self._iterations, self.gradient_accumulation_steps)
        return self._iterations

    @property
    def learning_rate(self) -> Any:
        if isinstance(self._learning_rate, LearningRateSchedule):
            return self._learning_rate(self._iterations)
        return self._learning_rate if isinstance(self._learning_rate, Variable) else self._learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, LearningRateSchedule) or (callable(value) and not isinstance(value, Variable)):
            if isinstance(self._learning_rate, Variable):
                self._variables = [v for v in self._variables if v is not self._learning_rate]
            self._learning_rate = value
            self.version += 1
        elif not isinstance(self._learning_rate, Variable):
            raise StateError(
                f"{self.name}: the learning rate is a schedule and can't be set to {value!r}; make the optimizer with a float to be able to"
            )
        else:
            self._learning_rate.assign(value)

    def add_variable(
        self, shape: Sequence[int], initializer: Any = "zeros", dtype: Any = "float32", name: str | None = None, **_: Any
    ) -> Variable:
        v = Variable(initializers.get(initializer)(tuple(shape), dtype), dtype=dtype, trainable=False, name=name)
        self._variables.append(v)
        return v

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        path = str(getattr(reference_variable, "path", None) or reference_variable.name).replace("/", "_").replace(":", "_")
        return self.add_variable(reference_variable.shape, initializer, reference_variable.dtype, f"{path}_{name or 'var'}")

    def add_optimizer_variables(
        self, trainable_variables: Iterable[Variable], name: str | Sequence[str], initializer: Any = "zeros"
    ) -> Any:
        """One slot per variable and name, interleaved per variable (Keras' order in files); a list, or a tuple of lists for
        several names.
        """
        names = [name] if isinstance(name, str) else list(name)
        inits = list(initializer) if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        slots: tuple[list, ...] = tuple([] for _ in names)
        for v in trainable_variables:
            for out, n, i in zip(slots, names, inits, strict=True):
                out.append(self.add_variable_from_reference(v, n, i))
        return slots[0] if isinstance(name, str) else slots

    def build(self, variables: Sequence[Variable]) -> None:
        """Create the slots for ``variables``; later calls of ``apply`` may name these only."""
        variables = list(variables)
        if self.use_ema:
            self._averages = self.add_optimizer_variables(variables, "average")
        if self.gradient_accumulation_steps:
            self._accumulated = self.add_optimizer_variables(variables, "gradient_accumulator")
        self._index = {id(v): i for i, v in enumerate(variables)}
        self._trainable_variables = variables
        self.built = True

    def _get_variable_index(self, variable: Variable) -> int:
        return self._index[id(variable)]

    def assign(self, variable: Variable, value: Any) -> None:
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        variable.assign(variable + value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        variable.assign(variable - value)

    # -- the update

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define update_step(gradient, variable, learning_rate)")

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Any:
        grads, variables = zip(*grads_and_vars)
        self.apply(grads, variables)
        return self._iterations

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Variable] | None = None) -> None:
        """Update ``trainable_variables`` by ``grads``, one for each (None: no gradient, not updated), and count the step."""
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is None:
            if not self.built:
                raise StateError(f"{self.name}: apply(grads) without variables needs optimizer.build(variables) first")
            trainable_variables = self._trainable_variables
        variables = list(trainable_variables)
        if len(grads) != len(variables):
            raise ShapeError(f"{self.name}: {len(grads)} gradients for {len(variables)} variables")
        if not self.built:
            self.build(variables)
        for v in variables:
            if id(v) not in self._index:
                raise StateError(
                    f"{self.name}: variable {v.path!r} is not one that this optimizer was built for; make a new optimizer"
                )
        pairs = [(g, v) for g, v in zip(grads, variables) if g is not None]
        if not pairs:
            raise ArgumentError(f"{self.name}: no variable has a gradient")
        missing = [v.path for g, v in zip(grads, variables) if g is None]
        if missing:
            warnings.warn(f"no gradients for the variables {', '.join(missing)}; they are not trained", stacklevel=2)
        grads, variables = [g for g, _ in pairs], [v for _, v in pairs]
        with location.scope(self.name):
            if self.loss_scale_factor is not None:
                grads = [g / self.loss_scale_factor for g in grads]
            if self.gradient_accumulation_steps:
                self._accumulate_and_update(grads, variables)
            else:
                self._update(grads, variables)
            if self.use_ema:
                self._update_averages()
            for v in variables:
                if getattr(v, "constraint", None) is not None:
                    v.assign(v.constraint(v))
            self._iterations.assign(self._iterations + 1)

    def _update(self, grads: Sequence[Any], variables: Sequence[Variable]) -> None:
        from . import ops

        grads = self._clip(grads)
        rate = ops.convert_to_tensor(self.learning_rate)
        if self.weight_decay is not None:
            for v in variables:
                if self._use_weight_decay(v):
                    v.assign(v - v * ops.cast(self.weight_decay, v.dtype) * ops.cast(rate, v.dtype))
        self.update_all(grads, variables, rate)

    def update_all(self, grads: Sequence[Any], variables: Sequence[Variable], learning_rate: Any) -> None:
        for g, v in zip(grads, variables):
            self.update_step(g, v, learning_rate)

    def _accumulate_and_update(self, grads: Sequence[Any], variables: Sequence[Variable]) -> None:
        """An update from the mean of the last n gradients in every n-th call; between, only the sums change."""
        from . import ops

        n = self.gradient_accumulation_steps
        now = ops.equal((self._iterations + 1) % n, 0)
        sums = [self._accumulated[self._get_variable_index(v)] for v in variables]
        accumulators = {id(a) for a in self._accumulated}
        touched = [*variables, *[v for v in self._variables if id(v) not in accumulators and v is not self._iterations]]
        before = [ops.convert_to_tensor(v) for v in touched]
        totals = [g + s for g, s in zip(grads, sums)]
        self._update([t / float(n) for t in totals], variables)
        for v, old in zip(touched, before):
            v.assign(ops.where(now, ops.convert_to_tensor(v), old))
        for s, t in zip(sums, totals):
            s.assign(ops.where(now, ops.zeros_like(t), t))

    def _update_averages(self) -> None:
        from . import ops

        first = ops.equal(self.iterations, 0)
        overwrite = None
        if self.ema_overwrite_frequency:
            overwrite = ops.equal((self.iterations + 1) % self.ema_overwrite_frequency, 0)
        for v, average in zip(self._trainable_variables, self._averages):
            momentum = ops.where(first, ops.cast(0.0, v.dtype), ops.cast(self.ema_momentum, v.dtype))
            average.assign(momentum * average + (1.0 - momentum) * v)
            if overwrite is not None:
                v.assign(ops.where(overwrite, ops.convert_to_tensor(average), ops.convert_to_tensor(v)))

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """With ``use_ema``: give the variables their averages (``fit`` does so at its end)."""
        if self.use_ema and self.built:
            for v in var_list:
                v.assign(self._averages[self._get_variable_index(v)])

    def scale_loss(self, loss: Any) -> Any:
        return loss * self.loss_scale_factor if self.loss_scale_factor is not None else loss

    # -- clipping and decay

    def _clip(self, grads: Sequence[Any]) -> list[Any]:
        from . import ops

        if self.clipvalue:
            return [ops.clip(g, -self.clipvalue, self.clipvalue) for g in grads]
        if self.clipnorm:
            return [g * self.clipnorm / ops.maximum(ops.sqrt(ops.sum(ops.square(g))), self.clipnorm) for g in grads]
        if self.global_clipnorm:
            total = ops.sum(ops.square(grads[0]))
            for g in grads[1:]:
                total = total + ops.sum(ops.square(g))
            norm = ops.sqrt(total)
            scale = self.global_clipnorm * ops.minimum(1.0 / norm, 1.0 / self.global_clipnorm)
            scale = scale + (norm - norm)  # an infinite norm makes the update NaN instead of silently 0
            return [g * scale for g in grads]
        return list(grads)

    def exclude_from_weight_decay(
        self, var_list: Sequence[Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Variables (by identity, or by a part of their name) that weight decay leaves alone. Before ``build`` only."""
        if self.built:
            raise StateError(f"{self.name}: exclude_from_weight_decay must be called before the optimizer is built")
        self._excluded = (frozenset(id(v) for v in var_list or ()), re.compile("|".join(set(var_names))) if var_names else None)

    def _use_weight_decay(self, variable: Variable) -> bool:
        ids, pattern = self._excluded
        return id(variable) not in ids and not (pattern and pattern.search(variable.name))

    # -- configuration and state

    def get_config(self) -> dict:
        from .serialization import serialize_keras_object

        rate = self._learning_rate
        return {
            "name": self.name,
            "learning_rate": float(rate.array) if isinstance(rate, Variable) else serialize_keras_object(rate),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
            "use_ema": self.use_ema,
            "ema_momentum": self.ema_momentum,
            "ema_overwrite_frequency": self.ema_overwrite_frequency,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Optimizer:
        from .serialization import deserialize_keras_object

        config = dict(config)
        if isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = deserialize_keras_object(config["learning_rate"], custom_objects)
        return cls(**config)

    def get_weights(self) -> list[np.ndarray]:
        return [np.array(v.array) for v in self._variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        if len(weights) != len(self._variables):
            raise ShapeError(
                f"{self.name}: {len(weights)} arrays for {len(self._variables)} variables"
                + ("" if self.built else " (the optimizer isn't built yet: call optimizer.build(model.trainable_variables))")
            )
        for v, w in zip(self._variables, weights):
            v.assign(w)
