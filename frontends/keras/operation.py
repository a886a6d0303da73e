"""Operations: what turns tensors into tensors, layers and the functions of ``ops`` alike, and how calls on symbolic tensors are recorded.

The result's shape and dtype of a symbolic call come from tracing the operation once on nodes whose unknown sizes are one free ``Dim``: there are no
shape rules beside the computation itself.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from ...compiler.ir.graph import leaf
from ...compiler.ir.types import TensorType
from ...runtime.dim import Dim
from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError, KerogenError, StateError
from .naming import auto_name, check_name
from .structure import flatten, map_structure
from .tensor import KerasHistory, KerasTensor, Tensor, known_shape
from .trace import TraceScope

# What an unknown size is while shapes are inferred: many divisors, so that reshapes, strides and splits come out whole.
_UNKNOWN = 55440


class SymbolicNode:
    """One call of an operation on symbolic tensors: ``arguments`` (``args``, ``kwargs``) and the resulting ``outputs``."""

    def __init__(self, operation: Operation, args: tuple, kwargs: dict, outputs: Any):
        self.operation = operation
        self.args, self.kwargs = args, kwargs
        self.input_tensors: list[KerasTensor] = [x for x in flatten((args, kwargs)) if isinstance(x, KerasTensor)]
        self.outputs: list[KerasTensor] = flatten(outputs)
        for x in self.outputs:
            if not isinstance(x, KerasTensor):
                raise ArgumentError(f"{operation!r} returned {x!r}, which is no tensor; every result of a call must be one")
        operation._inbound_nodes.append(self)
        for x in self.input_tensors:
            if x._keras_history is not None:
                x._keras_history.operation._outbound_nodes.append(self)
        index = len(operation._inbound_nodes) - 1
        for i, x in enumerate(self.outputs):
            x._keras_history = KerasHistory(operation, index, i)

    @property
    def output_tensors(self) -> list[KerasTensor]:
        return self.outputs

    @property
    def is_input(self) -> bool:
        return not self.input_tensors

    @property
    def parents(self) -> list[SymbolicNode]:
        """The calls whose results this one takes."""
        out = []
        for x in self.input_tensors:
            if x._keras_history is not None:
                out.append(x._keras_history.operation._inbound_nodes[x._keras_history.node_index])
        return out

    def fill_in(self, values: dict[int, Any]) -> tuple[tuple, dict]:
        """The arguments with symbolic tensors replaced by ``values[id(tensor)]``."""
        def swap(x: Any) -> Any:
            return values.get(id(x), x) if isinstance(x, KerasTensor) else x

        return map_structure(swap, self.args), map_structure(swap, self.kwargs)

    def __repr__(self) -> str:
        return f"<Node operation={self.operation.name}>"


def has_symbolic(*structures: Any) -> bool:
    return any(isinstance(x, KerasTensor) for x in flatten(structures))


def infer(fn: Callable, args: tuple, kwargs: dict) -> Any:
    """Symbolic results of ``fn(*args, **kwargs)``, which computes on traced tensors: a structure of new ``KerasTensor``s."""
    unknown = Dim.free("unknown", _UNKNOWN)

    def stand_in(x: Any) -> Any:
        if not isinstance(x, KerasTensor):
            return x
        return Tensor(leaf(x.name, TensorType(tuple([unknown if d is None else d for d in x.shape]), as_dtype(x.dtype))))

    with TraceScope():
        out = fn(*map_structure(stand_in, args), **map_structure(stand_in, kwargs))
    return map_structure(_symbolic, out)


def _symbolic(x: Any) -> Any:
    return KerasTensor(known_shape(x.shape), x.dtype) if isinstance(x, Tensor) else x


class Operation:
    """Base of layers and ops: a name, and the calls recorded on symbolic tensors."""

    _auto_config: dict | None = None
    _auto_config_problem = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        config, problem = _config_of_call(cls, args, kwargs)
        object.__setattr__(self, "_auto_config", config)
        object.__setattr__(self, "_auto_config_problem", problem)
        return self

    def __init__(self, name: str | None = None):
        self.name = auto_name(type(self).__name__) if name is None else check_name(name, type(self).__name__)
        self._inbound_nodes: list[SymbolicNode] = []
        self._outbound_nodes: list[SymbolicNode] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if has_symbolic(args, kwargs):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """Records the call and gives its symbolic results."""
        outputs = self.compute_output_spec(*args, **kwargs)
        SymbolicNode(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The results of a call on symbolic tensors, without recording it."""
        try:
            return infer(self.call, args, kwargs)
        except KerogenError as e:
            shapes = ", ".join(str(x.shape) for x in flatten((args, kwargs)) if isinstance(x, KerasTensor))
            raise type(e)(f"{type(self).__name__} '{self.name}' can't take inputs of shape {shapes}: {e}") from e

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define call()")

    def get_config(self) -> dict:
        """The constructor's arguments. A class whose arguments are plain values gets this for free; others override it."""
        config: dict = {"name": self.name}
        if type(self).get_config not in _DEFAULT_CONFIGS:
            return config
        if self._auto_config is None:
            raise NotImplementedError(textwrap.dedent(f"""\
                {type(self).__name__} '{self.name}' can't be saved: {self._auto_config_problem}. Define

                    def get_config(self):
                        return {{**super().get_config(), "argument": self.argument}}
                """))
        config.update(self._auto_config)
        parameters = inspect.signature(type(self).__init__).parameters
        if "name" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            config.pop("name")
        return config

    @classmethod
    def from_config(cls, config: dict) -> Any:
        """An operation with the arguments that ``get_config`` gave."""
        if isinstance(config.get("dtype"), dict):
            from . import dtype_policy

            config = {**config, "dtype": dtype_policy.deserialize(config["dtype"]).name}
        try:
            return cls(**config)
        except KerogenError:
            raise
        except TypeError as e:
            raise ArgumentError(f"{cls.__name__} can't be made from the config {config!r}: {e}") from e

    def _at(self, index: int, attribute: str, what: str) -> Any:
        if not self._inbound_nodes:
            raise StateError(f"{type(self).__name__} '{self.name}' was never called on a symbolic tensor, so it has no {what}")
        values = getattr(self._inbound_nodes[index], attribute)
        return values[0] if len(values) == 1 else values

    @property
    def input(self) -> Any:
        """The symbolic input (or list of them) of the first call."""
        return self._at(0, "input_tensors", "input")

    @property
    def output(self) -> Any:
        """The symbolic result (or list of them) of the first call."""
        return self._at(0, "outputs", "output")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


_DEFAULT_CONFIGS = {Operation.get_config}
_PLAIN = (str, int, float, bool, type(None))


def _config_of_call(cls: type[Operation], args: tuple, kwargs: dict) -> tuple[dict | None, str]:
    """The constructor's arguments as a config, or None and why not: only plain values can be written down."""
    if cls.get_config not in _DEFAULT_CONFIGS:
        return None, ""
    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError as e:
        return None, str(e)
    bound.apply_defaults()
    values: dict = {}
    for i, (name, p) in enumerate(signature.parameters.items()):
        if i == 0 or name == "name":
            continue
        value = bound.arguments[name]
        if p.kind is p.VAR_POSITIONAL and value:
            return None, f"its constructor took the positional arguments *{name}"
        if p.kind is p.VAR_KEYWORD:
            values.update({k: v for k, v in value.items() if k != "name"})
        elif p.kind is not p.VAR_POSITIONAL:
            values[name] = value
    for name, value in values.items():
        bad = [v for v in flatten(value) if not isinstance(v, _PLAIN)]
        if bad:
            return None, f"the argument {name} holds {bad[0]!r}, which is no plain value"
    return values, ""
