"""NumPy's einsum as a sequence of contractions.

Operands are contracted pair by pair, the cheapest pair first (the greedy order of opt_einsum: the pair whose result, less its
operands, is smallest; then the fewest multiplications; then the leftmost), and every label is summed as soon as nothing else has
it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...runtime import dim
from ...runtime.dim import key
from ...runtime.errors import ArgumentError, ShapeError
from ..ir.graph import Node
from . import functional as f
from .base import is_one
from .contract import DotGeneral


def einsum(equation: str, *xs, precision: str | None = None) -> Node:
    """NumPy's einsum: "..." broadcasts, a label repeated in one operand is its diagonal, the result's labels default to those
    that occur once, in alphabetical order."""
    nodes = list(f.operands("einsum", *xs))
    terms, output = _parse(equation, nodes)
    sizes = _sizes(equation, terms, nodes)
    if any(c not in sizes for c in output) or len(set(output)) != len(output):
        raise ArgumentError(f"einsum {equation!r}: the result's labels must be distinct and occur in an operand")
    parts: list[tuple[Node, str]] = []
    for n, t in zip(nodes, terms):
        n, t = _diagonal(n, t)
        if any(key(m) != key(sizes[c]) for m, c in zip(n.shape, t)):  # a size of 1 that another operand broadcasts
            n = f.broadcast_to(n, tuple([sizes[c] for c in t]))
        parts.append((n, t))
    while len(parts) > 1:
        i, j = _cheapest([t for _, t in parts], output, sizes)
        later = set(output).union(*[t for k, (_, t) in enumerate(parts) if k not in (i, j)])
        joined = _pair(*parts[i], *parts[j], later, precision)
        parts = [*parts[:i], joined, *[p for k, p in enumerate(parts) if k > i and k != j]]
    a, ta = _summed(*parts[0], set(output))
    return f.transpose(a, tuple([ta.index(c) for c in output]))


def _parse(equation: str, nodes: Sequence[Node]) -> tuple[list[str], str]:
    """One letter an axis for each operand, and for the result; "..." stands for letters of its own."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(nodes):
        raise ArgumentError(f"einsum {equation!r} has {len(terms)} operands, got {len(nodes)}")
    spare = "".join(map(chr, range(0x410, 0x450)))
    if any(not c.isalpha() or c in spare for c in (inputs + output).replace("...", "").replace(",", "")):
        raise ArgumentError(f"einsum {equation!r}: labels are letters, operands are separated by commas")
    widest = 0
    for i, (t, n) in enumerate(zip(terms, nodes)):
        if "..." in t:
            extra = n.rank - len(t) + 3
            if extra < 0:
                raise ShapeError(f"einsum {equation!r}: operand {i} has {len(t) - 3} labels for {n.type}")
            widest = max(widest, extra)
            terms[i] = t.replace("...", spare[len(spare) - extra :])
        if len(terms[i]) != n.rank:
            raise ShapeError(f"einsum {equation!r}: operand {i} has {len(terms[i])} labels for {n.type}")
    dots = spare[len(spare) - widest :]
    if arrow:
        return terms, output.replace("...", dots)
    letters = "".join(terms)
    return terms, dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))


def _sizes(equation: str, terms: Sequence[str], nodes: Sequence[Node]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for t, n in zip(terms, nodes):
        for c, m in zip(t, n.shape):
            if c not in sizes or is_one(sizes[c]):
                sizes[c] = m
            elif key(sizes[c]) != key(m) and not is_one(m) and sizes[c] != m:
                raise ShapeError(f"einsum {equation!r}: label {c} has sizes {dim.text(sizes[c])} and {dim.text(m)}")
    return sizes


def _cheapest(terms: Sequence[str], output: str, sizes: dict[str, int]) -> tuple[int, int]:
    """The pair to contract next. Its choice changes no result but by rounding, so sizes are compared without guards."""
    if len(terms) == 2:
        return 0, 1

    def count(labels: set[str]) -> int:
        return int(dim.size([sizes[c] for c in labels]))

    best: tuple[tuple, tuple[int, int]] | None = None
    with dim.unguarded():
        for i in range(len(terms)):
            for j in range(i + 1, len(terms)):
                a, b = set(terms[i]), set(terms[j])
                later = set(output).union(*[t for k, t in enumerate(terms) if k not in (i, j)])
                cost = (count((a | b) & later) - count(a) - count(b), count(a | b), i, j)
                if best is None or cost < best[0]:
                    best = (cost, (i, j))
    assert best is not None
    return best[1]


def _diagonal(x: Node, labels: str) -> tuple[Node, str]:
    """Repeated labels of one operand become one axis."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            if x.shape[j] != x.shape[i]:
                raise ShapeError(
                    f"einsum: label {c} has sizes {dim.text(x.shape[i])} and {dim.text(x.shape[j])} in one operand")
            x = f.diagonal(x, 0, i, j)  # last, in place of both
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + c
    return x, labels


def _summed(x: Node, labels: str, kept: set[str]) -> tuple[Node, str]:
    """``x`` summed over the labels that aren't kept."""
    gone = tuple([i for i, c in enumerate(labels) if c not in kept])
    return (f.sum_(x, gone), "".join(c for c in labels if c in kept)) if gone else (x, labels)


def _pair(a: Node, ta: str, b: Node, tb: str, later: set[str], precision: str | None) -> tuple[Node, str]:
    """Contracts two operands over the labels that nothing later needs."""
    a, ta = _summed(a, ta, later | set(tb))
    b, tb = _summed(b, tb, later | set(ta))
    shared = [c for c in ta if c in tb]
    over, batch = [c for c in shared if c not in later], [c for c in shared if c in later]
    ca, cb, ba, bb = (tuple([t.index(c) for c in labels]) for labels in (over, batch) for t in (ta, tb))
    out = f.node(DotGeneral(ca, cb, ba, bb, precision or "highest"), a, b)
    return out, "".join(batch) + "".join(c for c in ta if c not in shared) + "".join(c for c in tb if c not in shared)
