"""Distributions against SciPy's distribution functions (Kolmogorov and Smirnov at 0.1 %), natively computed."""

from __future__ import annotations

import numpy as np
import pytest

from kerogen.compiler import ops as f
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, Node
from kerogen.runtime.errors import ArgumentError, DTypeError, ShapeError

from ..codegen.llvm.test_routines import run
from ..compare import assert_close
from ..oracle import oracle

KEY = np.array([7, 99], np.uint32)
N = 20000
LIMIT = 1.95 / np.sqrt(N)


def draw(fn) -> np.ndarray:
    return run(lambda key: fn(key), KEY)[0]


CONTINUOUS = [
    ("truncated_normal", lambda k, t: f.random_truncated_normal(k, 1, (N,), 0, t), ("truncnorm", -2, 2)),
    ("exponential", lambda k, t: f.random_exponential(k, 1, (N,), 0, t, 3.0), ("expon", 0, 3)),
    ("gumbel", lambda k, t: f.random_gumbel(k, 1, (N,), 0, t), ("gumbel_r",)),
    *[("gamma", lambda k, t, a=a: f.random_gamma(k, 1, a, (N,), 0, t), ("gamma", a)) for a in (0.3, 1.0, 2.5, 300.0)],
    *[("beta", lambda k, t, a=a: f.random_beta(k, 1, *a, (N,), 0, t), ("beta", *a)) for a in ((0.5, 0.5), (2.0, 7.0), (0.05, 3.0))],
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "fn", "law"), CONTINUOUS)
def test_continuous(name: str, fn, law: tuple, dtype: str) -> None:
    stats = oracle("scipy.stats")
    x = draw(lambda k: fn(k, dtype))
    assert x.dtype == dtype and np.isfinite(x).all()
    assert stats.kstest(x.astype(np.float64), getattr(stats, law[0])(*law[1:]).cdf).statistic < LIMIT


@pytest.mark.parametrize(("n", "p"), [(5, 0.3), (100, 0.02), (100, 0.5), (1000, 0.97), (10**6, 0.4), (20, 0.999), (0, 0.5), (7, 0.0), (7, 1.0)])
def test_binomial(n: int, p: float) -> None:
    law = oracle("scipy.stats").binom(n, p)
    x = draw(lambda k: f.random_binomial(k, 1, n, p, (N,), 0, "float32"))
    assert x.min() >= 0 and x.max() <= n and np.array_equal(x, np.floor(x))
    at = np.unique(x)
    assert np.abs(np.searchsorted(np.sort(x), at, "right") / N - law.cdf(at)).max() < LIMIT


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-5, 4), (-(2**63), 2**63 - 1), (0, 3 * 2**40), (3, 4)])
def test_integers(low: int, high: int) -> None:
    x = draw(lambda k: f.random_integers(k, 1, (N,), np.int64(low), np.int64(high), 0, "int64"))
    assert x.min() >= low and x.max() < high
    if high - low <= 10:
        counts = np.bincount(x - low, minlength=high - low)
        assert oracle("scipy.stats").chisquare(counts).pvalue > 1e-3 or high - low == 1
    else:
        u = np.sort((x.astype(np.float64) - low) / (float(high) - low))
        assert np.abs(u - (np.arange(N) + 0.5) / N).max() < LIMIT


def test_integers_are_the_high_part_of_bits_times_span() -> None:
    span = 2**62 + 12345
    x = draw(lambda k: f.random_integers(k, 4, (50,), 0, np.int64(span), 2, "int64"))
    words = [run(lambda k, w=w: f.random_bits(k, 4, (50,), 2, w), KEY)[0] for w in range(3)]
    for i in range(50):
        assert x[i] == (int(words[2][i]) << 64 | int(words[1][i]) << 32 | int(words[0][i])) * span >> 96


def test_classes_and_orders() -> None:
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-12]])
    x = draw(lambda k: f.random_categorical(k, 1, np.log(p), N))
    for row, expected in zip(x, p):
        assert np.abs(np.bincount(row, minlength=3) / N - expected).max() < LIMIT
    order = draw(lambda k: f.permutation(k, 1, 1000))
    assert np.array_equal(np.sort(order), np.arange(1000)) and abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    kept = draw(lambda k: f.random_bernoulli(k, 1, np.full((N,), 0.3, np.float32)))
    assert kept.dtype == bool and abs(kept.mean() - 0.3) < LIMIT


def test_native_code_draws_what_the_oracle_draws() -> None:
    def graph(y: Node) -> np.ndarray:
        return evaluate(Graph((), (y,)), [])[0]

    for fn in (lambda k: f.random_integers(k, 1, (40,), 0, 1000), lambda k: f.permutation(k, 1, 40), lambda k: f.random_gamma(k, 1, 2.0, (40,)),
               lambda k: f.random_binomial(k, 1, 30, 0.4, (40,)), lambda k: f.random_truncated_normal(k, 1, (40,))):
        assert_close(draw(fn), graph(fn(f.constant(KEY))), 1e-5)


def test_parameters_out_of_range_give_nan_and_wrong_arguments_errors() -> None:
    assert np.isnan(draw(lambda k: f.random_gamma(k, 1, np.array([-1, np.nan, 0], np.float32), (3,)))).all()
    assert np.isnan(draw(lambda k: f.random_binomial(k, 1, np.array([-1.0, 3.0, np.inf]), np.array([0.5, 1.5, 0.5]), (3,)))).all()
    with pytest.raises(DTypeError, match="draws floats, not int32"):
        f.random_gamma(KEY, 1, 2.0, (3,), 0, "int32")
    with pytest.raises(ShapeError, match="sizes >= 0"):
        f.random_exponential(KEY, 1, (-1,))
    with pytest.raises(ArgumentError, match="rows, classes"):
        f.random_categorical(KEY, 1, np.zeros(3, np.float32), 2)
