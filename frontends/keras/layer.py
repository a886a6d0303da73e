"""The base of all layers: building, calling, tracking of variables and sublayers, configuration.

A call dispatches on what it gets. Symbolic tensors: the call is recorded, its result's shape comes from tracing it. Traced tensors: ``call`` runs
and makes graph nodes. Arrays: an executable of the layer computes at once; it is cached per shapes (the first axis is free), dtypes and ``training``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ...compiler.ir import location
from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError, ShapeError, StateError, UnsupportedOpError
from . import dtype_policy as policies
from . import regularizers
from .eager import EagerCalls
from .input_spec import InputSpec as InputSpec
from .input_spec import check_inputs
from .layer_call import Call, constructing, error_context
from .naming import current_path, name_scope
from .operation import _DEFAULT_CONFIGS, SymbolicNode, has_symbolic, infer
from .phase import current_training, training_phase
from .structure import flatten, map_shapes, map_structure
from .tensor import EagerTensor, KerasTensor, Tensor, known_shape
from .trace import current_scope
from .tracking import Tracking, note_change
from .variable import Variable, autocast


class Layer(EagerCalls, Tracking):
    """Keras' Layer. Subclasses define ``__init__``, ``build(input_shape)`` (variables, by ``add_weight``), ``call``, and ``get_config``."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = constructing(cls.__dict__["__init__"])  # type: ignore[method-assign]
        if "build" in cls.__dict__:
            cls.build = _building(cls.__dict__["build"])
        if "call" in cls.__dict__:
            cls._signature = inspect.signature(cls.__dict__["call"])

    _signature: inspect.Signature = inspect.signature(lambda self, *args, **kwargs: None)

    @constructing
    def __init__(self, *, activity_regularizer: Any = None, trainable: bool = True, dtype: Any = None, autocast: bool = True, name: str | None = None,
                 **kwargs: Any):
        input_shape = kwargs.pop("input_shape", None)
        input_dim = kwargs.pop("input_dim", None)
        if kwargs:
            raise ArgumentError(f"{type(self).__name__} got unknown arguments {', '.join(sorted(kwargs))}; its arguments are "
                                f"{', '.join(p for p in inspect.signature(type(self).__init__).parameters if p not in ('self', 'kwargs'))}, "
                                "name, dtype, trainable, activity_regularizer")
        if not isinstance(trainable, bool):
            raise ArgumentError(f"{type(self).__name__}: trainable must be True or False, got {trainable!r}")
        super().__init__(name)
        self._own_variables: list[Variable] = []
        self._executables: dict = {}
        self._losses: list = []
        self._parent_path: str | None = None
        self._path: str | None = None
        self._input_spec: Any = None
        self._build_shapes: dict | None = None
        self._input_shape_arg = (input_dim,) if input_dim is not None else input_shape
        self._dtype_policy = policies.get(dtype)
        self.autocast = autocast
        self._trainable = trainable
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.built = False
        self.supports_masking = type(self).compute_mask is not Layer.compute_mask
        self._super_called = True

    # Variables ------------------------------------------------------------------------------------------------------------------------------------------

    def add_weight(self, shape: Any = None, initializer: Any = None, dtype: Any = None, trainable: bool = True, autocast: bool = True,
                   regularizer: Any = None, constraint: Any = None, aggregation: str = "none", overwrite_with_gradient: bool = False,
                   name: str | None = None) -> Variable:
        """A new variable of the layer. ``shape`` has no None; ``initializer`` is "glorot_uniform" for floats, "zeros" for others, unless given."""
        from . import constraints, initializers

        self._check_super_called()
        dtype = as_dtype(dtype or self.variable_dtype)
        if initializer is None:
            initializer = "glorot_uniform" if dtype.is_float else "zeros"
        try:
            with self._scope():
                v = Variable(initializers.get(initializer), shape=() if shape is None else shape, dtype=dtype.name, trainable=trainable, autocast=autocast,
                             aggregation=aggregation, name=name)
        except ShapeError as e:
            raise ShapeError(f"{type(self).__name__} '{self.name}': {e}") from e
        v.regularizer = regularizers.get(regularizer)
        v.constraint = constraints.get(constraint)
        v.overwrite_with_gradient = overwrite_with_gradient
        self._own_variables.append(v)
        return v

    add_variable = add_weight

    # Dtypes ---------------------------------------------------------------------------------------------------------------------------------------------

    @property
    def dtype_policy(self) -> policies.DTypePolicy:
        return self._dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        self._dtype_policy = policies.get(value)
        note_change()

    @property
    def compute_dtype(self) -> str:
        return self._dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self._dtype_policy.variable_dtype

    dtype = variable_dtype

    @property
    def input_dtype(self) -> str:
        """The type that float inputs are converted to."""
        return self.compute_dtype

    # Building -------------------------------------------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        return self._path

    @property
    def input_spec(self) -> Any:
        return self._input_spec

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        self._input_spec = value

    def _scope(self) -> Any:
        if self._parent_path is None:
            self._parent_path = current_path()
        return name_scope(self.name, self)

    def build(self, input_shape: Any) -> None:
        """Makes the variables for inputs of this shape (None where a size is free). The default has none to make."""
        self.built = True

    def build_from_config(self, config: dict) -> None:
        if config:
            if "input_shape" in config:
                self.build(config["input_shape"])
            elif "shapes_dict" in config:
                self.build(**config["shapes_dict"])

    def get_build_config(self) -> dict | None:
        """The shapes that the layer was built with, or None."""
        shapes = self._build_shapes
        if shapes is None:
            return None
        return {"input_shape": next(iter(shapes.values()))} if len(shapes) == 1 else {"shapes_dict": shapes}

    def _maybe_build(self, call: Call) -> None:
        if self.built:
            return
        shapes = shapes_of(call)
        parameters = list(inspect.signature(self.build).parameters.values())
        first = next(iter(shapes.values()), None)
        if len(parameters) == 1:
            self.build(first)
        elif any(p.kind is p.VAR_KEYWORD for p in parameters):
            self.build(**shapes)
        else:
            self.build(**{p.name: shapes[p.name] for p in parameters if p.name in shapes})
        self._check(call.first)

    def _check(self, inputs: Any) -> None:
        if self.input_spec is not None:
            check_inputs(self.input_spec, inputs, f"{type(self).__name__} '{self.name}'")

    # Calling --------------------------------------------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._check_super_called()
        if has_symbolic(args, kwargs):
            return self._symbolic_call(args, kwargs)
        if current_scope() is not None:
            return self._traced_call(args, kwargs)
        return self._eager_call(args, kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedOpError(f"{type(self).__name__} '{self.name}' must define call(inputs)")

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        return self._symbolic_call(args, kwargs)

    def _symbolic_call(self, args: tuple, kwargs: dict) -> Any:
        outputs = self.compute_output_spec(*args, **kwargs)
        if not kwargs and len(args) == 1 and isinstance(args[0], KerasTensor) and "mask" in self._signature.parameters:
            kwargs = {"mask": None}  # as Keras records it
        SymbolicNode(self, args, kwargs, outputs)
        return outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Symbolic results for symbolic inputs, without recording the call; builds the layer where it isn't."""
        return infer(lambda *a, **k: self._traced_call(a, k), args, kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape (or structure of shapes) that a call on inputs of this shape gives."""
        layer = self if self.built else type(self).from_config(self.get_config())
        inputs = map_shapes(lambda s: KerasTensor(s, dtype=layer.compute_dtype), input_shape)
        return map_structure(lambda t: t.shape, layer.compute_output_spec(inputs))

    def _traced_call(self, args: tuple, kwargs: dict) -> Any:
        kwargs = dict(kwargs)
        args, kwargs = map_structure(self._convert, args), map_structure(self._convert, kwargs)
        call = Call(self, args, kwargs)
        here = error_context(self, call)
        with here, location.scope(self.name), self._scope():
            self._check(call.first)
            self._maybe_build(call)
            training = self._resolve_training(call, kwargs)
            self._pass_masks(call, kwargs)
            with training_phase(training), autocast(self._autocast_dtype()):
                outputs = self.call(*args, **kwargs)
            outputs = map_structure(_as_tensor, outputs)
            self.built = True
            self._regularize_activity(outputs)
        self._mask_outputs(call, kwargs, outputs)
        return outputs

    def _autocast_dtype(self) -> str | None:
        compute = as_dtype(self.compute_dtype)
        return compute.name if self.autocast and compute.is_float and self.compute_dtype != self.variable_dtype else None

    def _convert(self, x: Any) -> Any:
        """An argument as ``call`` gets it: arrays become tensors, floats the computing type."""
        if isinstance(x, (np.ndarray, EagerTensor, Variable, np.generic)):
            from .trace import as_node

            mask = getattr(x, "_keras_mask", None)
            x = Tensor(as_node(x))
            x._keras_mask = mask
        if isinstance(x, Tensor) and self.autocast and x.node.dtype.is_float and as_dtype(self.input_dtype).is_float and x.dtype != self.input_dtype:
            from . import ops

            mask, x = x._keras_mask, ops.cast(x, self.input_dtype)
            x._keras_mask = mask
        return x

    def _resolve_training(self, call: Call, kwargs: dict) -> Any:
        given = call.arguments if "training" in call.given else kwargs
        if "training" in call.given or "training" in call.extra:
            value = call.extra.get("training", given.get("training"))
        else:
            value = current_training()
            if value is None:
                value = call.arguments.get("training")
        if "training" in self._signature.parameters:
            if value is not None and "training" not in call.positional:
                kwargs["training"] = value
        else:
            kwargs.pop("training", None)
        return value

    # Masks: a boolean per time step that Embedding and Masking attach to their result, and that layers which support it hand on ---------------------------

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return previous_mask

    def _pass_masks(self, call: Call, kwargs: dict) -> None:
        if len(call.tensors) == 1:
            if "mask" in self._signature.parameters and call.arguments.get("mask") is None:
                mask = map_structure(_mask_of, next(iter(call.tensors.values())))
                if any(m is not None for m in flatten(mask)):
                    kwargs["mask"] = mask
        else:
            for name, value in call.tensors.items():
                if f"{name}_mask" in self._signature.parameters and call.arguments.get(f"{name}_mask") is None:
                    mask = map_structure(_mask_of, value)
                    if any(m is not None for m in flatten(mask)):
                        kwargs[f"{name}_mask"] = mask

    def _mask_outputs(self, call: Call, kwargs: dict, outputs: Any) -> None:
        previous = kwargs.get("mask")
        if previous is None:
            previous = map_structure(_mask_of, call.first)
        if not self.supports_masking or all(_mask_of(t) is not None for t in flatten(outputs)):
            return
        if any(m is not None for m in flatten(previous)) or type(self).compute_mask is not Layer.compute_mask:
            masks = self.compute_mask(call.first, previous)
            if masks is not None:
                for t, m in zip(flatten(outputs), flatten(masks)):
                    if m is not None and isinstance(t, Tensor) and t._keras_mask is None:
                        t._keras_mask = m

    # Losses ---------------------------------------------------------------------------------------------------------------------------------------------

    def add_loss(self, loss: Any) -> None:
        """Adds a scalar (computed in ``call``) to the loss that training minimises."""
        scope = current_scope()
        if scope is None:
            raise StateError(f"{type(self).__name__} '{self.name}': add_loss() works inside call(), on tensors computed there")
        for x in flatten(loss):
            scope.add_loss(self, _as_tensor(x))

    def _regularize_activity(self, outputs: Any) -> None:
        if self.activity_regularizer is not None:
            from . import ops

            for t in flatten(outputs):
                loss = _as_tensor(self.activity_regularizer(t))
                self.add_loss(loss / ops.cast(t.shape[0], loss.dtype) if t.shape else loss)

    @property
    def losses(self) -> list:
        """Scalars: those of ``add_loss`` in the last call (of this trace, while one is made), and the weights' regularizers."""
        scope = current_scope()
        out = list(self._losses) if scope is None else self._ordered_losses(scope.losses)
        return out + [v.regularizer(v) for v in self.trainable_weights if v.regularizer is not None]

    def _ordered_losses(self, losses: list) -> list:
        """Those of this layer, then those of the layers inside, in their order."""
        place = {id(layer): i for i, layer in enumerate(self._flatten_layers())}
        return [loss for owner, loss in sorted([x for x in losses if id(x[0]) in place], key=lambda x: place[id(x[0])])]

    # Configuration --------------------------------------------------------------------------------------------------------------------------------------

    def get_config(self) -> dict:
        self._check_super_called()
        config = {**super().get_config(), "trainable": self.trainable, "dtype": policies.serialize(self.dtype_policy)}
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        state["_executables"], state["_losses"] = {}, []
        return state


_DEFAULT_CONFIGS.add(Layer.get_config)


def _building(build: Callable) -> Callable:
    """A class's ``build`` with what every build needs: the name scope, the record of shapes, ``built``."""
    if getattr(build, "_wrapped_build", False):
        return build
    signature = inspect.signature(build)

    @functools.wraps(build)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        args = tuple([_as_shape(a) for a in args])
        kwargs = {k: _as_shape(v) for k, v in kwargs.items()}
        with self._scope():
            self._path = current_path()
            build(self, *args, **kwargs)
        if type(self).build is wrapper or self._build_shapes is None:
            self._build_shapes = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])
        self.built = True

    vars(wrapper)["_wrapped_build"] = True
    return wrapper


def _as_shape(x: Any) -> Any:
    """A list that is a shape as a tuple (files and users give lists)."""
    return tuple(x) if isinstance(x, list) and all(d is None or isinstance(d, int) for d in x) else x


def shapes_of(call: Call) -> dict:
    """The shapes of a call's tensors, under the names of ``build``'s parameters."""
    return {f"{k}_shape": map_structure(lambda t: None if t is None else known_shape(t.shape), v) for k, v in call.tensors.items() if k != "mask"}


def _mask_of(x: Any) -> Any:
    return getattr(x, "_keras_mask", None)


def _as_tensor(x: Any) -> Any:
    if isinstance(x, Tensor) or x is None:
        return x
    from .trace import as_node

    return Tensor(as_node(x))
