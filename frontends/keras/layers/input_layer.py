"""``Input`` and the layer behind it."""

from __future__ import annotations

from typing import Any

from ....runtime.dtype import as_dtype
from ....runtime.errors import ArgumentError, UnsupportedOpError
from .. import config
from ..layer import Layer
from ..operation import SymbolicNode
from ..tensor import KerasTensor, standardize_shape


class InputLayer(Layer):
    """An input of a model: ``shape`` without the batch axis, or ``batch_shape`` with it."""

    def __init__(self, shape: Any = None, batch_size: int | None = None, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None,
                 batch_shape: Any = None, input_tensor: Any = None, optional: bool = False, name: str | None = None, **kwargs: Any):
        super().__init__(name=name)
        if "input_shape" in kwargs:
            shape = kwargs.pop("input_shape")
        if "batch_input_shape" in kwargs:
            batch_shape = kwargs.pop("batch_input_shape")
        if kwargs:
            raise ArgumentError(f"InputLayer got unknown arguments {', '.join(kwargs)}")
        if sparse or ragged:
            raise UnsupportedOpError(f"InputLayer '{self.name}': sparse and ragged inputs aren't supported; give dense ones")
        if input_tensor is not None:
            if not isinstance(input_tensor, KerasTensor):
                raise ArgumentError(f"InputLayer '{self.name}': input_tensor must be a symbolic tensor, got {input_tensor!r}")
            batch_shape, dtype = input_tensor.shape, dtype or input_tensor.dtype
        elif shape is not None and batch_shape is not None:
            raise ArgumentError(f"InputLayer '{self.name}': give shape or batch_shape, not both (shape={shape}, batch_shape={batch_shape})")
        elif shape is None and batch_shape is None:
            raise ArgumentError(f"InputLayer '{self.name}': give the shape of one sample (shape=...)")
        if batch_shape is None:
            batch_shape = (batch_size, *standardize_shape((shape,) if isinstance(shape, int) else shape))
        self._batch_shape = standardize_shape(batch_shape)
        self._dtype = as_dtype(dtype or config.floatx()).name
        self.optional = optional
        self.built = True
        out = input_tensor if input_tensor is not None else KerasTensor(self._batch_shape, self._dtype, name=self.name)
        SymbolicNode(self, (), {}, out)

    def call(self) -> None:
        return None

    @property
    def batch_shape(self) -> tuple:
        return self._batch_shape

    @property
    def dtype(self) -> str:
        return self._dtype

    def get_config(self) -> dict:
        return {"batch_shape": self._batch_shape, "dtype": self._dtype, "sparse": False, "ragged": False, "name": self.name, "optional": self.optional}

    def __repr__(self) -> str:
        return f"<InputLayer name={self.name}, batch_shape={self._batch_shape}>"


def Input(shape: Any = None, batch_size: int | None = None, dtype: Any = None, sparse: bool | None = None, batch_shape: Any = None,
          name: str | None = None, tensor: Any = None, optional: bool = False, ragged: bool | None = None) -> KerasTensor:
    """A symbolic tensor that a functional model (or ``Sequential``) begins with. None sizes are free."""
    layer = InputLayer(shape=shape, batch_size=batch_size, dtype=dtype, sparse=sparse, batch_shape=batch_shape, name=name, input_tensor=tensor,
                       optional=optional, ragged=ragged)
    return layer.output
