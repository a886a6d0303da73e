"""Keras' regularizers."""

from .frontends.keras.regularizers import *  # the names are in __all__ there
