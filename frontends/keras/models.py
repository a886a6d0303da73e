"""``keras.models``: the model classes, and loading, saving and cloning them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...runtime.errors import ArgumentError, ModelFormatError
from .archive import parse_json
from .functional import Functional
from .layer import Layer
from .model import Model
from .saving import load_model, save_model
from .sequential import Sequential
from .serialization import deserialize_keras_object, serialize_keras_object

__all__ = ["Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]


def model_from_json(json_string: str, custom_objects: dict[str, Any] | None = None) -> Model:
    """The model that ``model.to_json()`` described, with new weights."""
    config = parse_json(json_string, "the model's description")
    model = deserialize_keras_object(config, custom_objects=custom_objects)
    if not isinstance(model, Model):
        raise ModelFormatError(f"the description is of a {type(model).__name__}, not of a model")
    return model


def clone_model(model: Model, input_tensors: Any = None, clone_function: Callable[[Layer], Layer] | None = None, call_function: Any = None,
                recursive: bool = False, **kwargs: Any) -> Model:
    """A model of the same architecture, with layers and weights of its own. Layers may be replaced by what ``clone_function(layer)`` gives."""
    if input_tensors is not None or call_function is not None or kwargs:
        raise ArgumentError("clone_model takes clone_function; input_tensors and call_function aren't supported")
    if not isinstance(model, (Sequential, Functional)):
        raise ArgumentError(f"clone_model needs a Sequential or functional model, got {type(model).__name__}: make a new one from its class instead")
    if clone_function is None:
        return type(model).from_config(model.get_config())
    if isinstance(model, Sequential):
        return Sequential([clone_function(layer) for layer in model._stack], name=model.name)
    config = model.get_config()
    layers = {layer.name: layer for layer in model.layers}
    for entry in config["layers"]:
        if entry["name"] in layers:
            clone = serialize_keras_object(clone_function(layers[entry["name"]]))
            entry.update({k: clone[k] for k in ("module", "class_name", "config", "registered_name") if k in clone})
    return type(model).from_config(config)
