"""Random tensors by Keras' names. Numbers come from a counter (Philox) and a seed: a seed gives the same numbers on every machine and thread count."""

from __future__ import annotations

import random as python_random
from typing import Any

import numpy as np

from ...compiler import ops as F
from ...runtime.dim import Dim
from ...runtime.dtype import as_dtype
from ...runtime.errors import ArgumentError
from . import config
from .naming import auto_name, name_scope
from .tensor import EagerTensor, KerasTensor, Tensor
from .trace import ArgSpec, as_array, as_node, compile_function, current_scope
from .variable import Variable

_GLOBAL: list[Any] = [None]
_EXECUTABLES: dict = {}


def make_default_seed() -> int:
    return python_random.randint(1, int(1e9))


class SeedGenerator:
    """Seeds that change with every draw: ``state`` is a variable (seed, counter). Layers keep one as an attribute."""

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs: Any):
        kwargs.pop("backend", None)
        if kwargs:
            raise ArgumentError(f"SeedGenerator got unknown arguments {', '.join(kwargs)}")
        self.name = auto_name("seed_generator") if name is None else name
        self._initial_seed = seed
        seed = make_default_seed() if seed is None else seed
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise ArgumentError(f"SeedGenerator: seed must be an integer or None, got {seed!r}")
        with name_scope(self.name, self):
            self.state = Variable(np.array([int(seed) & 0xFFFFFFFF, 0], np.uint32), dtype="uint32", trainable=False, name="seed_generator_state")

    def next(self, ordered: bool = True) -> Any:
        """The state (uint32[2]) for one draw; the counter moves on."""
        if current_scope() is None:
            value = EagerTensor(self.state.array.copy())
            self.state.assign(self.state.array + np.array([0, 1], np.uint32))
            return value
        node = as_node(self.state)
        self.state.assign(Tensor(F.add(node, F.constant(np.array([0, 1], np.uint32)))))
        return Tensor(node)

    def get_config(self) -> dict:
        return {"seed": self._initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> SeedGenerator:
        return cls(**config)


def global_seed_generator() -> SeedGenerator:
    """The generator behind ``seed=None``."""
    if _GLOBAL[0] is None:
        _GLOBAL[0] = SeedGenerator(name="global_seed_generator")
    return _GLOBAL[0]


def reset_global_seed(seed: int | None = None) -> None:
    """Starts the generator behind ``seed=None`` anew."""
    if _GLOBAL[0] is None:
        _GLOBAL[0] = SeedGenerator(seed, name="global_seed_generator")
    else:
        _GLOBAL[0].state.assign(np.array([(make_default_seed() if seed is None else seed) & 0xFFFFFFFF, 0], np.uint32))


def draw_seed(seed: Any) -> Any:
    """uint32[2] for one draw: of a generator, of an int (always the same), or of the global generator (None)."""
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return EagerTensor(np.array([int(seed) & 0xFFFFFFFF, 0], np.uint32))
    if seed is None:
        return global_seed_generator().next()
    raise ArgumentError(f"seed must be an int, a SeedGenerator or None, got {seed!r}")


def _draw(name: str, body: Any, seed: Any, shape: Any, *tensors: Any, **attrs: Any) -> Any:
    """``body(key, step, shape, *tensors, **attrs)`` on nodes; at once where nothing is traced."""
    shape = tuple(shape) if isinstance(shape, (list, tuple)) else (shape,)
    if any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or type(n) is not Dim and n < 0 for n in shape):
        raise ArgumentError(f"random.{name.removeprefix('random_')}: the shape must be sizes >= 0, is {shape}")
    state = draw_seed(seed)

    def compute(state: Any, *xs: Any) -> Any:
        key = as_node(state)
        return Tensor(body(key, F.reshape(F.slice_(key, (1,), (2,)), ()), shape, *[as_node(x) if x is not None else None for x in xs], **attrs))

    if current_scope() is not None or any(isinstance(t, Tensor) for t in (state, *tensors)):
        return compute(state, *tensors)
    arrays = [as_array(state), *[as_array(t) for t in tensors]]
    cache = (name, shape, tuple(sorted((k, str(v)) for k, v in attrs.items())), tuple([(a.shape, a.dtype.name) for a in arrays]))
    exe = _EXECUTABLES.get(cache)
    if exe is None:
        if len(_EXECUTABLES) > 128:
            _EXECUTABLES.clear()
        specs = tuple([ArgSpec(a.shape, a.dtype.name, f"x{i}") for i, a in enumerate(arrays)])
        exe = _EXECUTABLES[cache] = compile_function(compute, specs, name=name)
    return exe(*arrays)


def _float(dtype: Any) -> Any:
    return as_dtype(dtype or config.floatx())


def uniform(shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Uniform in [minval, maxval); integers for an integer dtype."""
    dtype = _float(dtype)
    if dtype.is_int:
        return randint(shape, minval, maxval, dtype, seed)

    def body(key: Any, step: Any, shape: tuple, low: Any, high: Any, dtype: Any) -> Any:
        return F.random_uniform(key, step, shape, 0, dtype, low, high)

    return _draw("random_uniform", body, seed, shape, np.asarray(minval, dtype.np), np.asarray(maxval, dtype.np), dtype=dtype)


def normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    dtype = _float(dtype)

    def body(key: Any, step: Any, shape: tuple, mean: Any, std: Any, dtype: Any) -> Any:
        return F.add(F.mul(F.random_normal(key, step, shape, 0, dtype), std), mean)

    return _draw("random_normal", body, seed, shape, np.asarray(mean, dtype.np), np.asarray(stddev, dtype.np), dtype=dtype)


def truncated_normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    """Normal values within two standard deviations."""
    dtype = _float(dtype)

    def body(key: Any, step: Any, shape: tuple, mean: Any, std: Any, dtype: Any) -> Any:
        return F.add(F.mul(F.random_truncated_normal(key, step, shape, 0, dtype), std), mean)

    return _draw("truncated_normal", body, seed, shape, np.asarray(mean, dtype.np), np.asarray(stddev, dtype.np), dtype=dtype)


def randint(shape: Any, minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None) -> Any:
    """Integers in [minval, maxval), all of one probability."""
    dtype = as_dtype(dtype)
    low, high = np.asarray(minval, np.int64), np.asarray(maxval, np.int64)
    if (low >= high).any():
        raise ArgumentError(f"random.randint draws from [minval, maxval), which [{minval}, {maxval}) leaves empty")

    def body(key: Any, step: Any, shape: tuple, low: Any, high: Any, dtype: Any) -> Any:
        return F.random_integers(key, step, shape, low, high, 0, dtype)

    return _draw("randint", body, seed, shape, low, high, dtype=dtype)


def gamma(shape: Any, alpha: Any, dtype: Any = None, seed: Any = None) -> Any:
    """Gamma with shape parameter alpha and scale 1; nan where alpha isn't positive."""

    def body(key: Any, step: Any, shape: tuple, alpha: Any, dtype: Any) -> Any:
        return F.random_gamma(key, step, alpha, shape, 0, dtype)

    return _draw("gamma", body, seed, shape, _parameter(alpha), dtype=_float(dtype))


def beta(shape: Any, alpha: Any, beta: Any, dtype: Any = None, seed: Any = None) -> Any:
    """Beta(alpha, beta); nan where a parameter isn't positive."""

    def body(key: Any, step: Any, shape: tuple, a: Any, b: Any, dtype: Any) -> Any:
        return F.random_beta(key, step, a, b, shape, 0, dtype)

    return _draw("beta", body, seed, shape, _parameter(alpha), _parameter(beta), dtype=_float(dtype))


def binomial(shape: Any, counts: Any, probabilities: Any, dtype: Any = None, seed: Any = None) -> Any:
    """How many of ``counts`` trials succeed, each with probability ``probabilities``."""

    def body(key: Any, step: Any, shape: tuple, n: Any, p: Any, dtype: Any) -> Any:
        return F.random_binomial(key, step, n, p, shape, 0, dtype)

    return _draw("binomial", body, seed, shape, _parameter(counts), _parameter(probabilities), dtype=_float(dtype))


def _parameter(x: Any) -> Any:
    """A distribution's parameter: numbers as ``floatx``."""
    return np.asarray(x, as_dtype(config.floatx()).np) if isinstance(x, (int, float, list, tuple)) else x


def dropout(inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None) -> Any:
    """``inputs`` with elements set to 0 at ``rate``, the others scaled by 1 / (1 - rate)."""
    if isinstance(inputs, KerasTensor):
        raise ArgumentError("random.dropout on a symbolic tensor: use the layer Dropout")
    from .ops.nn import check_rate

    check_rate(rate, "random.dropout")

    def body(key: Any, step: Any, shape: tuple, x: Any, rate: float) -> Any:
        if rate >= 1:
            return F.zeros_like(x)
        shape = tuple([n if s is None else s for s, n in zip(shape, x.shape)])
        kept = F.lt(F.random_uniform(key, step, shape, 0, "float32"), 1.0 - rate)
        return F.where(F.broadcast_to(kept, x.shape), F.mul(x, 1.0 / (1.0 - rate)), F.zeros_like(x))

    x = inputs if isinstance(inputs, Tensor) or current_scope() is not None else as_array(inputs)
    shape = tuple(x.shape) if noise_shape is None else tuple(noise_shape)
    return _draw("dropout", body, seed, shape, x, rate=float(rate))


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: Any = None) -> Any:
    """(rows, num_samples) classes drawn with the probabilities softmax(logits)."""
    dtype = as_dtype(dtype)

    def body(key: Any, step: Any, shape: tuple, x: Any, dtype: Any) -> Any:
        return F.random_categorical(key, step, x, shape[0], 0, dtype)

    return _draw("categorical", body, seed, (num_samples,), logits, dtype=dtype)


def shuffle(x: Any, axis: int = 0, seed: Any = None) -> Any:
    """The slices along ``axis`` in a random order."""

    def body(key: Any, step: Any, shape: tuple, x: Any, axis: int) -> Any:
        return F.shuffle(key, step, x, axis)

    x = x if isinstance(x, Tensor) or current_scope() is not None else as_array(x)
    return _draw("shuffle", body, seed, (), x, axis=axis)


__all__ = [
    "SeedGenerator", "beta", "binomial", "categorical", "dropout", "gamma", "normal", "randint", "shuffle", "truncated_normal", "uniform",
]
