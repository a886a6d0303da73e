"""Models, and loading and cloning them."""

from __future__ import annotations

from typing import Any

from ...runtime.errors import ModelFormatError
from .functional import Functional
from .model import Model
from .sequential import Sequential

CLASSES = {"Model": Model, "Sequential": Sequential, "Functional": Functional}


def load_model(filepath: Any, custom_objects: dict | None = None, compile: bool = True, safe_mode: bool = True) -> Any:
    """The model in a ``.keras`` file. ``custom_objects`` are your own classes and functions that it names."""
    from . import saving

    return saving.load_model(filepath, custom_objects=custom_objects, compile=compile, safe_mode=safe_mode)


def save_model(model: Any, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
    model.save(filepath, overwrite=overwrite, **kwargs)


def model_from_json(json_string: str, custom_objects: dict | None = None) -> Any:
    """The architecture that ``Model.to_json`` wrote, with fresh weights."""
    import json

    from .serialization import deserialize_keras_object

    try:
        config = json.loads(json_string)
    except (ValueError, RecursionError) as e:
        raise ModelFormatError(f"the text is no JSON: {e}") from None
    return deserialize_keras_object(config, custom_objects=custom_objects)


def clone_model(model: Any, input_tensors: Any = None, clone_function: Any = None, call_function: Any = None, recursive: bool = False,
                **kwargs: Any) -> Any:
    """A model of the same configuration with fresh weights; ``clone_function(layer)`` may give other layers (for Sequential and functional models)."""
    from .cloning import clone

    return clone(model, input_tensors, clone_function, call_function, recursive)


__all__ = ["Model", "Sequential", "clone_model", "load_model", "model_from_json", "save_model"]
