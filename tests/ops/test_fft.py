"""Fourier transforms against NumPy and SciPy: every kind of length, accuracy in float32, short-time transforms and their inverses."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as f
from kerogen.runtime.errors import ArgumentError, ShapeError

from ..codegen.llvm.test_routines import run
from ..compare import assert_close
from ..oracle import oracle

rng = np.random.default_rng(41)


@pytest.mark.parametrize("n", [1, 2, 31, 33, 64, 67, 100, 127, 256, 360, 1009, 1024, 2 * 3 * 5 * 7 * 11])
def test_any_length(n: int) -> None:
    z = rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))
    for dtype, tolerance in (("float64", 2e-14), ("float32", 6e-7)):
        re, im = run(lambda a, b: f.fft((a, b)), z.real.astype(dtype), z.imag.astype(dtype))
        expected = np.fft.fft(z)
        # errors are relative to the norm, as every algorithm's are
        assert np.abs(re + 1j * im - expected).max() < tolerance * np.sqrt(n) * 4, (n, dtype)
        back = run(lambda a, b: f.ifft((a, b)), re, im)
        assert np.abs(back[0] + 1j * back[1] - z).max() < tolerance * 8
    x = rng.standard_normal((3, n))
    re, im = run(lambda v: f.rfft(v), x)
    assert_close(re + 1j * im, np.fft.rfft(x), 1e-12)
    assert_close(run(lambda a, b: f.irfft((a, b), n), re, im)[0], x, 1e-12)


def test_other_axes_and_lengths() -> None:
    x = rng.standard_normal((5, 12, 3))
    for n in (7, 12, 20):
        re, im = run(lambda v, n=n: f.rfft(v, n, 1), x)
        assert_close(re + 1j * im, np.fft.rfft(x, n, 1), 1e-12)
        assert_close(run(lambda a, b, n=n: f.irfft((a, b), n, 1), re, im)[0], np.fft.irfft(re + 1j * im, n, 1), 1e-12)
    z = rng.standard_normal((2, 6, 10)) + 1j
    re, im = run(lambda a, b: f.fft2((a, b)), z.real.copy(), z.imag.copy())
    assert_close(re + 1j * im, np.fft.fft2(z), 1e-12)


@pytest.mark.parametrize(("length", "stride", "size"), [(16, 4, 16), (20, 5, 32), (12, 6, 13)])
def test_short_time_transforms(length: int, stride: int, size: int) -> None:
    scipy = oracle("scipy.signal")
    x = rng.standard_normal((2, 101))
    re, im = run(lambda v: f.stft(v, length, stride, size, "hann", False), x)
    window = scipy.get_window("hann", length)
    left = (size - length) // 2
    padded = np.pad(window, (left, size - length - left))
    frames = np.stack([x[:, i:i + size] * padded for i in range(0, 101 - size + 1, stride)], 1)
    assert_close(re + 1j * im, np.fft.rfft(frames), 1e-12)
    if size % 2 == 0:
        back = run(lambda v: f.istft(f.stft(v, length, stride, size), length, stride, size, 95), x)[0]
        assert_close(back, x[:, :95], 1e-12)


def test_errors_say_what_was_given() -> None:
    with pytest.raises(ArgumentError, match=r"pair \(real, imaginary\)"):
        f.fft(np.zeros(3))
    with pytest.raises(ShapeError, match=r"real part has shape \[3\], the imaginary part \[4\]"):
        f.fft((np.zeros(3), np.zeros(4)))
    with pytest.raises(ShapeError, match="holds no window"):
        f.frames(np.zeros(3), 4, 1)
    with pytest.raises(ArgumentError, match="'hann', 'hamming', None or an array"):
        f.stft(np.zeros(30), 8, 2, 8, "kaiser")
