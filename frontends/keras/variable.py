"""Variables: arrays with a name, which traced functions read as inputs of their graph and assign as outputs of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError, ShapeError
from . import config
from .naming import auto_name, check_name, current_path
from .tensor import EagerTensor, Operators, Tensor, standardize_shape

# The dtype that float variables are read in, while a layer that computes in another type than it stores runs; None: their own.
_AUTOCAST: ContextVar[str | None] = ContextVar("kerogen_autocast", default=None)


@contextlib.contextmanager
def autocast(dtype: str | None) -> Iterator[None]:
    """Inside, float variables are read as ``dtype`` (None: as they are stored)."""
    token = _AUTOCAST.set(dtype)
    try:
        yield
    finally:
        _AUTOCAST.reset(token)


class Variable(Operators):
    """``Variable(initializer, shape=None, dtype=None, trainable=True, autocast=True, aggregation=..., name=None)``, as Keras'.

    ``initializer`` is a value, or an initializer (name, object, callable) together with ``shape``. ``array`` is the value (C-contiguous, written
    in place when a compiled function updates it) and ``version`` counts its changes; executables watch both.
    """

    def __init__(self, initializer: Any, shape: Any = None, dtype: Any = None, trainable: bool = True, autocast: bool = True,
                 aggregation: str | None = "none", synchronization: str | None = "auto", name: str | None = None, **kwargs: Any):
        if kwargs:
            raise ArgumentError(f"Variable got unknown arguments {', '.join(sorted(kwargs))}")
        self.name = check_name(name or auto_name("variable"), "Variable")
        parent = current_path()
        self.path = f"{parent}/{self.name}" if parent else self.name
        self._trainable, self._autocast = bool(trainable), bool(autocast)
        self.born_trainable = self._trainable  # its place among a layer's weights doesn't change when training is switched off
        self.aggregation, self.synchronization = aggregation or "none", synchronization or "none"
        self.regularizer: Any = None
        self.constraint: Any = None
        self.overwrite_with_gradient = False
        self.version = 0
        if isinstance(initializer, str):
            from . import initializers

            initializer = initializers.get(initializer)
        if callable(initializer):
            if shape is None:
                raise ArgumentError(f"Variable '{self.path}': an initializer needs the argument shape")
            shape = standardize_shape(shape)
            if None in shape:
                raise ShapeError(f"Variable '{self.path}': its shape {shape} must have no None; build the layer on an input whose sizes are known there")
            dt = as_dtype(config.standardize_dtype(dtype))
            value = np.asarray(initializer(shape, dtype=dt.name))
            if value.shape != shape:
                raise ShapeError(f"Variable '{self.path}': the initializer gave shape {value.shape} where {shape} was asked for")
        else:
            if isinstance(initializer, (Tensor,)):
                raise ArgumentError(f"Variable '{self.path}': its initial value is a traced tensor; make variables in __init__ or build(), not from data")
            value = np.asarray(initializer)
            if dtype is None and not hasattr(initializer, "dtype"):
                dtype = {"f": config.floatx(), "i": "int32"}.get(value.dtype.kind, value.dtype)
            dt = as_dtype(value.dtype if dtype is None else dtype)
            if shape is not None and standardize_shape(shape) != value.shape:
                raise ShapeError(f"Variable '{self.path}': shape {tuple(shape)} was asked for, the value has {value.shape}")
        self._dtype = dt
        self.array: np.ndarray = np.array(value, dtype=dt.np, order="C")  # its own copy

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def size(self) -> int:
        return self.array.size

    @property
    def dtype(self) -> str:
        """The dtype in which it is read here: its own, or the computing layer's."""
        cast = _AUTOCAST.get()
        return cast if cast is not None and self._autocast and self._dtype.is_float else self._dtype.name

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)

    @property
    def value(self) -> Any:
        """The value: a traced tensor while a function is traced, else an ``EagerTensor`` (a copy, which later updates don't change)."""
        from .trace import current_scope, variable_node

        scope = current_scope()
        if scope is not None:
            return Tensor(variable_node(scope, self))
        a = self.array.copy()
        return EagerTensor(a.astype(as_dtype(self.dtype).np, copy=False))

    def numpy(self) -> np.ndarray:
        """A copy of the value."""
        return self.array.copy()

    def assign(self, value: Any) -> Any:
        """Sets the value: at once, or (while a function is traced) as an output of its graph. Shapes must be equal; the dtype is kept."""
        from .trace import current_scope

        shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
        if len(shape) != len(self.shape) or any(a != b for a, b in zip(shape, self.shape)):
            raise ShapeError(f"Variable '{self.path}' has shape {self.shape}; a value of shape {shape} can't be assigned to it")
        scope = current_scope()
        if scope is not None:
            from ...compiler import ops
            from .trace import as_node

            node = ops.cast(as_node(value), self._dtype)
            scope.assign(self, node)
            return Tensor(node)
        self.array[...] = np.asarray(value)
        self.version += 1
        return value

    def assign_add(self, value: Any) -> Any:
        return self.assign(self + value)

    def assign_sub(self, value: Any) -> Any:
        return self.assign(self - value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        from .trace import current_scope

        if current_scope() is not None:
            raise ArgumentError(f"np.asarray of Variable '{self.path}' while a function is traced: its value isn't known yet; use functions of kerogen.ops")
        return np.array(self.array, dtype=dtype)

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    __eq__ = EagerTensor.__eq__
    __hash__ = object.__hash__

    def __float__(self) -> float:
        return float(self.__array__())

    def __int__(self) -> int:
        return int(self.__array__())

    def __bool__(self) -> bool:
        return bool(self.__array__())

    def __len__(self) -> int:
        return len(self.array)

    def __deepcopy__(self, memo: dict) -> Variable:
        new = object.__new__(Variable)
        new.__dict__.update(self.__dict__)
        new.array, new.version = self.array.copy(), 0
        memo[id(self)] = new
        return new

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self._dtype.name}, value={self.array}>"
