"""Batch, layer, group, RMS, unit and spectral normalisation."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError, UnsupportedOpError
from .. import initializers, ops
from ..input_spec import InputSpec
from ..layer import Layer
from .arguments import axes_in, integer, known_size, make_weight, number, positive, set_weight, weight_config
from .core import Wrapper


class BatchNormalization(Layer):
    """Normalises with the batch's statistics when training (and moves the averages), with the moving averages otherwise or when not ``trainable``."""

    def __init__(self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", moving_mean_initializer: Any = "zeros",
                 moving_variance_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None,
                 gamma_constraint: Any = None, renorm: bool = False, renorm_clipping: Any = None, renorm_momentum: float = 0.99,
                 synchronized: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        if renorm:
            raise UnsupportedOpError("BatchNormalization: renorm=True isn't supported; leave it out")
        self.axis = integer("BatchNormalization", "axis", axis)
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale, self.synchronized = center, scale, synchronized
        self.renorm_clipping, self.renorm_momentum = renorm_clipping, renorm_momentum
        set_weight(self, "beta", beta_initializer, beta_regularizer, beta_constraint)
        set_weight(self, "gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        rank = len(input_shape)
        size = known_size(self, input_shape, self.axis)
        shape = (size,)
        if self.scale:
            self.gamma = make_weight(self, "gamma", shape, autocast=False)
        if self.center:
            self.beta = make_weight(self, "beta", shape, autocast=False)
        self.moving_mean = self.add_weight(shape=shape, name="moving_mean", initializer=self.moving_mean_initializer, trainable=False, autocast=False)
        self.moving_variance = self.add_weight(shape=shape, name="moving_variance", initializer=self.moving_variance_initializer, trainable=False,
                                               autocast=False)
        self.input_spec = InputSpec(ndim=rank, axes={self.axis: size})

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        dtype = inputs.dtype
        x = ops.cast(inputs, "float32") if dtype in ("float16", "bfloat16") else inputs
        mean, variance = self.moving_mean, self.moving_variance
        if training and self.trainable:
            rank = len(x.shape)
            axes = [i for i in range(rank) if i != self.axis % rank]
            if mask is None:
                mean, variance = ops.moments(x, axes=axes)
            else:
                mean, variance = _masked_moments(x, mask, axes)
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + ops.cast(now, moving.dtype) * (1.0 - self.momentum))
        out = ops.batch_normalization(x, mean, variance, self.axis, self.beta if self.center else None, self.gamma if self.scale else None, self.epsilon)
        return ops.cast(out, dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis, "momentum": self.momentum, "epsilon": self.epsilon, "center": self.center,
                "scale": self.scale, **weight_config(self, "beta", "gamma"),
                "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
                "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
                "synchronized": self.synchronized, "renorm": False, "renorm_clipping": self.renorm_clipping, "renorm_momentum": self.renorm_momentum}


def _masked_moments(x: Any, mask: Any, axes: list[int]) -> tuple[Any, Any]:
    """Mean and variance of the elements that the mask (of the leading axes) keeps."""
    weights = ops.cast(mask, x.dtype)
    weights = ops.broadcast_to(ops.reshape(weights, (*weights.shape, *[1] * (len(x.shape) - len(weights.shape)))), x.shape)
    total = ops.sum(weights, axis=axes, keepdims=True)
    mean = ops.sum(x * weights, axis=axes, keepdims=True) / (total + 1e-7)
    variance = ops.sum(weights * ops.square(x - mean), axis=axes) / (ops.squeeze(total, tuple(axes)) + 1e-7)
    return ops.squeeze(mean, tuple(axes)), variance


class LayerNormalization(Layer):
    """Normalises every sample over ``axis`` (one or several)."""

    def __init__(self, axis: Any = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True, beta_initializer: Any = "zeros",
                 gamma_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None,
                 gamma_constraint: Any = None, **kwargs: Any):
        self.rms_scaling = kwargs.pop("rms_scaling", False)
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        if not isinstance(axis, (int, list, tuple)):
            raise ArgumentError(f"LayerNormalization: axis must be an integer or a list of them, got {axis!r}")
        self.epsilon, self.center, self.scale = epsilon, center, scale
        set_weight(self, "beta", beta_initializer, beta_regularizer, beta_constraint)
        set_weight(self, "gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Any) -> None:
        self.axis = self.axis if isinstance(self.axis, list) else [self.axis]
        axes_in(self, self.axis, input_shape)
        shape = tuple([known_size(self, input_shape, a) for a in self.axis])
        self.gamma = make_weight(self, "gamma", shape, autocast=False) if self.scale or self.rms_scaling else None
        self.beta = make_weight(self, "beta", shape, autocast=False) if self.center and not self.rms_scaling else None

    def call(self, inputs: Any) -> Any:
        out = ops.layer_normalization(inputs, self.gamma, self.beta, axis=self.axis, epsilon=self.epsilon, rms_scaling=self.rms_scaling)
        return ops.cast(out, self.compute_dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis, "epsilon": self.epsilon, "center": self.center, "scale": self.scale,
                "rms_scaling": self.rms_scaling, **weight_config(self, "beta", "gamma")}


class GroupNormalization(Layer):
    """Normalises every sample over groups of the channels on ``axis``; ``groups=-1`` makes every channel a group (Wu and He, 2018)."""

    def __init__(self, groups: int = 32, axis: int = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 beta_initializer: Any = "zeros", gamma_initializer: Any = "ones", beta_regularizer: Any = None, gamma_regularizer: Any = None,
                 beta_constraint: Any = None, gamma_constraint: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        what = "GroupNormalization"
        self.groups = groups if groups == -1 else positive(what, "groups", groups)
        self.axis, self.epsilon = integer(what, "axis", axis), number(what, "epsilon", epsilon, 0)
        self.center, self.scale = center, scale
        set_weight(self, "beta", beta_initializer, beta_regularizer, beta_constraint)
        set_weight(self, "gamma", gamma_initializer, gamma_regularizer, gamma_constraint)
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self.axis, "channel axis")
        self.groups = channels if self.groups == -1 else self.groups
        if channels % self.groups:
            raise ArgumentError(f"GroupNormalization '{self.name}': the input's {channels} channels are no multiple of groups={self.groups}")
        if self.axis % len(input_shape) == 0:
            raise ArgumentError(f"GroupNormalization '{self.name}': axis={self.axis} is the batch axis of an input of shape {tuple(input_shape)}")
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})
        self.gamma = make_weight(self, "gamma", (channels,), autocast=False) if self.scale else None
        self.beta = make_weight(self, "beta", (channels,), autocast=False) if self.center else None

    def call(self, inputs: Any) -> Any:
        shape, axis = inputs.shape, self.axis % len(inputs.shape)
        split = (self.groups, shape[axis] // self.groups)
        x = ops.reshape(inputs, (*shape[:axis], *split, *shape[axis + 1:]))
        x = ops.cast(x, "float32") if inputs.dtype in ("float16", "bfloat16") else x
        mean, variance = ops.moments(x, axes=[i for i in range(1, len(x.shape)) if i != axis], keepdims=True)
        per_channel = tuple([split[i - axis] if i in (axis, axis + 1) else 1 for i in range(len(x.shape))])
        scale = ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            scale = scale * ops.cast(ops.reshape(self.gamma, per_channel), x.dtype)
        out = (x - mean) * scale
        if self.beta is not None:
            out = out + ops.cast(ops.reshape(self.beta, per_channel), x.dtype)
        return ops.cast(ops.reshape(out, shape), self.compute_dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "groups": self.groups, "axis": self.axis, "epsilon": self.epsilon, "center": self.center,
                "scale": self.scale, **weight_config(self, "beta", "gamma")}


class RMSNormalization(Layer):
    """``x / sqrt(mean(x^2) + epsilon) * scale`` over ``axis``."""

    def __init__(self, axis: Any = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis, self.epsilon = axis, epsilon

    def build(self, input_shape: Any) -> None:
        axes_in(self, self.axis, input_shape)
        self.axis = [self.axis] if isinstance(self.axis, int) else sorted(self.axis)
        self.scale = self.add_weight(name="scale", shape=tuple([known_size(self, input_shape, a) for a in self.axis]), initializer="ones", autocast=False)

    def call(self, inputs: Any) -> Any:
        return ops.rms_normalization(inputs, self.scale, axis=self.axis, epsilon=self.epsilon)

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis, "epsilon": self.epsilon}


class UnitNormalization(Layer):
    """Every sample over its Euclidean norm along ``axis``."""

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        axes_in(self, self.axis, input_shape)

    def call(self, inputs: Any) -> Any:
        return ops.normalize(inputs, axis=self.axis, order=2, epsilon=1e-12)

    def get_config(self) -> dict:
        return {**super().get_config(), "axis": self.axis}


class SpectralNormalization(Wrapper):
    """Divides the kernel of ``layer`` by its largest singular value when training (Miyato et al., 2018), estimated by ``power_iterations`` of the power
    method from the vector of the last call. The kernel itself is changed, but for training steps, which differentiate through the division."""

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.power_iterations = positive("SpectralNormalization", "power_iterations", power_iterations)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        kernel = getattr(self.layer, "kernel", None)
        self.kernel = getattr(self.layer, "embeddings", None) if kernel is None else kernel
        if self.kernel is None:
            raise ArgumentError(f"SpectralNormalization '{self.name}': the layer {type(self.layer).__name__} '{self.layer.name}' has no kernel and no embeddings")
        self.vector_u = self.add_weight(shape=(1, self.kernel.shape[-1]), initializer=initializers.TruncatedNormal(stddev=0.02), trainable=False,
                                        name="vector_u")

    def call(self, inputs: Any, training: Any = False) -> Any:
        if training:
            kernel = ops.convert_to_tensor(self.kernel)
            rows = ops.reshape(kernel, (-1, kernel.shape[-1]))
            u = ops.convert_to_tensor(self.vector_u)
            for _ in range(self.power_iterations):
                v = ops.normalize(ops.matmul(u, ops.transpose(rows)), axis=None)
                u = ops.normalize(ops.matmul(v, rows), axis=None)
            u, v = ops.stop_gradient(u), ops.stop_gradient(v)
            sigma = ops.matmul(ops.matmul(v, rows), ops.transpose(u))
            zero = ops.all(ops.equal(kernel, 0))
            self.vector_u.assign(ops.where(zero, ops.convert_to_tensor(self.vector_u), u))
            self.kernel.assign(ops.reshape(rows / ops.where(zero, ops.ones_like(sigma), sigma), kernel.shape))
        return ops.cast(self.layer(inputs), inputs.dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "power_iterations": self.power_iterations}
