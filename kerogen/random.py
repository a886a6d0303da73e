"""Random tensors, from counters and seeds: the same seed gives the same numbers on every machine."""

from .frontends.keras.random import *  # the names are in __all__ there
