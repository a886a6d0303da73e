"""Keras' optimizers."""

from .frontends.keras.optimizers import *  # the names are in __all__ there
