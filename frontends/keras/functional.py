"""Functional models: a graph of calls between symbolic inputs and outputs, run again on other tensors."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from ...runtime.errors import ArgumentError, ShapeError
from .functional_config import functional_from_config, serialize_node
from .functional_graph import clone_between, map_graph, producer
from .layer import Layer
from .model import Model
from .operation import Operation
from .phase import current_training, training_phase
from .structure import flatten, is_nested, map_structure, pack_as, same_structure
from .tensor import KerasTensor, Tensor, known_shape
from .trace import ArgSpec
from .tracking import unique


class Functional(Model):
    """``Model(inputs, outputs, name=None)``: structures (a tensor, lists, dicts) of symbolic tensors."""

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        trainable = kwargs.pop("trainable", None)
        for what, structure in (("inputs", inputs), ("outputs", outputs)):
            leaves = flatten(structure)
            if not leaves:
                raise ArgumentError(f"Model: `{what}` is empty")
            for x in leaves:
                if not isinstance(x, KerasTensor):
                    raise ArgumentError(f"Model: all `{what}` must be symbolic tensors (from keras.Input or calls on one), got {x!r} ({type(x).__name__})")
                if x._keras_history is None:
                    raise ArgumentError(f"Model: {what} holds {x!r}, which comes from no keras.Input")
        if isinstance(inputs, Mapping):
            for k, v in inputs.items():
                if isinstance(v, KerasTensor) and k != v.name:
                    warnings.warn(f"Model: the input under key '{k}' is named '{v.name}'; give Input(..., name='{k}') so that both agree", stacklevel=3)
        if not all(producer(t).is_input for t in flatten(inputs)):
            inputs, outputs = clone_between(inputs, outputs)
        Layer.__init__(self, name=name, **kwargs)
        self._inputs_struct, self._outputs_struct = map_structure(lambda x: x, inputs), map_structure(lambda x: x, outputs)
        self._inputs, self._outputs = flatten(inputs), flatten(outputs)
        self._node_keys, self._nodes_by_depth, self._operations, self._operations_by_depth = map_graph(self._inputs, self._outputs)
        self._run_order = [n for depth in sorted(self._nodes_by_depth, reverse=True) for n in self._nodes_by_depth[depth] if not n.is_input]
        self.output_names = [x._keras_history.operation.name for x in self._outputs]
        self.input_names = [x._keras_history.operation.name for x in self._inputs]
        self.built = True
        if trainable is not None:
            self.trainable = trainable

    @property
    def operations(self) -> list[Operation]:
        return list(self._operations)

    @property
    def layers(self) -> list[Layer]:
        return [op for op in self._operations if isinstance(op, Layer)]

    @layers.setter
    def layers(self, _: Any) -> None:
        raise ArgumentError("Model.layers can't be set; use another name for the attribute")

    def _own_layers(self) -> list[Layer]:
        # The graph's layers, then those kept as attributes of a subclass.
        mine = [op for op in self.__dict__.get("_operations", ()) if isinstance(op, Layer)]
        return unique(mine, [x for x in self._tracked() if isinstance(x, Layer)])

    @property
    def inputs(self) -> list[KerasTensor]:
        return self._inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        return self._outputs

    @property
    def input(self) -> Any:
        return self._inputs_struct

    @property
    def output(self) -> Any:
        return self._outputs_struct

    @property
    def input_shape(self) -> Any:
        shapes = [x.shape for x in self._inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        shapes = [x.shape for x in self._outputs]
        return shapes[0] if len(shapes) == 1 else shapes

    def build(self, input_shape: Any = None) -> None:
        self.built = True

    def get_build_config(self) -> dict:
        return {"input_shape": None}  # what Keras writes: the graph says all

    # Running --------------------------------------------------------------------------------------------------------------------------------------------

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        flat = self._standardize(inputs)
        if mask is not None:
            for x, m in zip(flat, flatten(mask)):
                if m is not None:
                    x._keras_mask = m
        with training_phase(current_training() if training is None else training):
            outputs = self._run(flat)
        if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
            return outputs[0]
        return outputs

    def _run(self, flat_inputs: list) -> Any:
        """The outputs, in their structure, from values of the inputs: every call of the graph again, in order."""
        values: dict[int, Any] = {id(s): x for s, x in zip(self._inputs, flat_inputs)}
        phase = current_training()
        for node in self._run_order:
            if all(id(x) in values for x in node.input_tensors):
                args, kwargs = node.fill_in(values)
                if phase is not None and "training" in kwargs:
                    kwargs["training"] = phase  # the model's phase goes before the one recorded (Keras records defaults as well)
                for symbol, value in zip(node.outputs, flatten(node.operation(*args, **kwargs))):
                    values[id(symbol)] = value
        return pack_as(self._outputs_struct, [values[id(x)] for x in self._outputs])

    def _convert(self, x: Any) -> Any:
        return x  # every input has a dtype of its own: _standardize converts

    def _check(self, inputs: Any) -> None:
        return None  # _standardize checks, with the inputs' names

    def _arrange(self, inputs: Any) -> list:
        """The inputs given, flat, in the order of the model's: by structure, or by name where a dict is given."""
        struct = self._inputs_struct
        if isinstance(inputs, Mapping) and not isinstance(struct, Mapping):
            names = [x.name for x in self._inputs]
            by_layer = [x._keras_history.operation.name for x in self._inputs]
            for keys in (names, by_layer):
                if all(k in inputs for k in keys):
                    return [inputs[k] for k in keys]
            raise ArgumentError(f"Model '{self.name}': inputs {names} are needed; the dict given has the keys {sorted(map(str, inputs))}")
        if isinstance(struct, Mapping) and isinstance(inputs, Mapping):
            missing = [k for k in struct if k not in inputs]
            if missing:
                raise ArgumentError(f"Model '{self.name}': missing input {missing[0]!r}; the dict given has the keys {sorted(map(str, inputs))}, "
                                    f"needed are {sorted(map(str, struct))}")
            inputs = {k: inputs[k] for k in struct}
        if len(self._inputs) == 1 and not is_nested(inputs):
            return [inputs]
        if not same_structure(inputs, struct) and not (not isinstance(struct, Mapping) and len(flatten(inputs)) == len(self._inputs)):
            if isinstance(struct, Mapping) and is_nested(inputs) and len(flatten(inputs)) == len(self._inputs) and list(struct) == sorted(struct):
                return flatten(inputs)
            raise ArgumentError(f"Model '{self.name}' takes {len(self._inputs)} inputs ({_names(struct)}), but got {len(flatten(inputs))} "
                                f"in the structure {_shapes(inputs)}")
        return flatten(inputs)

    def _standardize(self, inputs: Any) -> list:
        from . import ops

        flat = []
        for x, ref in zip(self._arrange(inputs), self._inputs):
            x = Layer._convert(_NO_AUTOCAST, x)
            mask = getattr(x, "_keras_mask", None)
            if x is not None and x.dtype != ref.dtype:
                x = ops.cast(x, ref.dtype)
            x = self._fit_rank(x, ref)
            for i, (n, m) in enumerate(zip(x.shape, ref.shape)):
                if m is not None and n != m:
                    raise ShapeError(f"Model '{self.name}': input '{ref.name}' must have shape {ref.shape} (None: any size), got {known_shape(x.shape)} "
                                     f"(axis {i}: {n} where {m} is expected)")
            if isinstance(x, Tensor) and mask is not None:
                x._keras_mask = mask
            flat.append(x)
        return flat

    def _fit_rank(self, x: Any, ref: KerasTensor) -> Any:
        """Keras' leniency: a last axis of size 1 may be missing, or be too much."""
        from . import ops

        rank, want = len(x.shape), len(ref.shape)
        if rank == want:
            return x
        if rank == want + 1 and x.shape[-1] == 1:
            return ops.squeeze(x, axis=-1)
        if rank == want - 1 and ref.shape and ref.shape[-1] == 1:
            return ops.expand_dims(x, axis=-1)
        raise ShapeError(f"Model '{self.name}': input '{ref.name}' must have shape {ref.shape} of rank {want}, got {known_shape(x.shape)} of rank {rank}")

    def call_specs(self) -> list[ArgSpec]:
        """One spec for every input: free sizes are "batch" on the first axis, "<input>_<axis>" elsewhere."""
        out = []
        for x in self._inputs:
            shape = tuple([d if d is not None else "batch" if i == 0 else f"{x.name}_{i}" for i, d in enumerate(x.shape)])
            out.append(ArgSpec(shape, x.dtype, x.name))
        return out

    def _eager_call(self, args: tuple, kwargs: dict) -> Any:
        args, kwargs = list(args), dict(kwargs)
        inputs = args[0] if args else kwargs.pop("inputs", None)
        if inputs is None:
            raise ArgumentError(f"Model '{self.name}' was called without inputs")
        flat = [_array_like(x, ref) for x, ref in zip(self._arrange(inputs), self._inputs)]
        return super()._eager_call((pack_as(self._inputs_struct, flat), *args[1:]), kwargs)

    def _eager_array(self, x: Any) -> Any:
        from .trace import as_array

        return as_array(x)

    def _eager_specs(self, arrays: list) -> list[ArgSpec]:
        specs = self.call_specs()
        if len(specs) != len(arrays) or any(len(s.shape) != a.ndim for s, a in zip(specs, arrays)):
            return super()._eager_specs(arrays)
        sizes: dict[str, int] = {}
        out = []
        for s, a in zip(specs, arrays):
            shape = []
            for d, n in zip(s.shape, a.shape):
                free = isinstance(d, str) and sizes.setdefault(d, n) == n
                shape.append(d if free else n)
            out.append(ArgSpec(tuple(shape), s.dtype if a.dtype.name == s.dtype else a.dtype.name, s.name))
        return out

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else kwargs.get("inputs")
        flat = self._arrange(inputs)
        if all(isinstance(x, KerasTensor) and x.shape == ref.shape for x, ref in zip(flat, self._inputs)):
            outputs = map_structure(lambda x: KerasTensor(x.shape, x.dtype), self._outputs_struct)
            return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs
        return super().compute_output_spec(*args, **kwargs)

    # Configuration --------------------------------------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict:
        if not _functional_constructor(type(self)):
            return Model.get_config(self)
        from .serialization import serialize_keras_object

        index: dict[tuple[int, int], int] = {}
        for op in self._operations:
            kept = 1 if isinstance(op, Functional) else 0  # Keras counts a call that nested models come with
            for i in range(len(op._inbound_nodes)):
                if (id(op), i) in self._node_keys:
                    index[id(op), i] = kept
                    kept += 1
        layers = []
        for op in self._operations:
            calls = [serialize_node(n, self._node_keys) for i, n in enumerate(op._inbound_nodes) if (id(op), i) in self._node_keys and not n.is_input]
            layers.append({**serialize_keras_object(op), "name": op.name, "inbound_nodes": calls})

        def place(x: KerasTensor) -> list:
            op, node, tensor = x._keras_history
            return [op.name, index[id(op), node], tensor]

        return {"name": self.name, "trainable": self.trainable, "layers": copy.deepcopy(layers),
                "input_layers": map_structure(place, self._inputs_struct), "output_layers": map_structure(place, self._outputs_struct)}


class _NoAutocast:
    autocast = False
    input_dtype = "float32"


_NO_AUTOCAST: Any = _NoAutocast()


def _array_like(x: Any, ref: KerasTensor) -> Any:
    """An input as an array of the model's dtype (floats and ints are converted; the rest is left to the checks)."""
    import numpy as np

    from ...runtime.dtype import as_dtype
    from .trace import as_array

    a = as_array(x)
    want = as_dtype(ref.dtype)
    if a.dtype != want.np and (as_dtype(a.dtype).kind == want.kind or want.is_float):
        a = a.astype(want.np)
    return np.asarray(a)


def _names(struct: Any) -> str:
    return str(map_structure(lambda x: x.name, struct))


def _shapes(inputs: Any) -> str:
    return str(map_structure(lambda x: tuple(x.shape) if hasattr(x, "shape") else type(x).__name__, inputs))


def functional_class(cls: type) -> type:
    """A class for a ``Model`` subclass that calls ``super().__init__(inputs, outputs)``: its own methods, then Functional's."""
    return type(cls.__name__, (cls, Functional), {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "_user_class": cls})


def _functional_constructor(cls: type) -> bool:
    """Whether ``cls(inputs, outputs, name, ...)`` makes the model again."""
    signature = inspect.signature(cls.__init__)
    kinds = {p.kind for p in signature.parameters.values()}
    names = [n for n, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    return names == ["inputs", "outputs", "name"] or {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds


__all__ = ["Functional", "functional_class", "functional_from_config"]
