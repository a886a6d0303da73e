"""``Model``: a layer that can be trained, saved and summarised. ``Model(inputs, outputs)`` makes a functional one."""

from __future__ import annotations

from typing import Any

from ...runtime.errors import ArgumentError, StateError, UnknownNameError
from .layer import Layer, shapes_of
from .structure import flatten, is_nested, is_shape, map_shapes
from .tensor import KerasTensor
from .trainer import Trainer


class Model(Trainer, Layer):
    """Keras' Model: subclass it (layers in ``__init__``, ``call``), or call it with the symbolic ``inputs`` and ``outputs`` of a functional model."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and _functional_arguments(args, kwargs):
            from .functional import Functional

            return Functional.__new__(Functional, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any):
        Trainer.__init__(self)
        if _functional_arguments(args, kwargs):
            # A subclass's super().__init__(inputs, outputs): the object becomes functional and keeps its class's methods.
            from .functional import Functional, functional_class

            if not isinstance(self, Functional):
                self.__class__ = functional_class(type(self))
            Functional.__init__(self, *args, **kwargs)
            return
        if args:
            raise ArgumentError(f"{type(self).__name__}: Model takes (inputs, outputs) of symbolic tensors, or keyword arguments such as name; got {args!r}")
        Layer.__init__(self, **kwargs)

    def _setting_matters(self, name: str) -> bool:
        return False

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside, in order."""
        return self._own_layers()

    @layers.setter
    def layers(self, _: Any) -> None:
        raise ArgumentError(f"{type(self).__name__}.layers can't be set; use another name for the attribute")

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of this name, or the one at this position of ``layers``."""
        if (name is None) == (index is None):
            raise ArgumentError("get_layer takes either a name or an index")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ArgumentError(f"get_layer(index={index}): the model '{self.name}' has {len(self.layers)} layers")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UnknownNameError(f"no layer {name!r} in model '{self.name}'; its layers are {', '.join(x.name for x in self.layers)}")

    def summary(self, line_length: int | None = None, positions: list | None = None, print_fn: Any = None, expand_nested: bool = False,
                show_trainable: bool = False, layer_range: list | None = None) -> None:
        """Prints a table of the layers: output shapes, numbers of parameters, totals."""
        from .summary import print_summary

        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def build(self, input_shape: Any = None) -> None:
        """Builds a subclassed model for inputs of this shape (or structure of shapes), by tracing ``call``."""
        if input_shape is None:
            raise ArgumentError(f"{type(self).__name__} '{self.name}': build() needs input_shape")
        inputs = map_shapes(lambda s: KerasTensor(s), input_shape)
        self._symbolic_build(inputs)

    def _symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        from .operation import infer

        self.built = True
        try:
            infer(lambda *a, **k: self._traced_call(a, k), args, kwargs)
        except Exception:
            self.built = False
            raise

    def _maybe_build(self, call: Any) -> None:
        if not self.built and type(self).build is Model.build:
            self._build_shapes = shapes_of(call)  # for the file; call() builds the sublayers as they are reached
            return
        super()._maybe_build(call)

    def build_from_config(self, config: dict) -> None:
        if not config:
            return
        shapes = config.get("shapes_dict")
        if shapes is not None and not self.built and type(self).build is Model.build:  # one for each tensor argument of call()
            tensors = {k.removesuffix("_shape"): map_shapes(lambda s: KerasTensor(s), s) for k, s in shapes.items()}
            self._symbolic_build(**tensors)
            self._build_shapes = shapes
            return
        shape = config.get("input_shape", shapes)
        if shape is not None and not self.built:
            self.build(shape) if is_shape(shape) or is_nested(shape) else None

    def to_json(self, **kwargs: Any) -> str:
        """The model's configuration as JSON text, from which ``models.model_from_json`` makes the same architecture."""
        import json

        from .serialization import serialize_keras_object

        return json.dumps(serialize_keras_object(self), **kwargs)

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Writes a ``.keras`` file (architecture, weights, compilation)."""
        from . import saving

        saving.save_model(self, filepath, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Writes a ``.weights.h5`` file."""
        from . import saving

        saving.save_weights(self, filepath, overwrite=overwrite, **kwargs)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        from . import saving

        saving.load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    def add_metric(self, *args: Any, **kwargs: Any) -> None:
        raise StateError("add_metric() isn't part of Keras 3: give metrics to compile(), or keep a Metric as an attribute")

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Any:
        from .functional import functional_from_config

        if {"name", "layers", "input_layers", "output_layers"} <= set(config):
            return functional_from_config(cls, config, custom_objects)
        return super().from_config(config)


def _functional_arguments(args: tuple, kwargs: dict) -> bool:
    if len(args) >= 2 or len(args) == 1 and "outputs" in kwargs:
        return any(isinstance(x, KerasTensor) for x in flatten(list(args)))
    return "inputs" in kwargs and "outputs" in kwargs
