"""Saving and loading, and registration of the caller's own classes."""

from .frontends.keras.saving import *  # the names are in __all__ there
