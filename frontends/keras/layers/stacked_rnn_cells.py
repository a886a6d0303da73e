"""Several recurrent cells as one."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import ops
from ..layer import Layer
from ..structure import flatten, is_nested


def takes_training(cell: Any) -> bool:
    return isinstance(cell, Layer) and "training" in cell._signature.parameters


def call_cell(cell: Any, inputs: Any, states: list, training: Any) -> tuple[Any, list]:
    """(output, new states) of one step; a cell need not be a Layer."""
    kwargs = {"training": training} if takes_training(cell) else {}
    call = cell if callable(cell) else cell.call
    result = call(inputs, states, **kwargs)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise ArgumentError(f"the cell {type(cell).__name__} must return a pair (output, new states) from call(inputs, states), not {result!r}")
    output, new = result
    return output, list(new) if is_nested(new) else [new]


def cell_output_size(cell: Any) -> Any:
    """The size of a step's output: ``output_size``, else the first state's."""
    size = getattr(cell, "output_size", None)
    if size is None:
        size = cell.state_size[0] if isinstance(cell.state_size, (list, tuple)) else cell.state_size
    return size


def initial_states(cell: Any, batch_size: Any, dtype: Any) -> Any:
    """``cell.get_initial_state(batch_size)``, zeros of ``state_size`` where it has none."""
    make = getattr(cell, "get_initial_state", None)
    if make is not None:
        return make(batch_size=batch_size)
    if isinstance(cell.state_size, (list, tuple)):
        return [ops.zeros((batch_size, d), dtype=dtype) for d in cell.state_size]
    return ops.zeros((batch_size, cell.state_size), dtype=dtype)


class StackedRNNCells(Layer):
    """Each cell takes the output of the one before. States: a list with the states of each cell."""

    def __init__(self, cells: Any, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(cells, (list, tuple)) or not cells:
            raise ArgumentError(f"StackedRNNCells: cells must be a list of one or more cells, got {cells!r}")
        for cell in cells:
            for attribute in ("call", "state_size"):
                if not hasattr(cell, attribute):
                    raise ArgumentError(f"StackedRNNCells: {cell!r} has no `{attribute}`; a cell has call(inputs, states) and state_size")
        self.cells = cells

    @property
    def state_size(self) -> list:
        return [c.state_size for c in self.cells]

    @property
    def output_size(self) -> Any:
        return cell_output_size(self.cells[-1])

    def get_initial_state(self, batch_size: Any = None) -> list:
        return [initial_states(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def build(self, input_shape: Any) -> None:
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], cell_output_size(cell))

    def call(self, inputs: Any, states: Any, training: Any = False) -> tuple[Any, list]:
        new_states = []
        for cell, state in zip(self.cells, states, strict=True):
            inputs, new = call_cell(cell, inputs, list(state) if is_nested(state) else [state], training)
            new_states.append(new if is_nested(state) else flatten(new)[0])
        return inputs, new_states

    def get_config(self) -> dict:
        from ..serialization import serialize_keras_object

        return {**super().get_config(), "cells": [serialize_keras_object(c) for c in self.cells]}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> StackedRNNCells:
        from ..serialization import deserialize_keras_object

        config = dict(config)
        cells = [c if not isinstance(c, dict) else deserialize_keras_object(c, custom_objects=custom_objects) for c in config.pop("cells")]
        return cls(cells, **config)
