"""When two arrays count as equal. Each function says where the worst element is, and both of its values."""

from __future__ import annotations

from typing import Any

import numpy as np


def _pair(actual: Any, expected: Any, check_dtype: bool, what: str) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(actual), np.asarray(expected)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    assert not check_dtype or a.dtype == b.dtype, f"{what}: dtype {a.dtype}, expected {b.dtype}"
    return a, b


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5, *, check_dtype: bool = True, what: str = "result") -> None:
    """|a - b| <= tolerance * (1 + |b|) for each element; NaN only where expected is NaN, infinities equal. Shapes and dtypes are equal too."""
    a, b = _pair(actual, expected, check_dtype, what)
    wide = np.complex128 if np.iscomplexobj(a) or np.iscomplexobj(b) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    with np.errstate(invalid="ignore"):
        close = (np.abs(a - b) <= tolerance * (1 + np.abs(b))) & np.isfinite(b)
        close |= (a == b) | (np.isnan(a) & np.isnan(b))
        if close.all():
            return
        # An infinite or NaN error is the worst there is.
        error = np.where(close, -1.0, np.nan_to_num(np.abs(a - b) / (1 + np.abs(b)), nan=np.inf))
    worst = np.unravel_index(int(np.argmax(error)), error.shape)
    at = tuple(int(i) for i in worst)
    raise AssertionError(
        f"{what}: {int((~close).sum())} of {close.size} elements differ by more than {tolerance:g} (1 + |expected|);"
        f" the worst, at {at}: {a[worst]!r}, expected {b[worst]!r}"
    )


def assert_norm_close(
    actual: Any, expected: Any, tolerance: float, floor: float = 0.0, *, check_dtype: bool = True, what: str = "result"
) -> None:
    """||a - b|| <= tolerance * (||b|| + floor), Euclidean norms over the whole tensor. For trained weights ``floor`` is
    learning rate * sqrt(size): what one step of an optimizer with normalised gradients changes."""
    a, b = _pair(actual, expected, check_dtype, what)
    a, b = a.astype(np.float64), b.astype(np.float64)
    assert np.isfinite(b).all(), f"{what}: the expected tensor holds NaN or infinity, so that its norm says nothing"
    distance, limit = float(np.linalg.norm(a - b)), tolerance * (float(np.linalg.norm(b)) + floor)
    assert distance <= limit, f"{what}: ||a - b|| is {distance:.3g}, at most {limit:.3g} expected (||b|| = {np.linalg.norm(b):.3g})"


def assert_same_bits(actual: Any, expected: Any, what: str = "result") -> None:
    """Equal shape, dtype and bytes: -0.0 differs from 0.0, and NaNs are equal only with the same payload."""
    a, b = _pair(actual, expected, True, what)
    different = np.ascontiguousarray(a).reshape(-1).view(np.uint8) != np.ascontiguousarray(b).reshape(-1).view(np.uint8)
    if different.any():
        first = int(np.argmax(different)) // a.dtype.itemsize
        at = tuple(int(i) for i in np.unravel_index(first, a.shape))
        raise AssertionError(f"{what}: bits differ, first at {at}: {a[at]!r}, expected {b[at]!r}")
