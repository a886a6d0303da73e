"""Keras' functions on tensors. On arrays they compute at once, through a compiled graph; on symbolic tensors they build one."""

from .frontends.keras.ops import *  # the names are in __all__ there
