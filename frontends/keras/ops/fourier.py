"""Fourier transforms of ``ops``: complex arrays are pairs (real, imaginary)."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from .arithmetic import MATH
from .define import operation


@operation(MATH, name="FFT")
def fft(x: Any) -> Any:
    """The transform of a pair along the last axis."""
    return F.fft(x)


@operation(MATH, name="FFT2")
def fft2(x: Any) -> Any:
    """The transform of a pair along the last two axes."""
    return F.fft2(x)


@operation(MATH, name="IFFT2")
def ifft2(x: Any) -> Any:
    """The inverse of ``fft2``."""
    return F.ifft2(x)


@operation(MATH, name="RFFT")
def rfft(x: Any, fft_length: int | None = None) -> Any:
    """The first fft_length // 2 + 1 terms of a real array's transform along the last axis, cut or filled up to ``fft_length``."""
    return F.rfft(x, fft_length)


@operation(MATH, name="IRFFT")
def irfft(x: Any, fft_length: int | None = None) -> Any:
    """The real array whose ``rfft`` is the pair given."""
    return F.irfft(x, fft_length)


@operation(MATH, name="STFT")
def stft(x: Any, sequence_length: int, sequence_stride: int, fft_length: int, window: Any = "hann", center: bool = True) -> Any:
    """``rfft`` of windowed frames of the last axis: a pair (..., frames, fft_length // 2 + 1)."""
    return F.stft(x, sequence_length, sequence_stride, fft_length, window, center)


@operation(MATH, name="ISTFT")
def istft(x: Any, sequence_length: int, sequence_stride: int, fft_length: int, length: int | None = None, window: Any = "hann", center: bool = True) -> Any:
    """The signal whose ``stft`` is the pair given."""
    return F.istft(x, sequence_length, sequence_stride, fft_length, length, window, center)


@operation(MATH)
def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> Any:
    """The frames of ``sequence_length`` elements that begin every ``sequence_stride`` elements of the last axis."""
    return F.frames(x, sequence_length, sequence_stride)


__all__ = ["extract_sequences", "fft", "fft2", "ifft2", "irfft", "istft", "rfft", "stft"]
