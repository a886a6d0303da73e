"""Small layers: Identity, Lambda, Rescaling, Masking, Wrapper."""

from __future__ import annotations

import inspect
from typing import Any

from ....runtime.errors import ArgumentError, ModelFormatError
from .. import ops
from ..layer import Layer


class Identity(Layer):
    """Its input."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs


class Lambda(Layer):
    """The function given, on tensors (write it with ``kerogen.ops``). It can't be loaded from a file: a Layer subclass can."""

    def __init__(self, function: Any, output_shape: Any = None, mask: Any = None, arguments: dict | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not callable(function):
            raise ArgumentError(f"Lambda: function must be callable, got {function!r}")
        self.function, self.arguments, self._output_shape = function, dict(arguments or {}), output_shape
        self.mask = mask
        if mask is not None:
            self.supports_masking = True
        self._takes = inspect.signature(function).parameters

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        extra = dict(self.arguments)
        if "mask" in self._takes:
            extra["mask"] = mask
        if "training" in self._takes:
            extra["training"] = training
        return self.function(inputs, **extra)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict:
        from ..serialization import serialize_keras_object

        return {"name": self.name, "function": serialize_keras_object(self.function), "arguments": self.arguments}

    @classmethod
    def from_config(cls, config: dict) -> Lambda:
        function = config.get("function")
        if not callable(function):
            raise ModelFormatError(f"Lambda {config.get('name', '')!r}: its function comes from a file as code, which is never run; write the layer as a "
                                   "Layer subclass and give it to load_model through custom_objects")
        return cls(**config)


class Rescaling(Layer):
    """``inputs * scale + offset``."""

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, self.compute_dtype)
        return x * ops.cast(ops.convert_to_tensor(self.scale), self.compute_dtype) + ops.cast(ops.convert_to_tensor(self.offset), self.compute_dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}


class Masking(Layer):
    """Masks the steps whose features all equal ``mask_value``, and sets them to 0."""

    def __init__(self, mask_value: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True
        self.built = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs: Any) -> Any:
        keep = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        out = inputs * ops.cast(keep, inputs.dtype)
        out._keras_mask = ops.squeeze(keep, axis=-1)
        return out

    def get_config(self) -> dict:
        return {**super().get_config(), "mask_value": self.mask_value}


class Wrapper(Layer):
    """A layer around ``layer``."""

    def __init__(self, layer: Layer, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ArgumentError(f"{type(self).__name__}: layer must be a Layer, got {layer!r}")
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)

    def get_config(self) -> dict:
        from ..serialization import serialize_keras_object

        return {**super().get_config(), "layer": serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Any:
        from ..serialization import deserialize_keras_object

        config = dict(config)
        layer = config.pop("layer")
        return cls(layer if isinstance(layer, Layer) else deserialize_keras_object(layer, custom_objects=custom_objects), **config)
