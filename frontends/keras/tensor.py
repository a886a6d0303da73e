"""The three kinds of tensor that layers and ``ops`` work on.

``KerasTensor`` is symbolic (it stands for a tensor in a functional model: shape with None, dtype, where it came from), ``Tensor`` is traced (it wraps
a node of the graph being built, sizes that are free are ``Dim``s), ``EagerTensor`` is a value (a NumPy array). All three share Python's operators,
which are the functions of ``ops``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...compiler.ir.graph import Node
from ...runtime.dim import Dim
from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError, ShapeError
from .naming import auto_name


def _binary(name: str, swap: bool = False):
    def method(self: Any, other: Any) -> Any:
        from . import ops

        fn = getattr(ops, name)
        try:
            return fn(other, self) if swap else fn(self, other)
        except ArgumentError:
            if _is_operand(other):
                raise
            return NotImplemented

    return method


def _is_operand(x: Any) -> bool:
    return isinstance(x, (bool, int, float, complex, np.ndarray, np.generic, list, tuple)) or hasattr(x, "__array__") or isinstance(x, Operators)


def _unary(name: str):
    def method(self: Any) -> Any:
        from . import ops

        return getattr(ops, name)(self)

    return method


class Operators:
    """Python's arithmetic, comparison and indexing as functions of ``ops``; ``==`` stays identity where a subclass says so."""

    __slots__ = ()
    __array_priority__ = 1000  # NumPy's operators leave ``array + tensor`` to us

    __add__, __radd__ = _binary("add"), _binary("add", True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", True)
    __truediv__, __rtruediv__ = _binary("true_divide"), _binary("true_divide", True)
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _binary("floor_divide", True)
    __mod__, __rmod__ = _binary("mod"), _binary("mod", True)
    __pow__, __rpow__ = _binary("power"), _binary("power", True)
    __matmul__, __rmatmul__ = _binary("matmul"), _binary("matmul", True)
    __and__, __rand__ = _binary("logical_and"), _binary("logical_and", True)
    __or__, __ror__ = _binary("logical_or"), _binary("logical_or", True)
    __xor__, __rxor__ = _binary("logical_xor"), _binary("logical_xor", True)
    __lt__, __le__, __gt__, __ge__ = _binary("less"), _binary("less_equal"), _binary("greater"), _binary("greater_equal")
    __ne__ = _binary("not_equal")
    __neg__, __abs__, __invert__ = _unary("negative"), _unary("absolute"), _unary("logical_not")
    __hash__ = object.__hash__

    shape: tuple

    def __getitem__(self, key: Any) -> Any:
        from . import ops

        return ops.get_item(self, key)

    def __round__(self, ndigits: int | None = None) -> Any:
        from . import ops

        return ops.round(self, decimals=ndigits or 0)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def T(self) -> Any:
        from . import ops

        return ops.transpose(self)

    def astype(self, dtype: Any) -> Any:
        from . import ops

        return ops.cast(self, dtype)

    def reshape(self, *newshape: Any) -> Any:
        from . import ops

        return ops.reshape(self, newshape[0] if len(newshape) == 1 and isinstance(newshape[0], (list, tuple)) else newshape)


class KerasHistory(NamedTuple):
    """Which call made a symbolic tensor: the operation, the number of the call among its calls, the number of the result."""

    operation: Any
    node_index: int
    tensor_index: int


class KerasTensor(Operators):
    """A tensor of a functional model: ``shape`` (None where the size is free), ``dtype`` (a name), ``name``."""

    def __init__(self, shape: tuple, dtype: Any = "float32", sparse: bool = False, ragged: bool = False, record_history: bool = True,
                 name: str | None = None):
        if sparse or ragged:
            raise ArgumentError("sparse and ragged tensors aren't supported: give dense ones")
        self.shape = standardize_shape(shape)
        self.dtype = as_dtype(dtype).name
        self.sparse = self.ragged = False
        self.record_history = record_history
        self.name = name or auto_name("keras_tensor")
        self._keras_history: KerasHistory | None = None

    def _concrete(self, what: str) -> Any:
        raise ArgumentError(f"{what} needs a value, but {self!r} is a symbolic tensor of a functional model: it has a value only when the model runs. "
                            "Use functions of kerogen.ops in place of NumPy's, or a Layer")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._concrete("np.asarray")

    def __bool__(self) -> bool:
        return self._concrete("Python's if, while, and, or, not")

    def __float__(self) -> float:
        return self._concrete("float()")

    def __int__(self) -> int:
        return self._concrete("int()")

    def __iter__(self) -> Iterator:
        raise ArgumentError(f"{self!r} is symbolic and can't be iterated over; ops.unstack gives its parts")

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, sparse=False, ragged=False, name={self.name}>"


class Tensor(Operators):
    """A node of the graph being traced. ``shape`` holds ints, some of them ``Dim``s; ``dtype`` is a name."""

    __slots__ = ("node", "_keras_mask", "__weakref__")

    def __init__(self, node: Node):
        self.node = node
        self._keras_mask = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @property
    def dtype(self) -> str:
        return self.node.dtype.name

    def _concrete(self, what: str) -> Any:
        raise ArgumentError(f"{what} needs a value, but {self!r} is traced: it has a value only when the compiled function runs. Use ops.where, "
                            "ops.cond or a mask for a choice that depends on data, and functions of kerogen.ops in place of NumPy's")

    __array__ = KerasTensor.__array__
    __bool__, __float__, __int__ = KerasTensor.__bool__, KerasTensor.__float__, KerasTensor.__int__

    __eq__ = _binary("equal")
    __hash__ = object.__hash__

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("a scalar has no len()")
        return int(self.shape[0])

    def __iter__(self) -> Iterator:
        return iter([self[i] for i in range(len(self))])

    def __repr__(self) -> str:
        return f"<Tensor {self.node.type}>"


class EagerTensor(Operators):
    """A value that was computed: an array with kerogen's operators. ``numpy()`` and ``np.asarray`` give the array (not copied)."""

    __slots__ = ("_array", "_keras_mask", "__weakref__")

    def __init__(self, array: np.ndarray):
        self._array = array
        self._keras_mask = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    def numpy(self) -> np.ndarray:
        return self._array

    def item(self) -> Any:
        return self._array.item()

    def tolist(self) -> Any:
        return self._array.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self._array if dtype is None else self._array.astype(dtype, copy=False)
        return a.copy() if copy and a is self._array else a

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()

    __eq__ = _binary("equal")
    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> EagerTensor:
        key = tuple([np.asarray(k) if isinstance(k, Operators) else k for k in key]) if isinstance(key, tuple) else (
            np.asarray(key) if isinstance(key, Operators) else key)
        return EagerTensor(np.asarray(self._array[key]))

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator:
        return iter([EagerTensor(np.asarray(a)) for a in self._array])

    def __bool__(self) -> bool:
        return bool(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __int__(self) -> int:
        return int(self._array)

    def __index__(self) -> int:
        return self._array.__index__()

    def __format__(self, spec: str) -> str:
        return format(self._array.item() if spec and self._array.ndim == 0 else self._array, spec)

    def __repr__(self) -> str:
        return f"<kerogen.Tensor shape={self.shape} dtype={self.dtype}\n{self._array!r}>"

    def __str__(self) -> str:
        return str(self._array)

    def __reduce__(self) -> tuple:
        return EagerTensor, (self._array,)


def standardize_shape(shape: Any) -> tuple:
    """A tuple of ints and None; raises ``ShapeError`` for anything else."""
    if shape is None or isinstance(shape, (str, bytes)) or not hasattr(shape, "__iter__"):
        raise ShapeError(f"a shape is a tuple of sizes (None where a size is free), not {shape!r}")
    out = []
    for d in shape:
        if d is None:
            out.append(None)
            continue
        if isinstance(d, bool) or not hasattr(d, "__index__"):
            raise ShapeError(f"shape {shape!r}: {d!r} is no size; a size is an int >= 0, or None where it is free")
        d = d if isinstance(d, int) else d.__index__()
        if d < 0:
            raise ShapeError(f"shape {tuple(shape)!r} has a negative size")
        out.append(d)
    return tuple(out)


def known_shape(shape: tuple) -> tuple:
    """A shape with None for sizes that are free."""
    return tuple([None if type(d) is Dim else d for d in shape])


def is_keras_tensor(x: Any) -> bool:
    return isinstance(x, KerasTensor)
