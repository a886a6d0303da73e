"""Data that comes with kerogen, so that the first model trains without a download."""

from . import digits

__all__ = ["digits"]
