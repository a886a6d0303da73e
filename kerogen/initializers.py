"""Keras' initializers."""

from .frontends.keras.initializers import *  # the names are in __all__ there
