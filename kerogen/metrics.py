"""Keras' metrics."""

from .frontends.keras.metrics import *  # the names are in __all__ there
