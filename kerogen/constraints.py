"""Keras' constraints on weights."""

from .frontends.keras.constraints import *  # the names are in __all__ there
