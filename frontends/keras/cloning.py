"""``clone_model``: the same architecture with fresh weights."""

from __future__ import annotations

from typing import Any

from ...runtime.errors import ArgumentError
from .functional import Functional
from .layer import Layer
from .layers.input_layer import Input, InputLayer
from .model import Model
from .sequential import Sequential
from .structure import flatten, map_structure, pack_as
from .tensor import KerasTensor


def _fresh(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def clone(model: Model, input_tensors: Any = None, clone_function: Any = None, call_function: Any = None, recursive: bool = False) -> Model:
    """See ``models.clone_model``."""
    make = clone_function or _fresh

    def one(layer: Any) -> Any:
        if isinstance(layer, InputLayer):
            return layer
        if recursive and isinstance(layer, (Functional, Sequential)):
            return clone(layer, clone_function=clone_function, call_function=call_function, recursive=True)
        return make(layer) if isinstance(layer, Layer) else _fresh(layer)

    if isinstance(model, Sequential):
        layers = [one(layer) for layer in model.layers]
        if input_tensors is not None:
            return Sequential([flatten(input_tensors)[0], *layers], name=model.name)
        first = model._stack[0] if model._stack else None
        start = [InputLayer(batch_shape=first.batch_shape, dtype=first.dtype, name=first.name)] if isinstance(first, InputLayer) else []
        return Sequential([*start, *layers], name=model.name)
    if not isinstance(model, Functional):
        if clone_function is not None or input_tensors is not None:
            raise ArgumentError("clone_model: clone_function and input_tensors need a Sequential or functional model")
        return _fresh(model)
    if input_tensors is None:
        inputs = [Input(batch_shape=x.shape, dtype=x.dtype, name=x.name) for x in model.inputs]
    else:
        inputs = flatten(input_tensors)
    made: dict[int, Any] = {}
    values: dict[int, KerasTensor] = {id(s): x for s, x in zip(model.inputs, inputs)}
    for node in model._run_order:
        op = node.operation
        if id(op) not in made:
            made[id(op)] = one(op)
        args, kwargs = node.fill_in(values)
        out = call_function(made[id(op)], *args, **kwargs) if call_function else made[id(op)](*args, **kwargs)
        values.update({id(x): y for x, y in zip(node.outputs, flatten(out))})
    outputs = map_structure(lambda x: values[id(x)], model._outputs_struct)
    return Functional(pack_as(model._inputs_struct, inputs), outputs, name=model.name)
