"""``Sequential``: a stack of layers, each called on the result of the one before."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ...runtime.errors import ArgumentError, StateError
from .functional import Functional
from .layer import Layer
from .layers.input_layer import InputLayer
from .model import Model
from .phase import current_training, training_phase
from .structure import is_shape
from .tensor import KerasTensor
from .trace import ArgSpec
from .tracking import unique


class Sequential(Model):
    """``Sequential(layers=None, trainable=True, name=None)``. With an ``Input`` first, or after ``build(input_shape)``, it is built as layers are added."""

    def __init__(self, layers: Sequence | None = None, trainable: bool = True, name: str | None = None):
        super().__init__(trainable=trainable, name=name)
        self._stack: list[Layer] = []
        self._functional: Functional | None = None
        for layer in layers or ():
            self.add(layer, rebuild=False)
        if self._stack:
            self._rebuild()

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Puts a layer (or an ``Input``) on top."""
        if not self._stack and getattr(layer, "_input_shape_arg", None) is not None:
            self.add(InputLayer(shape=layer._input_shape_arg))
        if isinstance(layer, KerasTensor) and layer._keras_history is not None and isinstance(layer._keras_history.operation, InputLayer):
            layer = layer._keras_history.operation
        if not isinstance(layer, Layer):
            raise ArgumentError(f"Sequential '{self.name}': only layers can be added, got {layer!r} ({type(layer).__name__})")
        if any(x.name == layer.name and x is not layer for x in self._stack):
            raise ArgumentError(f"Sequential '{self.name}' has a layer '{layer.name}' already; every layer needs a name of its own (argument name)")
        if isinstance(layer, InputLayer) and self._stack:
            if isinstance(self._stack[0], InputLayer):
                raise ArgumentError(f"Sequential '{self.name}' takes inputs of shape {self._stack[0].batch_shape} already; another Input can't be added")
        self._stack.append(layer)
        self._reset()
        if rebuild:
            self._rebuild()

    def pop(self, rebuild: bool = True) -> Layer:
        """Removes the top layer and returns it."""
        if not self._stack:
            raise StateError(f"Sequential '{self.name}' has no layers to pop")
        layer = self._stack.pop()
        self._reset()
        if rebuild and self._stack:
            self._rebuild()
        return layer

    def _reset(self) -> None:
        self.built = False
        self._functional = None
        self._executables.clear()

    def _rebuild(self) -> None:
        self._reset()
        first = self._stack[0]
        if len(self._stack) > 1:
            if isinstance(first, InputLayer):
                self.build(first.batch_shape)
            elif isinstance(first, (Functional, Sequential)) and first.built:
                try:
                    self.build(first.input_shape)
                except AttributeError:
                    return

    def build(self, input_shape: Any = None) -> None:
        """Builds all layers for inputs of this shape, the batch axis included (None where a size is free)."""
        if not self._stack:
            raise StateError(f"Sequential '{self.name}' has no layers to build; add() some")
        if not is_shape(input_shape):
            return  # several inputs: built when called
        input_shape = tuple(input_shape)
        first = self._stack[0]
        if isinstance(first, InputLayer):
            if first.batch_shape != input_shape:
                raise ArgumentError(f"Sequential '{self.name}' takes inputs of shape {first.batch_shape}; it can't be built for {input_shape}")
        else:
            dtype = first.inputs[0].dtype if isinstance(first, (Functional, Sequential)) and first.built else first.compute_dtype
            self._stack.insert(0, InputLayer(batch_shape=input_shape, dtype=dtype))
        x = inputs = self._stack[0].output
        for layer in self._stack[1:]:
            x = layer(x)
        self._functional = Functional(inputs, x, name=self.name)

    def _stated_shape(self) -> tuple | None:
        """The batch shape of the InputLayer that the stack begins with; None where it begins with another."""
        first = self._stack[0] if self._stack else None
        return first.batch_shape if isinstance(first, InputLayer) else None

    def _maybe_build(self, call: Any) -> None:
        if not self.built and not isinstance(call.first, (list, tuple, dict)) and call.first is not None:
            from .tensor import known_shape

            stated = self._stated_shape()
            if stated is not None:
                self.build(stated)
            elif self._stack:
                shape = known_shape(call.first.shape)
                self.build((None, *shape[1:]) if shape else shape)

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if self._functional is not None:
            return self._functional.call(inputs, training=training, mask=mask)
        with training_phase(current_training() if training is None else training):
            for layer in self.layers:
                inputs = layer(inputs)
        return inputs

    def _convert(self, x: Any) -> Any:
        return Layer._convert(self, x) if self._functional is None else x

    def _check(self, inputs: Any) -> None:
        return None

    def _own_layers(self) -> list[Layer]:
        return unique(self.__dict__.get("_stack", []), [x for x in self._tracked() if isinstance(x, Layer)])

    @property
    def layers(self) -> list[Layer]:
        """The layers added, without the Input."""
        return self._stack[1:] if self._stack and isinstance(self._stack[0], InputLayer) else list(self._stack)

    @layers.setter
    def layers(self, _: Any) -> None:
        raise ArgumentError("Sequential.layers can't be set; use add() and pop()")

    def _graph(self, what: str) -> Functional:
        if self._functional is None:
            raise AttributeError(f"Sequential '{self.name}' has no {what} yet: build it with an Input, with build(input_shape), or by calling it")
        return self._functional

    @property
    def inputs(self) -> list[KerasTensor]:
        return self._graph("inputs").inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        return self._graph("outputs").outputs

    @property
    def input_shape(self) -> Any:
        return self._graph("input shape").input_shape

    @property
    def output_shape(self) -> Any:
        return self._graph("output shape").output_shape

    @property
    def output_names(self) -> list[str]:
        return self._graph("outputs").output_names

    @property
    def input_dtype(self) -> str:
        return self._stack[0].dtype if self._stack and isinstance(self._stack[0], InputLayer) else self.compute_dtype

    def call_specs(self) -> list[ArgSpec]:
        return self._graph("inputs").call_specs()

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if self._functional is not None:
            return self._functional.compute_output_spec(*args, **kwargs)
        return super().compute_output_spec(*args, **kwargs)

    def _eager_call(self, args: tuple, kwargs: dict) -> Any:
        if self._functional is None and args and hasattr(args[0], "shape"):
            shape = tuple(args[0].shape)
            stated = self._stated_shape()
            if stated is not None:
                self.build(stated)
            elif shape:
                self.build((None, *shape[1:]))
        if self._functional is not None and args:
            from .functional import _array_like

            f = self._functional
            flat = [_array_like(x, ref) for x, ref in zip(f._arrange(args[0]), f._inputs)]
            args = (flat[0], *args[1:])
        return super()._eager_call(args, kwargs)

    def _eager_array(self, x: Any) -> Any:
        from .trace import as_array

        return as_array(x) if self._functional is not None else super()._eager_array(x)

    def _eager_specs(self, arrays: list) -> list[ArgSpec]:
        return self._functional._eager_specs(arrays) if self._functional is not None else super()._eager_specs(arrays)

    def get_config(self) -> dict:
        from .serialization import serialize_keras_object

        config = Layer.get_config(self)
        config = {"name": self.name, "trainable": self.trainable, "dtype": config["dtype"]}
        config["layers"] = copy.deepcopy([serialize_keras_object(layer) for layer in self._stack])
        if self._functional is not None:
            config["build_input_shape"] = self._stated_shape()
        return config

    def get_build_config(self) -> dict | None:
        return {"input_shape": self._stated_shape()} if self._functional is not None else None

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Sequential:
        """The model that ``get_config`` (ours or Keras') described."""
        from .serialization import deserialize_keras_object

        if not isinstance(config.get("layers"), list):
            raise ArgumentError(f"a Sequential's config has 'name' and 'layers'; got the keys {sorted(config)}")
        model = cls(name=config.get("name"))
        for layer in config["layers"]:
            model.add(deserialize_keras_object(layer, custom_objects=custom_objects))
        shape = config.get("build_input_shape")
        if model._functional is None and is_shape(shape) and model._stack and shape:
            model.build(tuple(shape))
        return model
