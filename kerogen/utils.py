"""Keras' small tools: class labels to one-hot rows, seeds, sequences of batches."""

from .frontends.keras.utils import *  # the names are in __all__ there
