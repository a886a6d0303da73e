"""Every error that kerogen raises on purpose; catch ``KerogenError`` for all of them."""

from .runtime.errors import (
    ArgumentError,
    DTypeError,
    GradientError,
    IndexRangeError,
    InternalError,
    KerogenError,
    ModelFormatError,
    OutOfMemoryError,
    ShapeError,
    StateError,
    UnknownNameError,
    UnsupportedOpError,
    UnsupportedPlatformError,
    UserError,
)

__all__ = [
    "ArgumentError",
    "DTypeError",
    "GradientError",
    "IndexRangeError",
    "InternalError",
    "KerogenError",
    "ModelFormatError", "OutOfMemoryError",
    "ShapeError",
    "StateError",
    "UnknownNameError",
    "UnsupportedOpError",
    "UnsupportedPlatformError",
    "UserError",
]
