"""Layers that give images one size: resized, or their middle cut out."""

from __future__ import annotations

from typing import Any

from ....runtime.dim import Dim
from ....runtime.errors import ArgumentError, ShapeError
from .. import config, ops
from ..layer import Layer
from ..tensor import known_shape


class _ImageSize(Layer):
    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in (height, width)):
            raise ArgumentError(f"{type(self).__name__}: height and width must be positive integers, got {height!r} and {width!r}")
        self.height, self.width = height, width
        self.data_format = config.standardize_data_format(data_format)
        self.built = True

    def get_config(self) -> dict:
        return {**super().get_config(), "height": self.height, "width": self.width, "data_format": self.data_format}


class Resizing(_ImageSize):
    """Images of ``height`` and ``width`` (``ops.image.resize``), of the input's type: integers are rounded."""

    def __init__(self, height: int, width: int, interpolation: str = "bilinear", crop_to_aspect_ratio: bool = False, pad_to_aspect_ratio: bool = False,
                 fill_mode: str = "constant", fill_value: float = 0.0, antialias: bool = False, data_format: str | None = None, **kwargs: Any):
        super().__init__(height, width, data_format, **kwargs)
        self.interpolation, self.antialias = interpolation, bool(antialias)
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.fill_mode, self.fill_value = fill_mode, fill_value

    def call(self, inputs: Any) -> Any:
        out = ops.image.resize(inputs, (self.height, self.width), self.interpolation, self.antialias, self.crop_to_aspect_ratio, self.pad_to_aspect_ratio,
                               self.fill_mode, self.fill_value, self.data_format)
        return out if out.dtype == inputs.dtype else ops.saturate_cast(ops.round(out), inputs.dtype)

    def get_config(self) -> dict:
        own = ("interpolation", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "fill_mode", "fill_value", "antialias")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


class CenterCrop(_ImageSize):
    """The middle of images, ``height`` x ``width``; smaller images are cut to that ratio and enlarged."""

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, self.compute_dtype)
        rows = len(x.shape) - (3 if self.data_format == "channels_last" else 2)
        if len(x.shape) not in (3, 4):
            raise ShapeError(f"CenterCrop {self.name!r} needs images of rank 3, or 4 for a batch; got shape {known_shape(x.shape)}")
        h, w = x.shape[rows], x.shape[rows + 1]
        if h is None or w is None or type(h) is Dim or type(w) is Dim:
            raise ShapeError(f"CenterCrop {self.name!r}: the height and width of the images must be known, got shape {known_shape(x.shape)}")
        if h < self.height or w < self.width:
            return ops.image.resize(x, (self.height, self.width), crop_to_aspect_ratio=True, data_format=self.data_format)
        return ops.image.crop_images(x, (h - self.height) // 2, (w - self.width) // 2, target_height=self.height, target_width=self.width,
                                     data_format=self.data_format)


__all__ = ["CenterCrop", "Resizing"]
