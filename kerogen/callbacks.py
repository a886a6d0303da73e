"""Keras' callbacks: called by `fit`, `evaluate` and `predict`."""

from .frontends.keras.callbacks import *  # the names are in __all__ there
