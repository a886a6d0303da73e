"""Random distributions beyond uniform and normal, all of Philox' counters (``ops.random``): a key, step and stream give the same draws on every
backend and for any number of threads, up to the rounding of elementary functions.

Rejection methods run as loops over whole arrays until every element has been accepted; a round draws under a key of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...runtime.dtype import DType, as_dtype, bool_, float32, float64, int32, int64, uint32, uint64
from ...runtime.errors import ArgumentError, DTypeError
from ..ir.graph import Node
from . import functional as f


def _floating(name: str, dtype) -> tuple[DType, DType]:
    """(the type of the result, the type to compute in)."""
    dtype = as_dtype(dtype)
    if not dtype.is_float:
        raise DTypeError(f"{name} draws floats, not {dtype}")
    return dtype, float64 if dtype is float64 else float32


def _open_unit(key, step, shape: Sequence[int], stream: int, dtype: DType) -> Node:
    """Uniform in (0, 1): ``random_uniform`` moved by half of its step."""
    return f.add(f.random_uniform(key, step, shape, stream, dtype), 2.0 ** (-54 if dtype is float64 else -25))


def random_truncated_normal(key, step, shape: Sequence[int], stream: int = 0, dtype=float32, mean=0.0, std=1.0) -> Node:
    """Normal within two standard deviations, by the inverse of the distribution function."""
    dtype, wide = _floating("random_truncated_normal", dtype)
    edge = 0.9544997361036416  # erf(sqrt(2))
    u = f.mul(f.sub(_open_unit(key, step, shape, stream, wide), 0.5), 2 * edge)
    z = f.clip(f.mul(f.erfinv(u), 2**0.5), -2.0, 2.0)
    return f.cast(f.add(f.mul(z, std), mean), dtype)


def random_exponential(key, step, shape: Sequence[int], stream: int = 0, dtype=float32, scale=1.0) -> Node:
    """Exponential with mean ``scale``."""
    dtype, wide = _floating("random_exponential", dtype)
    return f.cast(f.mul(f.neg(f.log(_open_unit(key, step, shape, stream, wide))), scale), dtype)


def random_gumbel(key, step, shape: Sequence[int], stream: int = 0, dtype=float32) -> Node:
    """-log(-log u): the greatest of log p + this is an index drawn with probability p."""
    dtype, wide = _floating("random_gumbel", dtype)
    return f.cast(f.neg(f.log(f.neg(f.log(_open_unit(key, step, shape, stream, wide))))), dtype)


def random_bernoulli(key, step, p, shape: Sequence[int] | None = None, stream: int = 0) -> Node:
    """bool: True with probability ``p`` (a number, or an array that broadcasts to ``shape``)."""
    p = f.floating(p)
    shape = p.shape if shape is None else tuple(shape)
    wide = float64 if p.dtype is float64 else float32
    return f.lt(f.random_uniform(key, step, shape, stream, wide), f.broadcast_to(f.cast(p, wide), shape))


def random_categorical(key, step, logits, count: int, stream: int = 0, dtype=int32) -> Node:
    """(rows, count) classes drawn with the probabilities softmax(logits) of each row, by the Gumbel-max rule."""
    logits = f.floating(logits)
    if logits.rank != 2:
        raise ArgumentError(f"random_categorical needs logits (rows, classes), got {logits.type}")
    wide = float64 if logits.dtype is float64 else float32
    rows, classes = logits.shape
    noise = random_gumbel(key, step, (rows, count, classes), stream, wide)
    return f.cast(f.argmax(f.add(f.expand_dims(f.cast(logits, wide), (1,)), noise), 2), dtype)


def random_integers(key, step, shape: Sequence[int], low, high, stream: int = 0, dtype=int32) -> Node:
    """Integers in [low, high), numbers or arrays of 64-bit integers: 96 random bits times the span, over 2^96, so that no value is more than
    2^-32 of its probability likelier than another, for any span. The caller sees to low < high."""
    dtype = as_dtype(dtype)
    if not dtype.is_int:
        raise DTypeError(f"random_integers draws integers, not {dtype}")
    shape = tuple(shape)
    low, high = (f.broadcast_to(f.cast(f.constant(v, int64) if f.is_scalar(v) else f.constant(v), int64), shape) for v in (low, high))
    span = f.cast(f.sub(high, low), uint64)  # wraps to the right number for any two int64
    low32 = f.constant(np.uint64(0xFFFFFFFF))
    s0, s1 = f.bitwise_and(span, low32), f.shift_right(span, 32)
    total: Node | None = None  # of r * span over 2^(32 (i + 1)), limb by limb from the least
    for word in range(3):
        r = f.cast(f.random_bits(key, step, shape, stream, word), uint64)
        a, b = f.mul(r, s0), f.mul(r, s1)
        # total + a + b * 2^32, over 2^32: a's carry first, so that nothing overflows
        if total is None:
            total = f.add(b, f.shift_right(a, 32))
            continue
        a = f.add(a, f.bitwise_and(total, low32))
        total = f.add(f.add(b, f.shift_right(a, 32)), f.shift_right(total, 32))
    assert total is not None
    return f.cast(f.add(f.cast(total, int64), low), dtype)


def _round_key(key: Node, number: Node) -> Node:
    """A key for one round of a rejection method."""
    n = f.cast(number, uint32)
    mixed = f.stack([f.mul(n, f.constant(np.uint32(0x85EBCA6B))), f.mul(n, f.constant(np.uint32(0xC2B2AE35)))])
    return f.bitwise_xor(key, mixed)


def _until_accepted(key: Node, shape: tuple[int, ...], dtype: DType, draw) -> Node:
    """``draw(key)`` gives (values, accepted): each element's first accepted value."""

    def body(state: list[Node]) -> list[Node]:
        number, done, values = state
        new, accepted = draw(_round_key(key, number))
        return [f.add(number, 1), f.logical_or(done, accepted), f.where(done, values, new)]

    first = [f.constant(np.int32(1)), f.full(shape, False, bool_), f.zeros(shape, dtype)]
    return f.while_loop(lambda state: f.logical_not(f.all_(state[1])), body, first)[2]


def _log_gamma(key: Node, step, alpha: Node, shape: tuple[int, ...], stream: int, wide: DType) -> Node:
    """Logarithms of Gamma(alpha) draws: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000."""
    small = f.lt(alpha, 1.0)
    d = f.sub(f.where(small, f.add(alpha, 1.0), alpha), 1 / 3)
    c = f.div(1 / 3, f.sqrt(d))

    def draw(at: Node) -> tuple[Node, Node]:
        x = f.random_normal(at, step, shape, stream, wide)
        u = _open_unit(at, step, shape, stream + 1, wide)
        v = f.add(f.mul(c, x), 1.0)
        inside = f.gt(v, 0.0)
        log_v = f.mul(f.log(f.where(inside, v, 1.0)), 3.0)
        bound = f.add(f.mul(f.square(x), 0.5), f.mul(d, f.add(f.sub(1.0, f.exp(log_v)), log_v)))
        # what is no number (alpha nan) is accepted: the loop ends, the draw is nan
        accepted = f.logical_or(f.logical_and(inside, f.lt(f.log(u), bound)), f.isnan(bound))
        return f.add(f.log(d), log_v), accepted

    out = _until_accepted(key, shape, wide, draw)
    boost = f.div(f.log(_open_unit(key, step, shape, stream + 2, wide)), f.where(small, alpha, 1.0))
    return f.where(small, f.add(out, boost), out)


def _positive(x, shape: tuple[int, ...], wide: DType) -> Node:
    """Parameters as an array; those that aren't positive as nan."""
    x = f.broadcast_to(f.cast(f.constant(x), wide), shape)
    return f.where(f.gt(x, 0.0), x, float("nan"))


def random_gamma(key, step, alpha, shape: Sequence[int], stream: int = 0, dtype=float32) -> Node:
    """Gamma with shape parameter ``alpha`` (a number, or an array that broadcasts to ``shape``) and scale 1; nan where alpha isn't positive.
    Takes streams ``stream`` to ``stream + 2``."""
    dtype, wide = _floating("random_gamma", dtype)
    shape = tuple(shape)
    return f.cast(f.exp(_log_gamma(f.constant(key), step, _positive(alpha, shape, wide), shape, stream, wide)), dtype)


def random_beta(key, step, alpha, beta, shape: Sequence[int], stream: int = 0, dtype=float32) -> Node:
    """Beta(alpha, beta): the share of the first of two gamma draws, in logarithms, so that small parameters don't underflow. Takes streams
    ``stream`` to ``stream + 5``."""
    dtype, wide = _floating("random_beta", dtype)
    shape = tuple(shape)
    a, b = (_log_gamma(f.constant(key), step, _positive(v, shape, wide), shape, stream + 3 * i, wide) for i, v in enumerate((alpha, beta)))
    return f.cast(f.sigmoid(f.sub(a, b)), dtype)


def random_binomial(key, step, counts, probabilities, shape: Sequence[int], stream: int = 0, dtype=float32) -> Node:
    """How many of ``counts`` trials succeed, each with probability ``probabilities``; nan for parameters out of range. Where the mean is below
    10 by counting geometric waiting times (Devroye, "Non-uniform random variate generation", X.4.3), else by Hormann's transformed
    rejection (BTRS, "The generation of binomial random variates", 1993), in float64. Takes streams ``stream`` to ``stream + 2``."""
    dtype = as_dtype(dtype)
    if dtype is bool_:
        raise DTypeError("random_binomial draws numbers, not bool")
    key, shape = f.constant(key), tuple(shape)
    n = f.floor(f.broadcast_to(f.cast(f.constant(counts), float64), shape))
    p = f.broadcast_to(f.cast(f.constant(probabilities), float64), shape)
    valid = f.logical_and(f.logical_and(f.ge(n, 0.0), f.isfinite(n)), f.logical_and(f.ge(p, 0.0), f.le(p, 1.0)))
    n, p = f.where(valid, n, 0.0), f.where(valid, p, 0.0)
    flipped = f.gt(p, 0.5)
    q = f.where(flipped, f.sub(1.0, p), p)
    few = f.lt(f.mul(n, q), 10.0)

    # few successes: the trials until each
    log_failure = f.log1p(f.neg(f.where(few, q, 0.5)))
    never = f.eq(log_failure, 0.0)

    def wait(state: list[Node]) -> list[Node]:
        number, used, successes = state
        u = _open_unit(_round_key(key, number), step, shape, stream, float64)
        gap = f.where(never, f.add(n, 1.0), f.ceil(f.div(f.log(u), f.where(never, -1.0, log_failure))))
        used = f.add(used, f.maximum(gap, 1.0))
        return [f.add(number, 1), used, f.add(successes, f.cast(f.le(used, n), float64))]

    start = [f.constant(np.int32(1)), f.where(few, 0.0, f.add(n, 1.0)), f.zeros(shape, float64)]
    counted = f.while_loop(lambda state: f.any_(f.le(state[1], n)), wait, start)[2]

    # many
    n_, q_ = f.where(few, 40.0, n), f.where(few, 0.5, q)
    spread = f.sqrt(f.mul(f.mul(n_, q_), f.sub(1.0, q_)))
    b = f.add(f.mul(spread, 2.53), 1.15)
    a = f.add(f.add(f.mul(b, 0.0248), f.mul(q_, 0.01)), -0.0873)
    c = f.add(f.mul(n_, q_), 0.5)
    easy = f.sub(0.92, f.div(4.2, b))
    alpha = f.mul(f.add(f.div(5.1, b), 2.83), spread)
    mode = f.floor(f.mul(f.add(n_, 1.0), q_))
    log_odds = f.log(f.div(q_, f.sub(1.0, q_)))
    height = f.add(f.lgamma(f.add(mode, 1.0)), f.lgamma(f.add(f.sub(n_, mode), 1.0)))

    def draw(at: Node) -> tuple[Node, Node]:
        u = f.sub(_open_unit(at, step, shape, stream + 1, float64), 0.5)
        v = _open_unit(at, step, shape, stream + 2, float64)
        us = f.sub(0.5, f.abs_(u))
        k = f.floor(f.add(f.mul(f.add(f.div(f.mul(a, 2.0), us), b), u), c))
        inside = f.logical_and(f.ge(k, 0.0), f.le(k, n_))
        quick = f.logical_and(f.ge(us, 0.07), f.le(v, easy))
        safe = f.where(inside, k, 0.0)
        bound = f.sub(f.sub(height, f.lgamma(f.add(safe, 1.0))), f.lgamma(f.add(f.sub(n_, safe), 1.0)))
        bound = f.add(bound, f.mul(f.sub(safe, mode), log_odds))
        tried = f.log(f.div(f.mul(v, alpha), f.add(f.div(a, f.square(us)), b)))
        return k, f.logical_or(f.logical_or(few, quick), f.logical_and(inside, f.le(tried, bound)))

    drawn = _until_accepted(key, shape, float64, draw)
    out = f.where(few, counted, drawn)
    out = f.where(flipped, f.sub(n, out), out)
    return f.cast(f.where(valid, out, float("nan")) if dtype.is_float else out, dtype)
