"""What ``kerogen.compile`` needs of a model: a trace function, the variables bound to it, and how to arrange its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...runtime.errors import StateError
from .model import Model
from .phase import training_phase
from .structure import flatten, pack_as
from .tensor import Tensor
from .trace import ArgSpec, Traced


class ModelTrace(NamedTuple):
    """``executable(trace, bindings=bindings, unflatten=unflatten, name=name)`` computes the model for inference."""

    trace: Callable
    bindings: list
    unflatten: Callable
    name: str


def model_trace(model: Model, specs: list[ArgSpec] | None = None, training: bool = False) -> ModelTrace:
    """The inference function of a built model. Inputs come flat, in the order of ``model.inputs``, under their names; results as the structure that the
    model returns, of NumPy arrays. ``specs`` replaces the inputs' shapes and types (a smaller set of sizes, names of free dimensions)."""
    if specs is None:
        if not hasattr(model, "call_specs"):
            raise StateError(f"{type(model).__name__} '{model.name}' has no fixed inputs: give kerogen.compile the inputs (specs or example arrays)")
        try:
            specs = model.call_specs()
        except AttributeError as e:
            raise StateError(str(e)) from None
    structure = getattr(getattr(model, "_functional", None) or model, "_inputs_struct", None)

    def fn(*tensors: Tensor) -> Any:
        arguments = pack_as(structure, tensors) if structure is not None and len(flatten(structure)) == len(tensors) else (
            tensors[0] if len(tensors) == 1 else list(tensors))
        with training_phase(training):
            return model(arguments, training=training) if training else model(arguments)

    traced = Traced(fn, tuple(specs), model.name)

    def unflatten(arrays: list) -> Any:
        return pack_as(traced.structure, arrays[:traced.output_count])

    return ModelTrace(traced.graph, traced.variables, unflatten, model.name)
