"""Keras' layers."""

from ..input_spec import InputSpec
from ..layer import Layer
from .activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from .dense import Dense, Embedding
from .input_layer import Input, InputLayer
from .reshaping import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)

__all__ = [n for n, v in list(globals().items()) if not n.startswith("_") and (isinstance(v, type) or n == "Input")]
