"""The public verbs: ``compile`` takes anything and returns an ``Executable``; ``grad`` and ``value_and_grad`` differentiate functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from .runtime.errors import ArgumentError, ModelFormatError, UnsupportedPlatformError

PRECISIONS = ("highest", "high", "tf32", "bfloat16")


@dataclass(frozen=True)
class Options:
    """How to compile. ``precision``: "highest" is float32 accuracy, the default; "high" may use faster forms of products that stay near it, "bfloat16"
    rounds the operands of products to bfloat16 and sums in float32, "tf32" is for GPUs. ``threads``: None uses the cores this process may run on."""

    precision: str = "highest"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"precision={self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.threads is not None and (isinstance(self.threads, bool) or not isinstance(self.threads, int) or self.threads < 1):
            raise ArgumentError(f"threads={self.threads!r} must be a positive int, or None for all cores")

    @staticmethod
    def of(x: Options | Mapping[str, Any] | None) -> Options:
        """Options from a dict; an unknown name is an error that lists the known ones."""
        if x is None or isinstance(x, Options):
            return x or Options()
        known = {f.name for f in fields(Options)}
        unknown = set(x) - known
        if unknown:
            raise ArgumentError(f"unknown option {', '.join(map(repr, sorted(unknown)))}; known: {', '.join(sorted(known))}")
        return replace(Options(), **x)


@dataclass(frozen=True)
class Spec:
    """The type of an input: ``shape`` holds ints, names of free dimensions ("batch"), and None (free, with a name of its own)."""

    shape: tuple[int | str | None, ...]
    dtype: str = "float32"
    name: str | None = None


def spec(shape: Sequence[int | str | None], dtype: Any = "float32", name: str | None = None) -> Spec:
    """An input for ``compile``: ``kg.spec(("batch", 8))``. Equal names are equal sizes."""
    from .runtime.dtype import as_dtype

    shape = (shape,) if isinstance(shape, (int, str)) else tuple(shape)
    for d in shape:
        if not (d is None or (isinstance(d, str) and d) or (isinstance(d, (int, np.integer)) and not isinstance(d, bool) and d >= 0)):
            raise ArgumentError(f"spec({shape}): a dimension is an int >= 0, a name, or None, not {d!r}")
    return Spec(tuple(d if d is None or isinstance(d, str) else int(d) for d in shape), as_dtype(dtype).name, name)


def compile(model: Any = None, inputs: Any = None, *, target: str = "cpu", options: Options | Mapping[str, Any] | None = None, name: str | None = None) -> Any:
    """An ``Executable`` for ``model``: a kerogen model or layer, a live Keras model, a path (``.keras``, ``.onnx``), bytes of such a file, an ONNX
    ``ModelProto``, a loaded ONNX model, or a Python function over tensors.

    ``inputs``: specs or example arrays, one per argument, for functions and for models whose inputs are not fixed; a function without them
    is compiled at its first call, for each signature it meets. As a decorator: ``@kg.compile``.
    ``target``: "cpu", or "cpu:x86-64-v3" and the like. Raises the typed errors of ``kerogen.errors``.
    """
    settings = Options.of(options)
    if model is None:
        return lambda f: compile(f, inputs, target=target, options=settings, name=name)
    machine = _target(target)
    if settings.precision == "tf32":
        raise ArgumentError('precision="tf32" is for GPUs; on a CPU use "highest", "high" or "bfloat16"')
    if _is_function(model) and inputs is None:
        return _Lazy(model, settings, target, name)
    from .compiler.pipeline import executable

    trace, bindings, unflatten, found, _ = traced(model, inputs)
    return executable(trace, bindings=bindings, name=name or found, options=settings, unflatten=unflatten, target=machine)


def _target(target: str) -> Any:
    """The compiler's target for ``target``; None is this machine's."""
    kind, _, rest = str(target).partition(":")
    if kind == "cuda":
        raise UnsupportedPlatformError(f"target={target!r}: kerogen can't run on GPUs yet; it compiles for CPUs (target=\"cpu\")")
    if kind != "cpu":
        raise ArgumentError(f'target={target!r} is unknown; use "cpu" or "cpu:NAME" with NAME one of native, x86-64-v4, x86-64-v3, x86-64-v2, aarch64')
    if not rest:
        return None
    from .compiler.target import Target

    return Target.named(rest)


def _is_function(x: Any) -> bool:
    from .frontends.keras.layer import Layer

    return callable(x) and not isinstance(x, (Layer, type)) and not hasattr(x, "trace") and not _is_live_keras(x)


def _is_live_keras(x: Any) -> bool:
    return any(c.__module__.split(".")[0] == "keras" for c in type(x).__mro__)


def traced(source: Any, inputs: Any = None) -> tuple[Callable, list, Callable, str, list[str]]:
    """(trace, bindings, unflatten, name, names of the inputs) of anything that ``compile`` takes."""
    from .frontends.keras.layer import Layer

    if isinstance(source, (str, os.PathLike)):
        return _traced_file(Path(source), inputs)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _traced_bytes(bytes(source), inputs)
    if _is_live_keras(source):
        source = from_keras(source)
    if isinstance(source, Layer):
        return _traced_model(source, inputs)
    if type(source).__module__.split(".")[0] == "onnx" or (hasattr(source, "trace") and hasattr(source, "input_names")):
        from .frontends.onnx import onnx_trace

        if inputs is not None:
            raise ArgumentError("an ONNX model has its own inputs; fix sizes with kerogen.onnx.load(src, shapes=...)")
        return onnx_trace(source)
    if callable(source):
        return _traced_function(source, inputs)
    raise ArgumentError(f"can't compile {type(source).__name__}: give a model, a path to a .keras or .onnx file, its bytes, a ModelProto, or a function")


def _traced_file(path: Path, inputs: Any) -> tuple:
    if path.suffix == ".onnx":
        from .frontends.onnx import onnx_trace

        return onnx_trace(path)
    if path.suffix in (".keras", ".h5"):
        from .frontends.keras.saving import load_model

        return _traced_model(load_model(path), inputs)
    raise ArgumentError(f"{path}: kerogen compiles .keras and .onnx files (a saved executable is loaded with kerogen.load)")


def _traced_bytes(data: bytes, inputs: Any) -> tuple:
    if data[:4] == b"PK\x03\x04":  # a zip archive: .keras
        import tempfile

        from .frontends.keras.saving import load_model

        with tempfile.NamedTemporaryFile(suffix=".keras") as file:
            file.write(data)
            file.flush()
            return _traced_model(load_model(file.name), inputs)
    if not data:
        raise ModelFormatError("no bytes: a .keras or .onnx file can't be empty")
    from .frontends.onnx import onnx_trace

    return onnx_trace(data)


def _traced_model(model: Any, inputs: Any) -> tuple:
    from .frontends.keras.compile import model_trace
    from .frontends.keras.model import Model

    if not isinstance(model, Model):
        return _traced_function(model, inputs)
    specs = None if inputs is None else _argument_specs(inputs, model)[1]
    trace, bindings, unflatten, name = model_trace(model, specs)
    return trace, bindings, unflatten, name, []


def _argument_specs(inputs: Any, source: Any) -> tuple[tuple, list]:
    """(arguments of the function, each a structure of specs; all specs flat) from specs or example arrays."""
    import inspect

    from .frontends.keras.structure import flatten, pack_as
    from .frontends.keras.trace import ArgSpec, as_array

    arguments = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    try:
        call = source.call if hasattr(source, "call") else source
        names = [p.name for p in inspect.signature(call).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        names = []
    out = []
    for i, argument in enumerate(arguments):
        base = names[i] if i < len(names) else f"input_{i}"
        leaves = flatten(argument)
        specs = []
        for j, leaf in enumerate(leaves):
            own = base if len(leaves) == 1 else f"{base}_{j}"
            if not isinstance(leaf, Spec):
                array = as_array(leaf)
                leaf = Spec(array.shape, str(array.dtype))
            own = leaf.name or own
            shape = tuple((f"{own}_{k}" if k else f"{own}_batch") if d is None else d for k, d in enumerate(leaf.shape))
            specs.append(ArgSpec(shape, leaf.dtype, own))
        out.append(pack_as(argument, specs))
    return tuple(out), [s for a in out for s in flatten(a)]


def _traced_function(fn: Callable, inputs: Any) -> tuple:
    from .frontends.keras.structure import pack_as
    from .frontends.keras.trace import Traced

    if inputs is None:
        raise ArgumentError(f"{getattr(fn, '__name__', type(fn).__name__)} has no fixed inputs: give compile the inputs, as specs or example arrays")
    arguments, flat = _argument_specs(inputs, fn)
    name = getattr(fn, "name", None) or getattr(fn, "__name__", "function")
    found = Traced(fn, arguments, "function" if name == "<lambda>" else name)

    def unflatten(arrays: list) -> Any:
        return pack_as(found.structure, arrays[: found.output_count])

    return found.graph, found.variables, unflatten, found.name, [s.name for s in flat]


class _Lazy:
    """A compiled function without fixed inputs: one executable for each signature that it is called with, the least recently used beyond 64 dropped."""

    def __init__(self, fn: Callable, options: Options, target: str, name: str | None):
        self._fn, self._options, self._target, self._name = fn, options, target, name
        self._executables: dict[tuple, Any] = {}
        self.__name__ = name or getattr(fn, "__name__", "function")
        self.__doc__ = fn.__doc__

    def __call__(self, *args: Any) -> Any:
        from .frontends.keras.structure import flatten
        from .frontends.keras.trace import as_array

        arrays = [as_array(a) for a in flatten(args)]
        key = (repr(_skeleton(args)), tuple((a.shape, str(a.dtype)) for a in arrays))
        exe = self._executables.pop(key, None)
        if exe is None:
            exe = compile(self._fn, args, target=self._target, options=self._options, name=self._name)
            while len(self._executables) >= 64:
                del self._executables[next(iter(self._executables))]
        self._executables[key] = exe
        return exe(*arrays)

    @property
    def executables(self) -> list[Any]:
        return list(self._executables.values())


def _skeleton(x: Any) -> Any:
    """The structure of arguments, arrays left out."""
    if isinstance(x, dict):
        return {k: _skeleton(x[k]) for k in sorted(x)}
    return [_skeleton(v) for v in x] if isinstance(x, (list, tuple)) else None


def value_and_grad(fn: Callable, argnums: int | Sequence[int] | None = None, *, variables: Sequence[Any] | None = None, has_aux: bool = False) -> Callable:
    """The function that gives (fn(*args), derivatives); ``fn`` returns one number, or with ``has_aux`` a pair of it and anything else.

    The derivatives are with respect to the arguments ``argnums`` (the first, unless ``variables`` are given), and to ``variables``, a list
    of Variables that ``fn`` reads: one gradient for each. Both asked for, they are a pair. In a model's ``train_step``:

        (loss, y_pred), grads = kg.value_and_grad(loss_fn, variables=self.trainable_variables, has_aux=True)(x, y)
        self.optimizer.apply(grads, self.trainable_variables)

    Called on arrays it computes at once, through a compiled graph; called on tensors, or while a function is traced, it adds to that graph, so
    that derivatives of derivatives work where every rule on the way is made of ops (else ``GradientError``).
    """
    if argnums is None and variables is None:
        argnums = 0
    numbers = () if argnums is None else (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def differentiated(*args: Any) -> Any:
        from .frontends.keras.gradient import differentiate

        value, by_argument, by_variable = differentiate(fn, args, numbers, variables, has_aux)
        found = by_argument[0] if isinstance(argnums, int) else tuple(by_argument)
        return value, found if variables is None else by_variable if argnums is None else (found, by_variable)

    lazy = _Lazy(differentiated, Options(), "cpu", f"grad_{getattr(fn, '__name__', 'function').strip('<>')}")

    @wraps(fn, assigned=("__name__", "__doc__"), updated=())
    def call(*args: Any) -> Any:
        from .frontends.keras.structure import flatten
        from .frontends.keras.tensor import Tensor
        from .frontends.keras.trace import current_scope

        if current_scope() is not None or any(isinstance(x, Tensor) for x in flatten(args)):
            return differentiated(*args)
        return lazy(*args)

    return call


def grad(fn: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The derivative of ``fn`` (which returns one number) with respect to the arguments ``argnums``; see ``value_and_grad``."""
    both = value_and_grad(fn, argnums)

    @wraps(fn, assigned=("__name__", "__doc__"), updated=())
    def call(*args: Any) -> Any:
        return both(*args)[1]

    return call


def load(path: str | os.PathLike) -> Any:
    """An executable that ``Executable.save`` wrote. Needs no compiler."""
    from .runtime.executable import load as load_executable

    return load_executable(path)


def from_keras(model: Any) -> Any:
    """A kerogen model with the architecture and the weights of a live ``keras.Model`` (any backend), built from its config: layers that
    kerogen doesn't know are named in the error."""
    if not _is_live_keras(model):
        raise ArgumentError(f"from_keras takes a live Keras model, not {type(model).__name__}")
    import json

    from .frontends.keras.serialization import deserialize_keras_object

    found = deserialize_keras_object(json.loads(model.to_json()))
    weights = [np.asarray(w) for w in model.get_weights()]
    have = [w.shape for w in found.get_weights()]
    if have != [w.shape for w in weights]:
        raise ModelFormatError(f"the Keras model has {len(weights)} weights, the kerogen model built from its config {len(have)}, or their shapes differ")
    found.set_weights(weights)
    return found


class _Traceable:
    """What the exporter asks of a model: ``trace`` and ``bindings``."""

    def __init__(self, model: Any, inputs: Any):
        self.trace, self.bindings, _, self.name, _ = traced(model, inputs)


def save_onnx(model: Any, path: str | os.PathLike, inputs: Any = None, *, opset: int | None = None) -> None:
    """Writes the inference function of ``model`` as an ONNX file, whole or not at all.

    ``model`` is anything that ``kerogen.compile`` takes; ``inputs`` are specs or examples for functions. Raises ``UnsupportedOpError`` that lists every
    op without an ONNX form, and ``ArgumentError`` for an opset below 13.
    """
    from .frontends.onnx.exporter import OPSET, save

    save(_Traceable(model, inputs), path, opset=OPSET if opset is None else opset)


def set_num_threads(n: int | None) -> None:
    """Threads that calls use from now on; None: the cores this process may run on."""
    from .runtime.threads import set_num_threads as set_threads

    set_threads(n)
