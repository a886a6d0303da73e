"""Functional models as configurations, in Keras' form, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ...runtime.errors import ModelFormatError
from .operation import Operation, SymbolicNode
from .structure import map_structure
from .tensor import KerasHistory, KerasTensor


def serialize_node(node: SymbolicNode, keys: set) -> dict:
    from .serialization import serialize_keras_object

    def with_own_index(x: Any) -> Any:
        if not isinstance(x, KerasTensor):
            return x
        op, index, tensor = x._keras_history
        before = len([i for i in range(index) if (id(op), i) not in keys])
        stand_in = copy.copy(x)
        stand_in._keras_history = KerasHistory(op, index - before, tensor)
        return stand_in

    return {"args": serialize_keras_object(map_structure(with_own_index, node.args)),
            "kwargs": serialize_keras_object(map_structure(with_own_index, node.kwargs))}


def functional_from_config(cls: type, config: dict, custom_objects: dict | None = None) -> Any:
    """The model that ``Functional.get_config`` (ours or Keras') described. Raises ``ModelFormatError`` for a config that doesn't hang together."""
    from .functional import Functional
    from .serialization import deserialize_keras_object

    made: dict[str, Operation] = {}
    waiting: list[tuple[Operation, list]] = []
    for data in config["layers"]:
        if not isinstance(data, Mapping) or not isinstance(data.get("name", data.get("config", {}).get("name")), str):
            raise ModelFormatError(f"functional model {config.get('name')!r}: a layer's entry has no name: {data!r:.80}")
        name = data.get("name", data.get("config", {}).get("name"))
        op = deserialize_keras_object({k: v for k, v in data.items() if k not in ("inbound_nodes", "name")}, custom_objects=custom_objects)
        if not isinstance(op, Operation):
            raise ModelFormatError(f"functional model {config.get('name')!r}: '{name}' is {type(op).__name__}, not a layer or an operation")
        if op.name != name:
            op.name = name  # ops are written without a name of their own
        made[name] = op
        waiting.append((op, list(data.get("inbound_nodes") or [])))

    def tensor(history: Any) -> KerasTensor | None:
        """The tensor that (layer, call, result) names; None while that call wasn't made."""
        if not isinstance(history, (list, tuple)) or len(history) < 3 or history[0] not in made:
            raise ModelFormatError(f"functional model {config.get('name')!r}: {history!r} names no tensor of its layers")
        op, node, index = made[history[0]], history[1], history[2]
        if not isinstance(node, int) or not isinstance(index, int) or node < 0 or index < 0:
            raise ModelFormatError(f"functional model {config.get('name')!r}: {history!r} names no tensor")
        if node >= len(op._inbound_nodes):
            return None
        outputs = op._inbound_nodes[node].outputs
        if index >= len(outputs):
            raise ModelFormatError(f"functional model {config.get('name')!r}: '{history[0]}' has {len(outputs)} results, {history!r} asks for number {index}")
        return outputs[index]

    while waiting:
        left: list[tuple[Operation, list]] = []
        progress = False
        for op, calls in waiting:
            while calls:
                arguments = _call_arguments(calls[0], tensor)
                if arguments is None:
                    break
                args, kwargs = arguments
                op(*args, **kwargs)
                calls.pop(0)
                progress = True
            if calls:
                left.append((op, calls))
        if left and not progress:
            raise ModelFormatError(f"functional model {config.get('name')!r}: the inputs of {', '.join(repr(op.name) for op, _ in left)} never come about "
                                   "(a loop, or a call that is missing)")
        waiting = left

    def find(place: Any) -> KerasTensor:
        op = made.get(place[0])
        offset = 1 if isinstance(op, Functional) else 0
        found = tensor([place[0], place[1] - offset, *place[2:]])
        if found is None:
            raise ModelFormatError(f"functional model {config.get('name')!r}: {place!r} names a call that wasn't made")
        return found

    def structure(x: Any) -> Any:
        if isinstance(x, Mapping):
            return {k: structure(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)) and len(x) == 3 and isinstance(x[0], str):
            return find(x)
        if isinstance(x, (list, tuple)):
            return type(x)([structure(v) for v in x])
        raise ModelFormatError(f"functional model {config.get('name')!r}: {x!r} is no place of a tensor")

    extra = {k: v for k, v in config.items() if k not in ("name", "trainable", "layers", "input_layers", "output_layers", "dtype")}
    return cls(inputs=structure(config["input_layers"]), outputs=structure(config["output_layers"]), name=config.get("name"),
               trainable=config.get("trainable"), **extra)


def _call_arguments(data: Any, tensor: Any) -> tuple[list, dict] | None:
    """(args, kwargs) of a recorded call, or None while one of its tensors doesn't exist yet."""
    from .serialization import deserialize_keras_object

    if isinstance(data, list):  # Keras 2: [[layer, node, tensor, kwargs], ...]
        places = [tensor(p) for p in data]
        kwargs = data[0][3] if data and len(data[0]) > 3 else {}
        return None if any(p is None for p in places) else ([places[0] if len(places) == 1 else places], dict(kwargs))
    missing = []

    def revive(x: Any) -> Any:
        if isinstance(x, Mapping) and x.get("class_name") == "__keras_tensor__":
            found = tensor(x["config"].get("keras_history"))
            if found is None:
                missing.append(x)
            return found
        if isinstance(x, Mapping) and "class_name" in x and "config" in x:
            return deserialize_keras_object(dict(x))
        if isinstance(x, Mapping):
            return {k: revive(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return type(x)([revive(v) for v in x])
        return x

    if not isinstance(data, Mapping) or not isinstance(data.get("args", []), (list, tuple)) or not isinstance(data.get("kwargs", {}), Mapping):
        raise ModelFormatError(f"a recorded call must have args and kwargs, not {data!r:.80}")
    args, kwargs = revive(list(data.get("args", []))), revive(dict(data.get("kwargs", {})))
    return None if missing else (args, kwargs)
