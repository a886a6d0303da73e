"""Models to files and back: ``.keras`` (configuration, weights, optimizer state) and ``.weights.h5``, in Keras 3's own layout."""

from __future__ import annotations

import datetime
import json
import os
import warnings
from typing import Any

import numpy as np

from ...runtime.errors import ArgumentError, KerogenError, ModelFormatError, StateError
from . import archive, atomic_file, weights_file
from .initializers import placeholders
from .registration import (
    CustomObjectScope,
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from .serialization import deserialize_keras_object, serialize_keras_object

__all__ = [
    "CustomObjectScope",
    "custom_object_scope",
    "deserialize_keras_object",
    "get_custom_objects",
    "get_registered_name",
    "get_registered_object",
    "load_model",
    "load_weights",
    "register_keras_serializable",
    "save_model",
    "save_weights",
    "serialize_keras_object",
]

_KERAS_VERSION = "3.15.1"  # the version whose layout is written


def _path(filepath: Any) -> str:
    if not isinstance(filepath, (str, os.PathLike)):
        raise ArgumentError(f"a path is a string or a pathlib.Path, not {filepath!r} ({type(filepath).__name__})")
    return str(os.fspath(filepath))


def save_model(
    model: Any, filepath: str | os.PathLike, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
) -> None:
    """Writes ``filepath`` (its name must end in ``.keras``), atomically. Keras loads it."""
    path = _path(filepath)
    if kwargs:
        raise ArgumentError(f"save: unknown argument(s) {', '.join(kwargs)}")
    if not path.endswith(".keras"):
        hint = (
            "; for weights alone use save_weights with a name that ends in .weights.h5" if path.endswith((".h5", ".hdf5")) else ""
        )
        raise ArgumentError(f"a model is saved to a file whose name ends in .keras, got {path!r}{hint}")
    if zipped is False:
        raise ArgumentError("models are saved as one .keras file; unzipped folders aren't written")
    if not getattr(model, "built", False):
        raise StateError(
            f"{model.name} isn't built, so it has no weights yet: call it on data, or give it an input shape, then save it"
        )
    config = serialize_keras_object(model)
    metadata = {"keras_version": _KERAS_VERSION, "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")}
    members = {
        archive.METADATA: json.dumps(metadata).encode(),
        archive.CONFIG: json.dumps(config, default=_plain).encode(),
        archive.WEIGHTS: weights_file.dump(model),
    }
    atomic_file.write(path, archive.build(members), overwrite)


def _plain(x: Any) -> Any:
    if isinstance(x, np.generic):
        return x.item()
    raise ArgumentError(
        f"{x!r} ({type(x).__name__}) in a layer's configuration can't be written as JSON; get_config() must give plain values"
    )


def load_model(
    filepath: str | os.PathLike, custom_objects: dict[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """The model in a ``.keras`` file, written by kerogen or by Keras (which needn't be installed).

    ``custom_objects``: your own classes and functions by name. Code inside the file is never run, whatever ``safe_mode`` says.
    Raises ``ModelFormatError`` for files that are damaged, hostile, or need a class that kerogen doesn't have.
    """
    path = _path(filepath)
    if not os.path.exists(path):
        raise ArgumentError(f"there is no file {path}")
    if os.path.isdir(path):
        raise ModelFormatError(f"{path} is a folder; give a .keras file")
    with open(path, "rb") as f:
        magic = f.read(8)
    if magic.startswith(b"\x89HDF"):
        raise ModelFormatError(
            f"{path} is an HDF5 file (Keras' older format, or weights alone): load it in Keras and save it as .keras, "
            "or build the model and call load_weights"
        )
    with archive.Archive(path) as members:
        config = members.json(archive.CONFIG)
        if not isinstance(config, dict) or "class_name" not in config:
            raise ModelFormatError(f"{path}: {archive.CONFIG} describes no model")
        if archive.METADATA in members:
            _check_version(members.json(archive.METADATA), path)
        if archive.WEIGHTS not in members:
            raise ModelFormatError(
                f"{path} has no {archive.WEIGHTS}"
                + (
                    " (weights in .npz may hold pickles and aren't read; save the model with HDF5 weights)"
                    if "model.weights.npz" in members
                    else ""
                )
            )
        content = members.read(archive.WEIGHTS)
    # Keras stores weights uncompressed, so variables can't be much larger than the file; layers keep some state that isn't saved
    budget = 16 * len(content) + 2**26
    with CustomObjectScope(custom_objects):
        with placeholders(budget):
            try:
                model = deserialize_keras_object(config)
            except ModelFormatError as e:
                raise ModelFormatError(f"{path}: {e}") from e
            from .layer import Layer

            if not isinstance(model, Layer) or not hasattr(model, "compile_from_config"):
                raise ModelFormatError(f"{path} holds a {type(model).__name__}, not a model")
            settings = config.get("compile_config")
            if compile and settings:
                _compile(model, settings, path)
        skipped = weights_file.restore(model, content, f"{path}: {archive.WEIGHTS}")
    if compile and skipped:
        warnings.warn("; ".join(skipped), stacklevel=2)
    return model


def _check_version(metadata: Any, path: str) -> None:
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if isinstance(version, str) and version.split(".")[0] not in ("2", "3"):
        raise ModelFormatError(f"{path} was written by Keras {version[:20]}; files of Keras 3 (and 2.12 on) are read")


def _compile(model: Any, settings: Any, path: str) -> None:
    if not isinstance(settings, dict):
        raise ModelFormatError(f"{path}: compile_config is {settings!r:.60}, not a dictionary")
    try:
        model.compile_from_config(settings)
    except ModelFormatError:
        raise
    except KerogenError as e:
        warnings.warn(
            f"{path}: the model is loaded without what it was compiled with ({e}); call compile() before training", stacklevel=3
        )
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise ModelFormatError(f"{path}: compile_config doesn't fit ({type(e).__name__}: {e})") from e


def save_weights(
    model: Any, filepath: str | os.PathLike, overwrite: bool = True, max_shard_size: Any = None, **kwargs: Any
) -> None:
    """Writes the weights, optimizer state included, to a file whose name ends in ``.weights.h5``."""
    path = _path(filepath)
    if not path.endswith(".weights.h5"):
        raise ArgumentError(f"weights are saved to a file whose name ends in .weights.h5, got {path!r}")
    if max_shard_size is not None:
        raise ArgumentError("weights are written to one file; max_shard_size isn't supported")
    if not model.built:
        raise StateError(f"{model.name} isn't built, so it has no weights yet: call it on data, or give it an input shape first")
    atomic_file.write(path, weights_file.dump(model), overwrite)


def load_weights(model: Any, filepath: str | os.PathLike, skip_mismatch: bool = False, **kwargs: Any) -> None:
    """Sets the weights from a ``.weights.h5`` file, or from a ``.keras`` file. A file that doesn't fit changes nothing."""
    path = _path(filepath)
    if not os.path.isfile(path):
        raise ArgumentError(f"there is no file {path}")
    if path.endswith(".keras"):
        with archive.Archive(path) as members:
            content = members.read(archive.WEIGHTS)
    elif path.endswith(".weights.h5"):
        with open(path, "rb") as f:
            content = f.read()
    else:
        raise ArgumentError(f"weights are read from files whose name ends in .weights.h5 or .keras, got {path!r}")
    if not model.built:
        raise StateError(f"{model.name} isn't built, so it has no weights yet: call it on data, or give it an input shape first")
    skipped = weights_file.restore(model, content, path, skip_mismatch)
    if skipped:
        warnings.warn("; ".join(skipped), stacklevel=2)
