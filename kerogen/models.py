"""Models: `Model`, `Sequential`, and loading and cloning them."""

from .frontends.keras.models import *  # the names are in __all__ there
