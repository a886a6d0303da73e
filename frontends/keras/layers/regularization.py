"""Layers that act in training only: dropout and noise."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError
from .. import ops, random, regularizers
from ..layer import Layer
from .arguments import number


def check_seed(seed: Any, layer: str) -> Any:
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ArgumentError(f"{layer}: seed must be an integer or None, got {seed!r}")
    return seed


class Dropout(Layer):
    """In training, sets elements to 0 at ``rate`` and scales the others by 1 / (1 - rate)."""

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate, self.seed = number(type(self).__name__, "rate", rate, 0, 1), check_seed(seed, type(self).__name__)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, self._shape(inputs), self.seed_generator)

    def _shape(self, inputs: Any) -> Any:
        return None if self.noise_shape is None else tuple([n if s is None else s for s, n in zip(self.noise_shape, inputs.shape)])

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}


class AlphaDropout(Dropout):
    """Dropout that keeps mean and variance of inputs which SELU made: dropped elements become SELU's lower limit (Klambauer et al., 2017)."""

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        low = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946
        kept = ops.greater_equal(random.uniform(self._shape(inputs) or inputs.shape, seed=self.seed_generator), self.rate)
        scale = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5 if self.rate < 1 else 0.0
        return scale * ops.where(kept, inputs, low) - scale * low * self.rate


class _SpatialDropout(Dropout):
    """Drops whole channels."""

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)

    def _channel_axis(self) -> int:
        return -1 if getattr(self, "data_format", "channels_last") == "channels_last" else 1

    def _shape(self, inputs: Any) -> Any:
        rank = len(inputs.shape)
        return tuple([n if i in (0, self._channel_axis() % rank) else 1 for i, n in enumerate(inputs.shape)])

    def get_config(self) -> dict:
        return {"rate": self.rate, "seed": self.seed, "name": self.name, "dtype": self.dtype}


class SpatialDropout1D(_SpatialDropout):
    pass


class SpatialDropout2D(_SpatialDropout):
    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, name: str | None = None, dtype: Any = None):
        from .. import config

        super().__init__(rate, seed, name, dtype)
        self.data_format = config.standardize_data_format(data_format)

    def get_config(self) -> dict:
        return {**super().get_config(), "data_format": self.data_format}


class SpatialDropout3D(SpatialDropout2D):
    pass


class GaussianNoise(Layer):
    """In training, adds normal noise."""

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.stddev, self.seed = number("GaussianNoise", "stddev", stddev, 0, 1), check_seed(seed, "GaussianNoise")
        if stddev > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.stddev == 0:
            return inputs
        return inputs + random.normal(inputs.shape, 0.0, self.stddev, self.compute_dtype, self.seed_generator)

    def get_config(self) -> dict:
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


class GaussianDropout(Layer):
    """In training, multiplies by normal noise of mean 1 and variance rate / (1 - rate)."""

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if number("GaussianDropout", "rate", rate, 0, 1) == 1:
            raise ArgumentError("GaussianDropout: rate must be less than 1: the noise has variance rate / (1 - rate)")
        self.rate, self.seed = rate, check_seed(seed, "GaussianDropout")
        if rate > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, training: Any = False) -> Any:
        if not training or self.rate == 0:
            return inputs
        return inputs * random.normal(inputs.shape, 1.0, (self.rate / (1.0 - self.rate)) ** 0.5, self.compute_dtype, self.seed_generator)

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


class ActivityRegularization(Layer):
    """Hands its input on, and adds its L1 and L2 norms to the loss."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(activity_regularizer=regularizers.L1L2(l1=l1, l2=l2), **kwargs)
        self.l1, self.l2 = l1, l2
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.multiply(inputs, 1)

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("activity_regularizer", None)
        return {**config, "l1": self.l1, "l2": self.l2}
