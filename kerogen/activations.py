"""Keras' activation functions."""

from .frontends.keras.activations import *  # the names are in __all__ there
