"""How long the Python passes take on graphs of many nodes: from a traced graph to a program with slots, no machine code.

    python -m benchmarks.compile_time [--nodes 10000] [--rounds 3] [--json]

``mixed``: chains of products, elementwise functions, reductions, softmax and movements on shared weights. ``training``: the step of a deep network of
dense layers: forward, loss, gradients and updates. Times are those of the quickest round. Exit status 1 where one takes more processor time than the bound
of 3 s for 10 000 nodes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from kerogen.compiler import ops
from kerogen.compiler.dump import Dump
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import grad, program_of
from kerogen.compiler.program.memory import assign_slots
from kerogen.compiler.target import Target
from kerogen.runtime.dtype import float32

BOUND = 3.0 / 10_000  # seconds a node


def mixed(nodes: int) -> Graph:
    """A deep chain of every kind of op, of about so many nodes."""
    x = leaf("x", TensorType((16, 64), float32))
    weights = [leaf(f"w{i}", TensorType((64, 64), float32), "parameter") for i in range(4)]
    h = x
    for i in range(max(1, nodes // 13)):
        h = ops.tanh(ops.add(ops.matmul(h, weights[i % 4]), 0.1))
        h = ops.reshape(ops.transpose(ops.reshape(h, (16, 8, 8)), (0, 2, 1)), (16, 64))
        h = ops.add(h, ops.exp(ops.neg(ops.sum_(h, (1,), True))))
        h = ops.mul(h, 0.5) if i % 2 else ops.softmax(h)
    return Graph((x, *weights), (h,), name="mixed")


def training(nodes: int) -> Graph:
    """A training step of dense layers, of about so many nodes."""
    x, y = (leaf(n, TensorType((16, 32), float32)) for n in "xy")
    parameters, h = [], x
    for i in range(max(1, nodes // 15)):
        w, b = leaf(f"w{i}", TensorType((32, 32), float32), "state"), leaf(f"b{i}", TensorType((32,), float32), "state")
        parameters += [w, b]
        h = ops.relu(ops.add(ops.matmul(h, w), b))
    loss = ops.mean(ops.square(ops.sub(h, y)))
    updated = [ops.sub(p, ops.mul(g, 0.1)) for p, g in zip(parameters, grad(loss, parameters))]
    aliases = tuple((i + 1, i + 2) for i in range(len(parameters)))
    return Graph((x, y, *parameters), (loss, *updated), aliases, name="training")


GRAPHS: dict[str, Callable[[int], Graph]] = {"mixed": mixed, "training": training}


def measure(make: Callable[[int], Graph], nodes: int, rounds: int) -> dict[str, Any]:
    """Processor seconds of all passes, and seconds of each, of the quickest round."""
    graph = make(nodes)
    program_of(make(100), Target.host())  # imports
    best: dict[str, Any] = {"seconds": float("inf")}
    for _ in range(rounds):
        dump = Dump(graph.name)
        begin = time.process_time()
        program = program_of(graph, Target.host(), dump)
        lowered = time.process_time()
        assign_slots(program)
        end = time.process_time()
        if end - begin < best["seconds"]:
            best = {"seconds": end - begin, "phases": {**dump.phases, "slots": end - lowered}, "calls": len(program.calls)}
    return {"graph": graph.name, "nodes": len(graph.nodes), **best}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_time", description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    rows = [measure(make, args.nodes, args.rounds) for make in GRAPHS.values()]
    good = all(r["seconds"] <= BOUND * r["nodes"] for r in rows)
    if args.json:
        print(json.dumps({"ok": good, "rows": rows}, indent=2))
        return 0 if good else 1
    for r in rows:
        print(f"{r['graph']}: {r['nodes']} nodes, {r['calls']} calls, {r['seconds']:.2f} s, {1e6 * r['seconds'] / r['nodes']:.0f} us a node")
        for name, seconds in r["phases"].items():
            print(f"  {name:<24}{1e3 * seconds:>9.1f} ms")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
