"""Philox against the test vectors of its authors (Random123, kat_vectors), and the distributions made of it."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node
from kerogen.compiler.ops.random import philox

VECTORS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]
KEY = np.array([123, 456], np.uint32)


def compute(y: Node) -> np.ndarray:
    return evaluate(Graph((), (y,)), [])[0]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_vectors_of_the_paper(counter, key, expected) -> None:
    assert [int(x) for x in philox(counter, key)] == expected


def test_the_op_numbers_elements_steps_and_streams() -> None:
    assert compute(o.random_bits(np.zeros(2, np.uint32), 0, (1,), 0)).tolist() == [0x6627E8D5]
    bits = compute(o.random_bits(KEY, 7, (3, 4), 9, 2))
    for e in range(12):
        assert bits.reshape(-1)[e] == philox([e, 0, 7, 9], KEY)[2]


def test_streams_steps_and_words_differ() -> None:
    base = compute(o.random_bits(KEY, 1, (100,), 0))
    for other in (
        o.random_bits(KEY, 2, (100,), 0),
        o.random_bits(KEY, 1, (100,), 1),
        o.random_bits(KEY, 1, (100,), 0, 1),
        o.random_bits(KEY[::-1], 1, (100,), 0),
    ):
        assert np.count_nonzero(base == compute(other)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_uniform_is_uniform_below_one(dtype: str) -> None:
    u = compute(o.random_uniform(KEY, 3, (40000,), 5, dtype)).astype(np.float64)
    assert 0 <= u.min() and u.max() < 1
    grid = np.sort(u) - (np.arange(u.size) + 0.5) / u.size
    limit = 1.95 / np.sqrt(u.size) + {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(
        dtype, 0
    )  # Kolmogorov and Smirnov at 0.1 %, and the steps of the type
    assert np.abs(grid).max() < limit
    lagged = np.corrcoef(u[:-1], u[1:])[0, 1]
    assert abs(lagged) < 4 / np.sqrt(u.size)


def test_uniform_between_bounds() -> None:
    u = compute(o.random_uniform(KEY, 3, (20000,), 5, "float32", -2.0, 3.0))
    assert -2 <= u.min() < -1.99 and 2.99 < u.max() < 3
    plain = compute(o.random_uniform(KEY, 3, (20000,), 5))
    np.testing.assert_allclose(u, plain * np.float32(5) - np.float32(2), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_has_the_moments_and_tails(dtype: str) -> None:
    z = compute(o.random_normal(KEY, 1, (60000,), 2, dtype)).astype(np.float64)
    n = z.size
    assert np.isfinite(z).all()
    assert (
        abs(z.mean()) < 4 / np.sqrt(n)
        and abs(z.var() - 1) < 4 * np.sqrt(2 / n)
        and abs((z**3).mean()) < 4 * np.sqrt(15 / n)
        and abs((z**4).mean() - 3) < 4 * np.sqrt(96 / n)
    )
    for bound, share in ((1, 0.31731), (2, 0.04550), (3, 0.00270)):
        assert abs((np.abs(z) > bound).mean() - share) < 4 * np.sqrt(share / n)
    shifted = compute(o.random_normal(KEY, 1, (50,), 2, dtype, mean=3.0, std=0.5))
    np.testing.assert_allclose(shifted, z[:50] * 0.5 + 3, rtol=1e-5)
