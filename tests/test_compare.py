"""The tests' own tools find what they are there to find: tests.compare, the golden fixture, tests.oracle."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compare import assert_close, assert_norm_close, assert_same_bits
from tests.conftest import Golden
from tests.oracle import oracle


def test_assert_close_accepts_what_is_within_the_tolerance(rng):
    b = rng.standard_normal((3, 5)).astype(np.float32) * 100
    b[0, 0], b[1, 1], b[2, 2] = np.inf, -np.inf, np.nan
    assert_close(b * np.float32(1 + 5e-6), b)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        ([1.0, 2.0, 3.1], [1.0, 2.0, 3.0], r"1 of 3 elements differ .* at \(2,\): .*3\.1"),
        ([1.0, np.nan, 3.0], [1.0, 2.0, 3.0], r"at \(1,\): .*nan"),
        ([1.0, 2.0, 3.0], [1.0, np.nan, 3.0], r"at \(1,\)"),
        ([1.0, np.inf, 3.0], [1.0, -np.inf, 3.0], r"at \(1,\)"),
        ([1.0, 1e30, 3.0], [1.0, np.inf, 3.0], r"at \(1,\)"),
        ([1.0, np.inf, 3.0], [1.0, 1e30, 3.0], r"at \(1,\): .*inf"),
        ([[1.0, 2.0]], [1.0, 2.0], r"shape \(1, 2\), expected \(2,\)"),
        (np.ones(3, np.float32), np.ones(3), "dtype float32, expected float64"),
        (np.array([3, 5], np.uint8), np.array([5, 5], np.uint8), "1 of 2"),
    ],
)
def test_assert_close_names_the_worst_element(actual, expected, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected)


def test_assert_norm_close(rng):
    b = rng.standard_normal(1000)
    step = rng.standard_normal(1000)
    step /= np.linalg.norm(step)
    assert_norm_close(b + step * np.linalg.norm(b) * 0.9e-4, b, 1e-4)
    assert_norm_close(step * 0.9e-4, np.zeros(1000), 1e-4, floor=1.0)
    with pytest.raises(AssertionError, match=r"\|\|a - b\|\|"):
        assert_norm_close(b + step * np.linalg.norm(b) * 1.1e-4, b, 1e-4)
    with pytest.raises(AssertionError, match="at most"):
        assert_norm_close(np.full(1000, np.nan), b, 1e-4)
    with pytest.raises(AssertionError, match="NaN or infinity"):
        assert_norm_close(b, np.full(1000, np.inf), 1e-4)


def test_assert_same_bits(rng):
    b = rng.standard_normal((4, 7)).astype(np.float32)
    assert_same_bits(b.copy(), b)
    a = b.copy()
    a[2, 3] = np.nextafter(a[2, 3], np.float32(np.inf))
    with pytest.raises(AssertionError, match=r"first at \(2, 3\)"):
        assert_same_bits(a, b)
    with pytest.raises(AssertionError, match=r"first at \(1,\): .*-0\.0"):
        assert_same_bits(np.array([1.0, -0.0]), np.array([1.0, 0.0]))


def test_golden_files_hold_what_was_accepted(tmp_path):
    path = tmp_path / "golden" / "text.txt"
    assert not (Golden(path, update=False) == "one\ntwo")  # nothing was accepted yet
    assert Golden(path, update=True) == "one\ntwo"
    assert path.read_text() == "one\ntwo\n"
    assert Golden(path, update=False) == "one\ntwo"
    assert Golden(path, update=False) != "one\n2"
    assert Golden(path, update=True)("second") == "three"
    assert (tmp_path / "golden" / "text.second.txt").read_text() == "three\n"
    with pytest.raises(TypeError, match="compare with str"):
        assert Golden(path, update=False) == 3


def test_golden_path_follows_the_test(golden, request):
    assert golden.path == request.path.parent / "golden" / "test_compare" / "test_golden_path_follows_the_test.txt"


def test_generators_follow_the_test_name(rng, request):
    import zlib

    expected = np.random.default_rng(zlib.crc32(request.node.nodeid.encode())).standard_normal(4)
    assert_same_bits(rng.standard_normal(4), expected)


def test_a_missing_oracle_skips_and_fails_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no_such_oracle"):
        oracle("no_such_oracle")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no_such_oracle"):
        oracle("no_such_oracle")
    assert oracle("onnx.reference").__name__ == "onnx.reference"
