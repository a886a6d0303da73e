"""Objects to JSON and back, in Keras' form ``{"module", "class_name", "config", "registered_name"}``.

Reading goes through one closed table: (module, class_name) -> one of kerogen's own classes, or a class that the caller handed
over
(``registration``). Nothing is imported, looked up by a dotted name, unpickled or evaluated because a file says so; a marshalled
lambda is refused.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np

from ...runtime.dtype import DType, as_dtype
from ...runtime.errors import ArgumentError, KerogenError, ModelFormatError, UnknownNameError
from .registration import CustomObjectScope, get_registered_name, get_registered_object

_MAX_DEPTH = 64  # nesting of a file's configs: deeper than any model, far below Python's recursion limit
_DEPTH: ContextVar[int] = ContextVar("kerogen_config_depth", default=0)


def by_name(kind: str, name: str, *tables: Mapping[str, Any]) -> Any:
    """The entry called ``name``, of the caller's objects or of ``tables``; raises ``UnknownNameError`` with the nearest names."""
    found = get_registered_object(name)
    if found is not None:
        return found
    for table in tables:
        if name in table:
            return table[name]
    names = sorted({n for t in tables for n in t})
    near = difflib.get_close_matches(name, names, 3, 0.5) or names
    raise UnknownNameError(f"unknown {kind} {name!r}; did you mean {', '.join(map(repr, near))}? (your own go in custom_objects)")


def from_identifier(kind: str, identifier: Any, wanted: str, *tables: Mapping[str, Any]) -> Any:
    """What ``get`` of losses, metrics, ... gives for a name (of ``tables`` or registered), a config dict, a class (an instance of
    it) or a callable; None stays None. ``wanted`` tells the user what to give instead."""
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        return deserialize_keras_object(identifier)
    found = by_name(kind, identifier, *tables) if isinstance(identifier, str) else identifier
    if inspect.isclass(found):
        return found()
    if callable(found):
        return found
    raise ArgumentError(f"{identifier!r} is no {kind}: give {wanted}")


@cache
def builtins() -> dict[str, dict[str, Any]]:
    """The closed table: module as Keras writes it -> class name -> class (or function). The first module of a class is the one
    written.
    """
    from . import (
        activations,
        constraints,
        dtype_policy,
        initializers,
        layers,
        losses,
        metrics,
        optimizers,
        regularizers,
        schedules,
    )
    from .functional import Functional
    from .layer import Layer
    from .model import Model
    from .operation import Operation
    from .random import SeedGenerator
    from .sequential import Sequential

    def classes_of(module: Any, base: type) -> dict[str, Any]:
        return {
            n: c
            for n, c in vars(module).items()
            if inspect.isclass(c) and issubclass(c, base) and n == vars(c).get("keras_name", c.__name__) and not n.startswith("_")
        }

    top = {"Sequential": Sequential, "Functional": Functional, "Model": Model, "DTypePolicy": dtype_policy.DTypePolicy}
    table = {
        "keras.layers": {n: c for n, c in classes_of(layers, Layer).items() if n not in ("Lambda", "Layer") and n not in top},
        "keras": top,
        "keras.random": {"SeedGenerator": SeedGenerator},
        "keras.initializers": dict(initializers.CLASSES),
        "keras.regularizers": dict(regularizers.CLASSES),
        "keras.constraints": dict(constraints.CLASSES),
        "keras.losses": {**losses.CLASSES, **losses.FUNCTIONS},
        "keras.metrics": {**metrics.CLASSES, **metrics.FUNCTIONS},
        "keras.optimizers": dict(optimizers.CLASSES),
        "keras.optimizers.schedules": dict(schedules.CLASSES),
        "keras.activations": {
            n: f
            for n, f in vars(activations).items()
            if inspect.isfunction(f)
            and not n.startswith("_")
            and f.__module__ == activations.__name__
            and n not in ("get", "serialize", "deserialize")
        },
    }
    table["keras.models"] = top
    table["keras.dtype_policies"] = {"DTypePolicy": dtype_policy.DTypePolicy}
    table["keras.src.models.functional"] = {"Functional": Functional, "Model": Functional}
    table["keras.src.models.sequential"] = {"Sequential": Sequential}
    table["keras.src.models.model"] = {"Model": Model}
    for module, ops in _operations(Operation, Layer).items():
        table[module] = ops
    return table


def _operations(base: type, layer: type) -> dict[str, dict[str, Any]]:
    """kerogen's op classes by the Keras module that they declare (``keras_module``, such as "keras.src.ops.numpy")."""
    out: dict[str, dict[str, Any]] = {}
    todo = list(base.__subclasses__())
    while todo:
        c = todo.pop()
        todo += c.__subclasses__()
        module = getattr(c, "keras_module", None)
        if module and not issubclass(c, layer) and not c.__name__.startswith("_"):
            out.setdefault(module, {})[c.__name__] = c
    return out


@cache
def _public_names() -> dict[Any, tuple[str, str]]:
    from .functional import Functional

    names: dict[Any, tuple[str, str]] = {Functional: ("keras.src.models.functional", "Functional")}
    for module, table in builtins().items():
        for name, obj in table.items():
            names.setdefault(obj, (module, name))
    return names


def public_name(obj: Any) -> tuple[str, str] | None:
    """(module, name) by which Keras' files call a class or function of kerogen; None for the user's own."""
    try:
        return _public_names().get(obj)
    except TypeError:
        return None


def serialize_keras_object(obj: Any) -> Any:
    """The JSON form of an object: configs of layers, losses, ..., plain values, arrays (by value), structures of these."""
    if obj is None or type(obj) in (str, int, float, bool):
        return obj
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, bool | int | float):  # subclasses of int and float, Dim among them
        return int(obj) if isinstance(obj, int) else float(obj)
    if isinstance(obj, (list, tuple)):
        return (
            type(obj)([serialize_keras_object(v) for v in obj])
            if type(obj) in (list, tuple)
            else [serialize_keras_object(v) for v in obj]
        )
    if isinstance(obj, Mapping):
        return {k: serialize_keras_object(v) for k, v in obj.items()}
    if isinstance(obj, bytes):
        return {"class_name": "__bytes__", "config": {"value": obj.decode("utf-8")}}
    if isinstance(obj, slice):
        return {
            "class_name": "__slice__",
            "config": {k: serialize_keras_object(getattr(obj, k)) for k in ("start", "stop", "step")},
        }
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, np.ndarray):
        return {"class_name": "__numpy__", "config": {"value": obj.tolist(), "dtype": str(as_dtype(obj.dtype))}}
    if isinstance(obj, DType):
        return obj.name
    history = getattr(obj, "_keras_history", None)
    if history is not None:
        layer, node, tensor = history
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": list(obj.shape), "dtype": str(obj.dtype), "keras_history": [layer.name, node, tensor]},
        }
    if inspect.isfunction(obj) or inspect.isbuiltin(obj):
        return _serialize_function(obj)
    if hasattr(obj, "get_config"):
        return _serialize_instance(obj)
    if hasattr(obj, "__array__"):
        value = np.asarray(obj)
        return {"class_name": "__tensor__", "config": {"value": value.tolist(), "dtype": str(as_dtype(value.dtype))}}
    if inspect.isclass(obj):
        return {
            "module": obj.__module__,
            "class_name": "type",
            "config": get_registered_name(obj),
            "registered_name": get_registered_name(obj),
        }
    raise ArgumentError(f"{obj!r} can't be saved: {type(obj).__name__} has no get_config()")


def _serialize_function(fn: Any) -> dict:
    if fn.__name__ == "<lambda>":
        raise ArgumentError(
            f"a lambda (line {fn.__code__.co_firstlineno} of {fn.__code__.co_filename}) can't be saved: "
            "define it with def, and give it to load_model through custom_objects"
        )
    public = public_name(fn)
    name = public[1] if public else get_registered_name(fn)
    return {"module": public[0] if public else "builtins", "class_name": "function", "config": name, "registered_name": name}


def _serialize_instance(obj: Any) -> dict:
    cls = type(obj)
    config = serialize_keras_object(obj.get_config())
    public = public_name(cls)
    if public is None:
        module = None if cls.__module__ == "__main__" else cls.__module__
        out = {"module": module, "class_name": cls.__name__, "config": config, "registered_name": get_registered_name(cls)}
    else:
        module, name = public
        out = {
            "module": module,
            "class_name": name,
            "config": config,
            "registered_name": name if module.startswith("keras.src.") else None,
        }
    for key in ("build_config", "compile_config"):
        get = getattr(obj, f"get_{key}", None)
        value = get() if get is not None else None
        if value is not None:
            out[key] = serialize_keras_object(value)
    return out


def deserialize_keras_object(
    config: Any, custom_objects: Mapping[str, Any] | None = None, safe_mode: bool = True, **kwargs: Any
) -> Any:
    """The object that ``serialize_keras_object`` (kerogen's or Keras') described. Raises ``ModelFormatError`` for what is unknown
    or damaged.

    ``safe_mode`` is accepted for Keras' sake: kerogen never runs code out of a file, so there is nothing that it could switch
    off.
    """
    with CustomObjectScope(dict(custom_objects or {})):
        return _deserialize(config, _DEPTH.get())


def _deserialize(x: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ModelFormatError(
            f"the model's configuration is nested deeper than {_MAX_DEPTH} levels; the file is damaged or hostile"
        )
    if x is None or isinstance(x, (str, int, float, bool)):
        return x
    if isinstance(x, (list, tuple)):
        return type(x)([_deserialize(v, depth + 1) for v in x])
    if not isinstance(x, dict):
        return x
    if "class_name" not in x or "config" not in x:
        return {k: _deserialize(v, depth + 1) for k, v in x.items()}
    name, config = x["class_name"], x["config"]
    if not isinstance(name, str):
        raise ModelFormatError(f"a configuration has class_name {name!r}, which is no string")
    if name in _PLAIN:
        if not isinstance(config, dict):
            raise ModelFormatError(f"{name}: the config must be a dictionary, not {config!r:.60}")
        return _PLAIN[name](config, depth)
    if name in ("__lambda__", "Lambda"):
        where = config.get("name", "") if isinstance(config, dict) else ""
        raise ModelFormatError(
            f"Lambda {where!r}: the file carries Python bytecode, which kerogen never runs. Rewrite the layer as a Layer subclass "
            "or with keras.ops, or save the model without it"
        )
    if name == "function":
        return _function(x.get("module"), config)
    return _instance(x, depth)


def _function(module: Any, name: Any) -> Any:
    if not isinstance(name, str):
        raise ModelFormatError(f"a function is named by {name!r:.60}, which is no string")
    found = get_registered_object(name)
    if found is None and isinstance(module, str):
        found = builtins().get(module, {}).get(name)
    if found is None:  # Keras puts some functions into several modules ("builtins" among them)
        found = next((t[name] for t in builtins().values() if inspect.isfunction(t.get(name))), None)
    if found is None:
        raise ModelFormatError(f"the file names the function {name!r}; give it to load_model: custom_objects={{{name!r}: ...}}")
    return found


def _instance(x: dict, depth: int) -> Any:
    name, module, registered, config = x["class_name"], x.get("module"), x.get("registered_name"), x["config"]
    label = config.get("name") if isinstance(config, dict) and isinstance(config.get("name"), str) else None
    what = f"{name} {label!r}" if label else name
    cls = _find_class(name, module, registered, what)
    if not isinstance(config, dict) or not all(isinstance(k, str) for k in config):
        raise ModelFormatError(f"{what}: its config must be a dictionary with names as keys, not {config!r:.60}")
    builtin = public_name(cls) is not None
    token = _DEPTH.set(depth + 1)  # for containers, whose from_config comes back here
    try:
        obj = cls.from_config(_arguments(cls, config, depth) if builtin else dict(config))
        build = x.get("build_config")
        if build and hasattr(obj, "build_from_config") and not getattr(obj, "built", True):
            if not isinstance(build, dict):
                raise ModelFormatError(f"{what}: build_config is {build!r:.60}, not a dictionary")
            obj.build_from_config(_tuples(build))
    except KerogenError as e:  # nested objects make a path: "Sequential 'm': Dense 'first': ..."
        raise ModelFormatError(str(e) if str(e).startswith(what) else f"{what}: {e}") from e
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, MemoryError, RecursionError) as e:
        if not builtin:
            raise  # the caller's own class: its error and its stack
        raise ModelFormatError(f"{what}: the file's config doesn't fit this class ({type(e).__name__}: {e})") from e
    finally:
        _DEPTH.reset(token)
    if (
        "compile_config" in x
        and x["compile_config"]
        and hasattr(obj, "compile_from_config")
        and not isinstance(x["compile_config"], dict)
    ):
        raise ModelFormatError(f"{what}: compile_config is {x['compile_config']!r:.60}, not a dictionary")
    return obj


def _arguments(cls: type, config: dict, depth: int) -> dict:
    """The config of a built-in class. A container's layers stay descriptions: its own ``from_config`` makes them, in order."""
    if "layers" in config:
        return dict(config)
    return {k: _argument(v, depth) for k, v in config.items()}


def _argument(v: Any, depth: int) -> Any:
    """A dtype policy becomes its name, which every layer takes (and which stays a plain value); anything else what it
    describes.
    """
    if isinstance(v, dict) and str(v.get("class_name")).endswith("DTypePolicy"):
        from . import dtype_policy

        return dtype_policy.deserialize(v).name
    return _deserialize(v, depth + 1)


def _find_class(name: str, module: Any, registered: Any, what: str) -> Any:
    """The class (which has ``from_config``) that a file names, among the registered and the built-in ones."""
    for key in (registered, name):
        if isinstance(key, str):
            found = get_registered_object(key)
            if found is not None:
                return found
    found = None
    if module is None or isinstance(module, str):
        table = builtins()
        found = table.get(module, {}).get(name) if module else None
        if found is None and isinstance(module, str) and module.startswith("keras.src.backend.") and ".optimizers." in module:
            found = table["keras.optimizers"].get(registered or name)  # the torch backend writes its private optimizer classes
        if found is None and not module:
            found = table["keras.layers"].get(name)  # Keras 2 wrote no module
    if inspect.isclass(found):
        return found
    own = (
        ""
        if isinstance(module, str) and module.startswith("keras")
        else " Give the class to load_model: custom_objects={" + repr(name) + ": ...}."
    )
    raise ModelFormatError(
        f"{what}: the file asks for class {name!r} of module {module!r}, which kerogen doesn't have; "
        f"classes are never imported on a file's word.{own}"
    )


def _array(config: dict, depth: int) -> np.ndarray:
    try:
        value, dtype = config.get("value"), as_dtype(config.get("dtype", "float32"))
        if not isinstance(value, (list, int, float, bool)):
            raise TypeError(f"its value is {value!r:.40}")
        return np.array(value, dtype=dtype.np)
    except (TypeError, ValueError, KerogenError) as e:
        raise ModelFormatError(f"an array in the model's configuration can't be read: {e}") from e


def _slice(config: dict, depth: int) -> slice:
    return slice(*[_deserialize(config.get(k), depth + 1) for k in ("start", "stop", "step")])


_PLAIN = {
    "__numpy__": _array,
    "__tensor__": _array,
    "__slice__": _slice,
    "__bytes__": lambda c, _: str(c.get("value", "")).encode("utf-8"),
    "__ellipsis__": lambda c, _: Ellipsis,
    "__tuple__": lambda c, d: tuple(_deserialize(c.get("value", []), d + 1)),
    "__keras_tensor__": lambda c, _: {"class_name": "__keras_tensor__", "config": c},
}


def _tuples(x: Any) -> Any:
    """JSON's lists as shapes: ``build_from_config`` wants tuples."""
    if isinstance(x, dict):
        return {k: _tuples(v) for k, v in x.items()}
    if isinstance(x, list):
        return tuple(x) if all(v is None or isinstance(v, int) for v in x) else [_tuples(v) for v in x]
    return x
