"""The variables and layers that a layer keeps: found in its attributes, and in lists and dicts of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...runtime.errors import ShapeError, StateError
from .operation import Operation
from .structure import is_nested
from .trace import current_scope
from .variable import Variable

# Counts changes after which traced layers may compute something else: ``trainable``, attributes of built layers.
_CHANGES = [0]

# Attributes of the machinery: never walked for variables and sublayers.
_MACHINERY = frozenset({"_inbound_nodes", "_outbound_nodes", "_executables", "_functional", "_auto_config", "_input_spec", "_build_shapes", "_losses",
                        "_own_variables", "optimizer", "_optimizer"})


def changes() -> int:
    """A number that grows whenever a layer changes in a way that its traces don't know of."""
    return _CHANGES[0]


def note_change() -> None:
    """Traces made so far may no longer compute what a layer would."""
    _CHANGES[0] += 1


class Tracking(Operation):
    """The part of ``Layer`` that knows its variables and sublayers."""

    _own_variables: list[Variable]
    _trainable: bool
    built: bool

    def _check_super_called(self) -> None:
        if not self.__dict__.get("_super_called"):
            raise StateError(f"in {type(self).__name__}, call super().__init__() first in __init__()")

    def __setattr__(self, name: str, value: Any) -> None:
        d = self.__dict__
        if not name.startswith("_") and name != "built" and d.get("built") and current_scope() is None and d.get(name, _MISSING) is not value:
            if isinstance(value, (bool, int, float, str, type(None))) and self._setting_matters(name):
                _CHANGES[0] += 1
        object.__setattr__(self, name, value)

    def _setting_matters(self, name: str) -> bool:
        """Whether setting this attribute of a built layer may change what it computes."""
        return True

    def _tracked(self) -> Iterator[Any]:
        """Variables, layers and seed generators among the attributes, in the order in which they were first set."""
        seen: set[int] = set()
        for v in self.__dict__.get("_own_variables", ()):
            seen.add(id(v))
            yield v
        for name, value in list(self.__dict__.items()):
            if name not in _MACHINERY:
                yield from _walk(value, seen)

    def _own_layers(self) -> list[Tracking]:
        self._check_super_called()
        return [x for x in self._tracked() if isinstance(x, Tracking)]

    @property
    def _layers_inside(self) -> list[Tracking]:
        return self._own_layers()

    def _own(self) -> list[Variable]:
        """Own variables: those made trainable first, then the others, in the order of creation."""
        self._check_super_called()
        mine = [x for x in self._tracked() if isinstance(x, Variable)]
        return [v for v in mine if v.born_trainable] + [v for v in mine if not v.born_trainable]

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list[Tracking]:
        out: list[Tracking] = [self] if include_self else []
        seen: set[int] = set()
        todo = list(self._own_layers())
        while todo:
            layer = todo.pop(0)
            if id(layer) not in seen:
                seen.add(id(layer))
                out.append(layer)
                if recursive:
                    todo = layer._own_layers() + todo
        return out

    @property
    def weights(self) -> list[Variable]:
        """The variables, sublayers' included: what is saved. Seeds and metrics are not among them."""
        return unique(self._own(), *[layer.weights for layer in self._own_layers()])

    @property
    def variables(self) -> list[Variable]:
        """``weights`` and the states of seed generators."""
        seeds = [x.state for x in self._tracked() if is_seed_generator(x)]
        return unique(self._own(), seeds, *[layer.variables for layer in self._own_layers()])

    @property
    def trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if v.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if not v.trainable] if self.trainable else self.weights

    @property
    def trainable_variables(self) -> list[Variable]:
        return [v for v in self.variables if v.trainable] if self.trainable else []

    @property
    def non_trainable_variables(self) -> list[Variable]:
        return [v for v in self.variables if not v.trainable] if self.trainable else self.variables

    @property
    def trainable(self) -> bool:
        """Whether training changes the variables; setting it sets it for every sublayer."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        _CHANGES[0] += 1
        for v in self._own():
            if v.born_trainable:
                v.trainable = bool(value)
        for layer in self._own_layers():
            layer.trainable = bool(value)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the values of ``weights``, in their order."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights: list) -> None:
        """Sets the values of ``weights``; the list has one array of the right shape for each."""
        mine = self.weights
        if len(mine) != len(weights):
            raise ShapeError(f"{type(self).__name__} '{self.name}' has {len(mine)} weights ({', '.join(v.path for v in mine)}); set_weights got {len(weights)}")
        for v, w in zip(mine, weights):
            if v.shape != np.shape(w):
                raise ShapeError(f"{type(self).__name__} '{self.name}': weight '{v.path}' has shape {v.shape}, set_weights got {np.shape(w)} for it")
        for v, w in zip(mine, weights):
            v.assign(np.asarray(w))

    def count_params(self) -> int:
        """The number of scalars in ``weights``."""
        if not self.built:
            raise StateError(f"{type(self).__name__} '{self.name}' isn't built, so it has no weights to count; build it with build(input_shape), or call it")
        return sum(v.size for v in self.weights)


_MISSING = object()


def _walk(value: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(value, (Variable, Tracking)) or is_seed_generator(value):
        if id(value) not in seen:
            seen.add(id(value))
            yield value
    elif is_nested(value):
        for v in value.values() if isinstance(value, Mapping) else value:  # a dict in the order of insertion, as Keras tracks it
            yield from _walk(v, seen)


def is_seed_generator(x: Any) -> bool:
    from .random import SeedGenerator

    return isinstance(x, SeedGenerator)


def unique(*lists: list) -> list:
    out: dict[int, Any] = {}
    for items in lists:
        for x in items:
            out.setdefault(id(x), x)
    return list(out.values())
