"""Passes take time in proportion to the graph. Lines of Python executed are counted, not seconds: the count is the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from benchmarks.compile_time import GRAPHS
from kerogen.compiler.ir.graph import Graph
from kerogen.compiler.pipeline import program_of
from kerogen.compiler.program.memory import assign_slots
from kerogen.compiler.target import Target


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
