"""Keras' layers."""

from .frontends.keras.layers import *  # the names are in __all__ there
