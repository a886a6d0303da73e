"""Keras' small tools."""

from __future__ import annotations

import random as python_random
from collections.abc import Sequence as SequenceType
from typing import Any

import numpy as np

from ...runtime.errors import ArgumentError, UnsupportedOpError
from .naming import reset_names
from .random import reset_global_seed
from .registration import (
    CustomObjectScope,
    custom_object_scope,
    get_custom_objects,
    get_registered_name,
    get_registered_object,
    register_keras_serializable,
)
from .serialization import deserialize_keras_object, serialize_keras_object


def set_random_seed(seed: int) -> None:
    """Seeds Python's, NumPy's and kerogen's random numbers: initial weights, dropout and shuffling come out the same."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ArgumentError(f"set_random_seed: the seed must be an integer, got {seed!r}")
    python_random.seed(int(seed))
    np.random.seed(int(seed) & 0xFFFFFFFF)
    reset_global_seed(int(seed))


def clear_session(free_memory: bool = True) -> None:
    """Automatic names start again, as does the default random generator's seed."""
    reset_names()
    reset_global_seed()


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """One-hot rows (float32) of integer classes; a last axis of size 1 goes."""
    labels = np.array(x, dtype=np.int64)
    shape = labels.shape
    if shape and shape[-1] == 1 and len(shape) > 1:
        shape = shape[:-1]
    flat = labels.reshape(-1)
    if flat.size and flat.min() < 0:
        raise ArgumentError(f"to_categorical: classes are >= 0, got {flat.min()}")
    classes = num_classes or (int(flat.max()) + 1 if flat.size else 0)
    if flat.size and flat.max() >= classes:
        raise ArgumentError(f"to_categorical: class {flat.max()} doesn't fit num_classes={classes}")
    out = np.zeros((flat.size, classes), np.float32)
    out[np.arange(flat.size), flat] = 1
    return out.reshape((*shape, classes))


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """``x`` over its norms along ``axis``."""
    x = np.asarray(x)
    norm = np.atleast_1d(np.linalg.norm(x, order, axis))
    norm[norm == 0] = 1
    return x / np.expand_dims(norm, axis)


def pad_sequences(sequences: SequenceType, maxlen: int | None = None, dtype: Any = "int32", padding: str = "pre", truncating: str = "pre",
                  value: Any = 0.0) -> np.ndarray:
    """Sequences of different lengths as one array: cut and filled at their beginning ("pre") or end ("post")."""
    for name, v in (("padding", padding), ("truncating", truncating)):
        if v not in ("pre", "post"):
            raise ArgumentError(f"pad_sequences: {name} is 'pre' or 'post', not {v!r}")
    lists = [np.asarray(s) for s in sequences]
    length = maxlen if maxlen is not None else max((len(s) for s in lists), default=0)
    rest = next((s.shape[1:] for s in lists if len(s)), ())
    out = np.full((len(lists), length, *rest), value, dtype=dtype)
    for i, s in enumerate(lists):
        if len(s):
            if s.shape[1:] != rest:
                raise ArgumentError(f"pad_sequences: sequence {i} has samples of shape {s.shape[1:]}, the first has {rest}")
            s = s[-length:] if truncating == "pre" else s[:length]
            if length:
                out[i, :len(s)] = s if padding == "post" else out[i, :len(s)]
                if padding == "pre":
                    out[i, length - len(s):] = s
    return out


def get_file(fname: str | None = None, origin: str | None = None, *args: Any, **kwargs: Any) -> str:
    raise UnsupportedOpError(f"get_file: kerogen doesn't download ({origin or fname!r}); fetch the file yourself and give its path")


def get_source_inputs(tensor: Any) -> list:
    """The inputs that a symbolic tensor depends on."""
    seen, out, todo = set(), [], [tensor]
    while todo:
        x = todo.pop()
        node = x._keras_history.operation._inbound_nodes[x._keras_history.node_index]
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.is_input:
            out.append(x)
        todo.extend(node.input_tensors)
    return out


def is_keras_tensor(x: Any) -> bool:
    from .tensor import KerasTensor

    return isinstance(x, KerasTensor)


__all__ = ["clear_session", "get_file", "get_source_inputs", "is_keras_tensor", "normalize", "pad_sequences", "set_random_seed", "to_categorical",
           "register_keras_serializable", "custom_object_scope", "CustomObjectScope", "get_custom_objects", "get_registered_name",
           "get_registered_object", "serialize_keras_object", "deserialize_keras_object"]
