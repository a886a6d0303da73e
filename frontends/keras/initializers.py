"""Initial values of variables. Names, arguments and distributions are Keras 3's; the random numbers are NumPy's.

An initializer is called as ``initializer(shape, dtype=None)`` and returns a NumPy array. One that is made with ``seed=None``
draws its seed
once, from Python's ``random`` (so ``utils.set_random_seed`` fixes it); every call of one instance gives the same values, as in
Keras.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import random as python_random
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from ...runtime.dtype import as_dtype, float32
from ...runtime.errors import ArgumentError, ModelFormatError, ShapeError


def _np_dtype(dtype: Any) -> np.dtype:
    return (float32 if dtype is None else as_dtype(dtype)).np


# Bytes that variables may still take while a file is loaded: [left, size of the file's weights]. None: no file is being loaded.
_BUDGET: ContextVar[list[int] | None] = ContextVar("kerogen_weight_budget", default=None)


@contextlib.contextmanager
def placeholders(limit: int) -> Iterator[None]:
    """Inside, random initial values are zeros (they are about to be read from a file), and values of any kind are refused when
    their sum exceeds
    ``limit`` bytes: a configuration can't make the reader allocate more than its weights justify.
    """
    token = _BUDGET.set([limit])
    try:
        yield
    finally:
        _BUDGET.reset(token)


def _budgeted(call: Callable) -> Callable:
    """An initializer's ``__call__`` that respects ``placeholders``."""

    @functools.wraps(call)
    def wrapper(self: Any, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> np.ndarray:
        budget = _BUDGET.get()
        if budget is not None:
            nbytes = math.prod(int(n) for n in shape) * _np_dtype(dtype).itemsize
            budget[0] -= nbytes
            if budget[0] < 0:
                raise ModelFormatError(
                    f"the configuration asks for a weight of shape {tuple(shape)} ({nbytes:,} bytes), far more than the file's "
                    "weights have; the file is damaged or hostile"
                )
            if isinstance(self, RandomInitializer):
                return np.zeros(tuple(shape), _np_dtype(dtype))
        return call(self, shape, dtype, **kwargs)

    return wrapper


class Initializer:
    """Base class: subclasses define ``__call__(shape, dtype=None)`` and, where they have arguments, ``get_config``."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "__call__" in cls.__dict__:
            cls.__call__ = _budgeted(cls.__dict__["__call__"])  # type: ignore[method-assign]

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(shape, dtype=None)")

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Initializer:
        return cls(**config)

    def clone(self) -> Initializer:
        return type(self).from_config(self.get_config())


class Constant(Initializer):
    """Every element is ``value`` (a scalar, or an array that broadcasts to the shape)."""

    def __init__(self, value: Any = 0.0):
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.array(np.broadcast_to(np.asarray(self.value), tuple(shape)), dtype=_np_dtype(dtype))

    def get_config(self) -> dict:
        from .serialization import serialize_keras_object

        return {"value": serialize_keras_object(self.value)}

    @classmethod
    def from_config(cls, config: dict) -> Constant:
        from .serialization import deserialize_keras_object

        return cls(deserialize_keras_object(config.get("value", 0.0)))


class Zeros(Initializer):
    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.zeros(tuple(shape), _np_dtype(dtype))


class Ones(Initializer):
    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return np.ones(tuple(shape), _np_dtype(dtype))


class Identity(Initializer):
    """``gain`` on the diagonal of a matrix, 0 elsewhere."""

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        if len(shape) != 2:
            raise ShapeError(f"Identity makes matrices only; the shape asked for is {tuple(shape)} of rank {len(shape)}")
        return np.asarray(self.gain * np.eye(*shape), dtype=_np_dtype(dtype))

    def get_config(self) -> dict:
        return {"gain": self.gain}


# The windows of scipy.signal.get_window that have a closed form, as coefficients of a cosine sum.
_COSINE_WINDOWS = {
    "boxcar": (1.0,),
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "nuttall": (0.3635819, 0.4891775, 0.1365995, 0.0106411),
    "blackmanharris": (0.35875, 0.48829, 0.14128, 0.01168),
}


class STFT(Initializer):
    """Kernels of a convolution that is a short-time Fourier transform: shape (frame_length, 1, fft_length // 2 + 1)."""

    def __init__(self, side: str = "real", window: Any = "hann", scaling: str | None = "density", periodic: bool = False):
        if side not in ("real", "imag"):
            raise ArgumentError(f"STFT: side is 'real' or 'imag', not {side!r}")
        if scaling not in (None, "density", "spectrum"):
            raise ArgumentError(f"STFT: scaling is None, 'density' or 'spectrum', not {scaling!r}")
        if isinstance(window, str) and window not in _COSINE_WINDOWS:
            raise ArgumentError(
                f"STFT: window {window!r} is not one of {', '.join(_COSINE_WINDOWS)}; pass its values as an array"
            )
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def _window(self, length: int) -> np.ndarray:
        if not isinstance(self.window, str):
            return np.asarray(self.window, np.float64)
        # scipy's get_window(name, n, fftbins=periodic): one period of n or of n - 1 samples
        period = length if self.periodic else max(length - 1, 1)
        t = 2 * np.pi * np.arange(length) / period
        return sum((-1) ** k * a * np.cos(k * t) for k, a in enumerate(_COSINE_WINDOWS[self.window])) * np.ones(length)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        frame, _, bins = shape
        time = np.arange(frame, dtype=np.float64).reshape(frame, 1, 1)
        angle = -2 * np.pi * time * np.arange(bins) / ((bins - 1) * 2)
        kernel = np.cos(angle) if self.side == "real" else np.sin(angle)
        if self.window is not None:
            window = self._window(frame)
            if window.shape != (frame,):
                raise ShapeError(f"STFT: the window has shape {window.shape}, the frame length is {frame}")
            scale = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window)), None: 1.0}[self.scaling]
            kernel = kernel * window.reshape(frame, 1, 1) / scale
        return np.asarray(kernel, _np_dtype(dtype))

    def get_config(self) -> dict:
        return {"side": self.side, "window": self.window, "periodic": self.periodic, "scaling": self.scaling}


class RandomInitializer(Initializer):
    """Base of the random ones: ``seed`` is an int, a ``SeedGenerator`` (each call draws on) or None."""

    def __init__(self, seed: Any = None):
        self._init_seed = seed
        if seed is None:
            seed = python_random.randint(1, int(1e9))
        elif isinstance(seed, dict):
            from .serialization import deserialize_keras_object

            seed = deserialize_keras_object(seed)
        elif not isinstance(seed, (int, np.integer)) and not hasattr(seed, "next"):
            raise ArgumentError(f"{type(self).__name__}: seed is an int, a SeedGenerator or None, not {seed!r}")
        self.seed = seed

    def _generator(self) -> np.random.Generator:
        if hasattr(self.seed, "next"):
            state = np.asarray(self.seed.next())
            return np.random.Generator(np.random.PCG64([int(v) & 0xFFFFFFFF for v in state.ravel()]))
        return np.random.Generator(np.random.PCG64(abs(int(self.seed))))

    def _normal(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> np.ndarray:
        return np.asarray(mean + stddev * self._generator().standard_normal(tuple(shape)), _np_dtype(dtype))

    def _truncated(self, shape: Sequence[int], mean: float, stddev: float, dtype: Any) -> np.ndarray:
        """Normal values redrawn while they lie more than two standard deviations out."""
        g = self._generator()
        x = g.standard_normal(tuple(shape))
        out = np.abs(x) > 2
        while out.any():
            x[out] = g.standard_normal(int(out.sum()))
            out = np.abs(x) > 2
        return np.asarray(mean + stddev * x, _np_dtype(dtype))

    def _uniform(self, shape: Sequence[int], low: float, high: float, dtype: Any) -> np.ndarray:
        return np.asarray(self._generator().uniform(low, high, tuple(shape)), _np_dtype(dtype))

    def get_config(self) -> dict:
        from .serialization import serialize_keras_object

        return {"seed": serialize_keras_object(self._init_seed)}


class RandomNormal(RandomInitializer):
    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None):
        self.mean, self.stddev = mean, stddev
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return self._normal(shape, self.mean, self.stddev, dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal values within two standard deviations of the mean."""

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return self._truncated(shape, self.mean, self.stddev, dtype)


class RandomUniform(RandomInitializer):
    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None):
        self.minval, self.maxval = minval, maxval
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        return self._uniform(shape, self.minval, self.maxval, dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


def compute_fans(
    shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """Units that feed one output and that one input feeds, for a kernel of ``shape`` (Keras' rule; the axes given win)."""
    shape = tuple(int(n) for n in shape)
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


# The standard deviation of a unit normal cut at +-2: dividing by it restores the variance.
_TRUNCATED_STDDEV = 0.87962566103423978


class VarianceScaling(RandomInitializer):
    """Variance ``scale / n``, where n is fan_in, fan_out or their mean (``mode``)."""

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ):
        if scale <= 0:
            raise ArgumentError(f"{type(self).__name__}: scale must be positive, got {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ArgumentError(f"{type(self).__name__}: mode is 'fan_in', 'fan_out' or 'fan_avg', not {mode!r}")
        distribution = distribution.lower()
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if distribution not in ("uniform", "truncated_normal", "untruncated_normal"):
            raise ArgumentError(
                f"{type(self).__name__}: distribution is 'uniform', 'truncated_normal' or 'untruncated_normal', not {distribution!r}"
            )
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, n)
        if self.distribution == "truncated_normal":
            return self._truncated(shape, 0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, dtype)
        if self.distribution == "untruncated_normal":
            return self._normal(shape, 0.0, math.sqrt(variance), dtype)
        limit = math.sqrt(3.0 * variance)
        return self._uniform(shape, -limit, limit, dtype)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


class _Named(VarianceScaling):
    """A VarianceScaling whose scale, mode and distribution are its name's."""

    _scaling: tuple[float, str, str]

    def __init__(self, seed: Any = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None):
        super().__init__(*self._scaling, seed=seed, input_axes=input_axes, output_axes=output_axes)

    def get_config(self) -> dict:
        return {**RandomInitializer.get_config(self), "input_axes": self.input_axes, "output_axes": self.output_axes}


class GlorotUniform(_Named):
    _scaling = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Named):
    _scaling = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Named):
    _scaling = (2.0, "fan_in", "uniform")


class HeNormal(_Named):
    _scaling = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Named):
    _scaling = (1.0, "fan_in", "uniform")


class LecunNormal(_Named):
    _scaling = (1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """``gain`` times a matrix with orthonormal rows or columns (the shape's leading axes are flattened into rows)."""

    def __init__(self, gain: float = 1.0, seed: Any = None):
        self.gain = gain
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal needs rank 2 or more; the shape asked for is {tuple(shape)}")
        rows, cols = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(self._generator().standard_normal((max(rows, cols), min(rows, cols))))
        q = q * np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the decomposition unique, so the distribution is uniform (Haar)
        q = q.T if rows < cols else q
        return np.asarray(self.gain * q.reshape(tuple(shape)), _np_dtype(dtype))

    def get_config(self) -> dict:
        return {**super().get_config(), "gain": self.gain}


constant, zeros, ones, identity, stft = Constant, Zeros, Ones, Identity, STFT
random_normal, truncated_normal, random_uniform, variance_scaling = RandomNormal, TruncatedNormal, RandomUniform, VarianceScaling
glorot_uniform, glorot_normal, he_uniform, he_normal = GlorotUniform, GlorotNormal, HeUniform, HeNormal
lecun_uniform, lecun_normal, orthogonal = LecunUniform, LecunNormal, Orthogonal
IdentityInitializer, OrthogonalInitializer, STFTInitializer = Identity, Orthogonal, STFT

CLASSES: dict[str, type[Initializer]] = {
    c.__name__: c
    for c in (
        Constant,
        Zeros,
        Ones,
        Identity,
        STFT,
        RandomNormal,
        TruncatedNormal,
        RandomUniform,
        VarianceScaling,
        GlorotUniform,
        GlorotNormal,
        HeUniform,
        HeNormal,
        LecunUniform,
        LecunNormal,
        Orthogonal,
    )
}
ALIASES: dict[str, type[Initializer]] = {
    "constant": Constant,
    "zeros": Zeros,
    "ones": Ones,
    "identity": Identity,
    "stft": STFT,
    "random_normal": RandomNormal,
    "truncated_normal": TruncatedNormal,
    "random_uniform": RandomUniform,
    "variance_scaling": VarianceScaling,
    "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
    "lecun_uniform": LecunUniform,
    "lecun_normal": LecunNormal,
    "orthogonal": Orthogonal,
    "normal": RandomNormal,
    "uniform": RandomUniform,
    "one": Ones,
    "zero": Zeros,
    "IdentityInitializer": Identity,
    "OrthogonalInitializer": Orthogonal,
    "STFTInitializer": STFT,
}

_NAMES = [n for n in ALIASES if n not in ("normal", "uniform", "one", "zero")]
__all__ = ["Initializer", "compute_fans", "deserialize", "get", "serialize", *CLASSES, *_NAMES]


def serialize(initializer: Any) -> Any:
    from .serialization import serialize_keras_object

    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    from .serialization import deserialize_keras_object

    return deserialize_keras_object(config, custom_objects=custom_objects)


def get(identifier: Any) -> Any:
    """An initializer from a name, a config dict, an array (copied), a class or a callable; None stays None."""
    if identifier is None:
        return None
    if isinstance(identifier, str):
        from .serialization import by_name

        return by_name("initializer", identifier, CLASSES, ALIASES)()
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, (np.ndarray, np.generic)):

        def from_array(shape: Sequence[int], dtype: Any = None) -> np.ndarray:
            if tuple(shape) != identifier.shape:
                raise ShapeError(f"the array given as initializer has shape {identifier.shape}, the variable has {tuple(shape)}")
            return np.array(identifier, dtype=_np_dtype(dtype))

        return from_array
    if inspect.isclass(identifier):
        return identifier()
    if callable(identifier):
        return identifier
    raise ArgumentError(
        f"{identifier!r} is no initializer: give a name such as 'glorot_uniform', an Initializer, or a callable (shape, dtype)"
    )
