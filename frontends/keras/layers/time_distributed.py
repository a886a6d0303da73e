"""A layer applied to every step of time."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ShapeError
from .. import ops
from ..ops.control import map_rows
from ..tensor import Tensor
from ..trace import as_node
from .core import Wrapper


class TimeDistributed(Wrapper):
    """``layer`` on each (batch, ...) of (batch, time, ...). It is traced once: what can be computed for all steps at once, is; statistics and random
    numbers move from step to step as if the layer were called that often. The time axis may be free."""

    def __init__(self, layer: Any, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def _step_shape(self, input_shape: Any) -> tuple:
        if not isinstance(input_shape, (list, tuple)) or len(input_shape) < 3:
            raise ShapeError(f"TimeDistributed '{self.name}' takes (batch, time, ...) with at least 3 axes, got shape {input_shape}")
        return (input_shape[0], *input_shape[2:])

    def build(self, input_shape: Any) -> None:
        super().build(self._step_shape(input_shape))

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = self.layer.compute_output_shape(self._step_shape(input_shape))
        return (shape[0], input_shape[1], *shape[1:])

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if mask is not None and (len(mask.shape) < 2 or mask.shape[0] != inputs.shape[0] or mask.shape[1] != inputs.shape[1]):
            raise ShapeError(f"TimeDistributed '{self.name}': the mask has shape {tuple(mask.shape)}; its first axes must be those of the input, "
                             f"{tuple(inputs.shape[:2])} (batch, time)")
        takes = self.layer._signature.parameters
        masked = mask is not None and "mask" in takes

        def step(rows: list) -> list:
            kwargs: dict[str, Any] = {"mask": Tensor(rows[1])} if masked else {}
            if "training" in takes:
                kwargs["training"] = training
            return [as_node(self.layer.call(Tensor(rows[0]), **kwargs))]

        time_first = [as_node(_swapped(x)) for x in ([inputs, mask] if masked else [inputs])]
        return _swapped(Tensor(map_rows(step, time_first)[0]))


def _swapped(x: Any) -> Any:
    """(batch, time, ...) as (time, batch, ...), and back."""
    return ops.transpose(x, (1, 0, *range(2, len(x.shape))))
