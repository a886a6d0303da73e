"""The errors kerogen raises. A ``UserError`` names what the caller gave and what to do; ``InternalError`` is our fault.

Each class also derives from the builtin that Keras and NumPy users already catch.
"""

from __future__ import annotations


class KerogenError(Exception):
    """Base of every error that kerogen raises on purpose."""


class UserError(KerogenError):
    """Something the caller gave can't be used."""


class ShapeError(UserError, ValueError):
    """Sizes don't fit: ranks, dimensions, numbers of elements."""


class DTypeError(UserError, TypeError):
    """An element type is unknown, or doesn't fit the operation."""


class ArgumentError(UserError, ValueError):
    """An argument has a value, a number or a type that the call can't take."""


class UnknownNameError(ArgumentError, KeyError):
    """A name (layer, metric, port, option) is not one that is known here."""

    __str__ = Exception.__str__


class IndexRangeError(UserError, IndexError):
    """A data-dependent index lies outside its axis (embedding, gather, scatter)."""


class GradientError(UserError, ValueError):
    """A derivative was asked for where none is defined."""


class UnsupportedOpError(UserError, NotImplementedError):
    """A model needs operators that kerogen doesn't have; the message lists them all."""


class UnsupportedPlatformError(UserError, RuntimeError):
    """This machine can't run generated code (kerogen compiles for Linux on x86-64 and AArch64)."""


class ModelFormatError(UserError, ValueError):
    """A file is damaged, hostile, or not of the format that its name claims."""


class StateError(UserError, RuntimeError):
    """A call came too early or twice: a layer not built, a model not compiled for training."""


class OutOfMemoryError(UserError, MemoryError):
    """A call needs more memory than there is; the message says how much."""


class InternalError(KerogenError, RuntimeError):
    """kerogen broke one of its own rules. Please report it with the dump that KEROGEN_DUMP writes."""
