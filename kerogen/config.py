"""Keras' global settings: default element type, epsilon, image data format."""

from .frontends.keras.config import *  # the names are in __all__ there
