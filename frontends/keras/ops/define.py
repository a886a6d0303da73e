"""How a function of ``ops`` is defined: one body on graph nodes gives the public function and the ``Operation`` class that Keras' files name.

    @operation("keras.src.ops.numpy", tensors=1)
    def mean(x, axis=None, keepdims=False): ...

The first ``tensors`` parameters are tensors (or lists of them), the others are attributes. The function records a call on symbolic tensors, computes
nodes while a function is traced, and on arrays runs a compiled graph that is cached per shapes, dtypes and attributes.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from ....compiler import ops as F
from ....compiler.ir.graph import Node
from ....compiler.ops.lift import common_dtype
from ....runtime.errors import ArgumentError
from .. import config
from ..operation import Operation, has_symbolic
from ..structure import flatten, map_structure
from ..tensor import EagerTensor, KerasTensor, Tensor
from ..trace import ArgSpec, as_array, as_node, compile_function, current_scope
from ..variable import Variable

CLASSES: dict[str, type[Operation]] = {}
_CACHE: OrderedDict[tuple, Any] = OrderedDict()
_CACHE_SIZE = 512
_LOCK = Lock()


class FunctionOperation(Operation):
    """An op as an object: its attributes are the constructor's arguments, its tensors those of the call."""

    keras_module: ClassVar[str] = ""
    body: ClassVar[Callable]
    variadic: ClassVar[bool] = False
    weak: ClassVar[bool] = False
    tensor_parameters: ClassVar[tuple[str, ...]] = ()
    attributes: ClassVar[dict[str, inspect.Parameter]] = {}

    def __init__(self, *args: Any, name: str | None = None, **kwargs: Any):
        super().__init__(name)
        names = list(self.attributes)
        unknown = [k for k in kwargs if k not in self.attributes]
        if len(args) > len(names) or unknown:
            raise ArgumentError(f"{type(self).__name__} takes the arguments {', '.join(names) or '(none)'}; got {args!r} {kwargs!r}")
        given = {**dict(zip(names, args)), **kwargs}
        for n, p in self.attributes.items():
            if n not in given and p.default is p.empty:
                raise ArgumentError(f"{type(self).__name__} needs the argument {n}")
            setattr(self, n, given.get(n, p.default))

    def call(self, *tensors: Any, **kwargs: Any) -> Any:
        return _compute(type(self), self._operands(tensors, kwargs), {n: getattr(self, n) for n in self.attributes})

    @classmethod
    def _operands(cls, tensors: tuple, kwargs: dict) -> dict:
        if cls.variadic:
            return {"*": list(tensors)}
        unknown = [k for k in kwargs if k not in cls.tensor_parameters]
        if len(tensors) > len(cls.tensor_parameters) or unknown:
            raise ArgumentError(f"{cls.__name__} is called with {', '.join(cls.tensor_parameters)}; got {len(tensors)} arguments and {unknown}")
        return {**dict(zip(cls.tensor_parameters, tensors)), **kwargs}

    def get_config(self) -> dict:
        return {"name": self.name, **{n: getattr(self, n) for n in self.attributes}}


def operation(module: str, tensors: int | tuple[str, ...] = 1, name: str | None = None, weak: bool = False, variadic: bool = False) -> Callable:
    """See the file. ``tensors``: how many of the first parameters, or which; ``name``: the class name where it is not the function's in CamelCase;
    ``weak``: Python numbers among the tensors are inputs of the compiled graph, not part of it (so that ``x * i`` for many i is one graph);
    ``variadic``: the tensors are ``*operands``."""

    def decorate(body: Callable) -> Callable:
        signature = inspect.signature(body)
        parameters = signature.parameters
        if variadic:
            names: tuple[str, ...] = tuple([p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL])
        else:
            names = tuple(parameters)[:tensors] if isinstance(tensors, int) else tensors
        attributes = {n: p for n, p in parameters.items() if n not in names}
        class_name = name or "".join(w.capitalize() for w in body.__name__.split("_"))
        cls = type(class_name, (FunctionOperation,), {
            "keras_module": module, "body": staticmethod(body), "tensor_parameters": names, "attributes": attributes,
            "variadic": variadic, "weak": weak, "__module__": module, "__doc__": body.__doc__})
        CLASSES[class_name] = cls

        @functools.wraps(body)
        def function(*args: Any, **kwargs: Any) -> Any:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError as e:
                raise ArgumentError(f"ops.{body.__name__}: {e}; its arguments are {signature}") from None
            attrs = {n: given.get(n, p.default) for n, p in attributes.items()}
            operands = {"*": list(given.get(names[0], ()))} if variadic else {n: given[n] for n in names if n in given}
            if has_symbolic(operands):
                made = cls(**attrs)
                return made.symbolic_call(*operands["*"]) if variadic else made.symbolic_call(*_positional(names, operands, parameters))
            return _compute(cls, operands, attrs)

        vars(function)["operation"] = cls
        return function

    return decorate


def _positional(names: tuple[str, ...], operands: dict, parameters: Any) -> list:
    """The operands in the order of the class's call, trailing defaults left out (as Keras records them)."""
    last = max(i for i, n in enumerate(names) if n in operands)
    return [operands.get(n, parameters[n].default) for n in names[:last + 1]]


def _compute(cls: type[FunctionOperation], operands: dict, attrs: dict) -> Any:
    # A traced tensor outside any scope still computes nodes: functions may be traced on bare leaves.
    if current_scope() is not None or any(isinstance(v, Tensor) for v in flatten((operands, list(attrs.values())))):
        return wrap(_apply(cls, map_operands(_prepare, operands), map_structure(_attribute, attrs)))
    return _eager(cls, operands, attrs)


def _apply(cls: type[FunctionOperation], operands: dict, attrs: dict) -> Any:
    if not cls.variadic:
        return cls.body(**operands, **attrs)
    before = [p.name for p in cls.attributes.values() if p.kind is p.POSITIONAL_OR_KEYWORD]  # of ``einsum(subscripts, *operands)``
    return cls.body(*[attrs[n] for n in before], *operands["*"], **{n: v for n, v in attrs.items() if n not in before})


def wrap(out: Any) -> Any:
    """Nodes as Tensors."""
    return map_structure(lambda n: Tensor(n) if isinstance(n, Node) else n, out)


def map_operands(fn: Callable, x: Any) -> Any:
    """``fn`` of every operand; a list of plain numbers is one operand, a list that holds tensors is a list of operands."""
    if isinstance(x, dict):
        return {k: map_operands(fn, v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [map_operands(fn, v) for v in x] if any(_is_tensor(v) for v in flatten(x)) else fn(x)
    return fn(x)


def _is_tensor(x: Any) -> bool:
    return isinstance(x, (Tensor, EagerTensor, Variable, KerasTensor, np.ndarray, Node))


def _prepare(x: Any) -> Any:
    """An operand for a body: a node, or a Python number, None, slice, ... as it is."""
    if x is None or isinstance(x, (bool, int, float, str, slice, Node, type(Ellipsis))):
        return x
    return as_node(x)


def _attribute(x: Any) -> Any:
    return as_node(x) if isinstance(x, (Tensor, Variable)) else x


def _eager(cls: type[FunctionOperation], operands: dict, attrs: dict) -> Any:
    others = [as_array(x).dtype for x in operands.values() if _is_tensor(x)] if cls.weak else []
    arrays: list[np.ndarray] = []
    marks: list[Any] = []

    def collect(x: Any) -> Any:
        number = isinstance(x, (bool, int, float))
        if x is None or isinstance(x, (str, slice, type(Ellipsis))) or number and not cls.weak:
            marks.append(("static", _freeze(x)))
            return _Static(x)
        a = _number(x, others) if number else as_array(x)
        arrays.append(a)
        marks.append((a.shape, a.dtype.name))
        return _Slot(len(arrays) - 1)

    layout = map_operands(collect, operands)
    attrs = {k: np.asarray(v) if isinstance(v, (EagerTensor, Variable)) else v for k, v in attrs.items()}
    key = (cls, _freeze(map_structure(type, layout)), tuple(marks), _freeze(attrs), config.floatx())
    with _LOCK:
        exe = _CACHE.get(key)
        if exe is not None:
            _CACHE.move_to_end(key)
    if exe is None:
        def fn(*tensors: Tensor) -> Any:
            def place(x: Any) -> Any:
                return tensors[x.index].node if isinstance(x, _Slot) else x.value

            return wrap(_apply(cls, map_structure(place, layout), attrs))

        specs = tuple([ArgSpec(a.shape, a.dtype.name, f"x{i}") for i, a in enumerate(arrays)])
        exe = compile_function(fn, specs, name=cls.__name__)
        with _LOCK:
            _CACHE[key] = exe
            while len(_CACHE) > _CACHE_SIZE:
                _CACHE.popitem(last=False)
    return exe(*arrays)


class _Slot:
    def __init__(self, index: int):
        self.index = index


class _Static:
    def __init__(self, value: Any):
        self.value = value


def _number(x: Any, others: list[np.dtype]) -> np.ndarray:
    """A Python number in the type that it takes beside arrays of these types (weak typing)."""
    probes = [F.zeros((), d) for d in others]
    return np.asarray(x, common_dtype(*probes, x).np)


def _freeze(x: Any) -> Any:
    """A hashable form of attributes."""
    if isinstance(x, (list, tuple)):
        return (type(x).__name__, *[_freeze(v) for v in x])
    if isinstance(x, dict):
        return ("dict", *[(k, _freeze(v)) for k, v in sorted(x.items(), key=lambda kv: str(kv[0]))])
    if isinstance(x, slice):
        return ("slice", _freeze(x.start), _freeze(x.stop), _freeze(x.step))
    if isinstance(x, np.ndarray):
        return ("array", x.shape, x.dtype.str, x.tobytes())
    if isinstance(x, (bool, int, float)):
        return (type(x).__name__, x)
    return x
