"""Keras' losses."""

from .frontends.keras.losses import *  # the names are in __all__ there
