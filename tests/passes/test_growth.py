"""Passes take time in proportion to the graph. Lines of Python executed are counted, not seconds: the count is the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from benchmarks.compile_time import GRAPHS
from kerogen.compiler import ops as o
from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import program_of
from kerogen.compiler.program.memory import assign_slots
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import float32


def lines_of(work: Callable[[], object]) -> int:
    """Lines executed while ``work`` runs; a comprehension's line counts once for each element."""
    count = 0

    def local(frame, event, arg):
        nonlocal count
        count += event == "line"
        return local

    saved = sys.gettrace()
    sys.settrace(lambda frame, event, arg: local)
    try:
        work()
    finally:
        sys.settrace(saved)
    return count


@pytest.mark.parametrize("name", GRAPHS)
def test_four_times_the_nodes_are_four_times_the_work(name: str) -> None:
    target = Target.named("x86-64-v4")

    def passes(graph: Graph) -> None:
        assign_slots(program_of(graph, target))

    program_of(GRAPHS[name](60), target)  # what is computed once per process
    small, large = GRAPHS[name](250), GRAPHS[name](1000)
    few, many = lines_of(lambda: passes(small)), lines_of(lambda: passes(large))
    nodes = len(large.nodes) / len(small.nodes)
    assert many <= 1.25 * nodes * few, f"{few} lines for {len(small.nodes)} nodes, {many} for {len(large.nodes)}"


def test_a_quadratic_pass_is_noticed() -> None:
    def quadratic(n: int) -> None:
        seen: list[int] = []
        for i in range(n):
            seen = [x for x in seen if x != i] + [i]

    assert lines_of(lambda: quadratic(400)) > 2 * 4 * lines_of(lambda: quadratic(100))


def test_views_of_views_do_not_multiply_the_work() -> None:
    """Prefix sums by halves: every level reads the one below at two indices, so n levels in one kernel would compute it 2^n times."""

    def prefixes(x: Node) -> Node:
        (n,) = x.shape
        if n == 1:
            return x
        pairs = prefixes(o.add(o.slice_(x, (0,), (n,), (2,)), o.slice_(x, (1,), (n,), (2,))))
        even = o.concat([o.slice_(x, (0,), (1,)), o.add(o.slice_(pairs, (0,), (n // 2 - 1,)), o.slice_(x, (2,), (n,), (2,)))], 0)
        return o.reshape(o.stack([even, pairs], 1), (n,))

    def passes(n: int) -> int:
        x = leaf("x", TensorType((n,), float32))
        graph = Graph((x,), (prefixes(o.exp(x)),))
        return lines_of(lambda: program_of(graph, Target.named("x86-64-v4")))

    passes(16)
    assert passes(1 << 12) < 3 * passes(1 << 6)  # twice the levels
