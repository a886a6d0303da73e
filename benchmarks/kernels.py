"""Single kernels beside torch (oneDNN, MKL) and ONNX Runtime, and beside the machine's own limits.

    python -m benchmarks.kernels [--filter dense,dw] [--threads 1,2] [--rounds 20] [--json FILE] [--list]

For every case and number of threads kerogen's call, each peer's and the FMA peak take turns in rounds of one process;
each turn runs for a few milliseconds. ``us``: the least time of a call over all rounds, and the median. ``peak``: share of the FMA
peak, of one core times the threads, by the least times of both (work that a kernel leaves out, such as border, is counted as done). ``GB/s``: operands and results, each once, over the least time. ``ratio``: the best peer's time over kerogen's, least over least; in brackets the 10th, 50th and 90th percentile of the ratio within rounds.
Exit code 1: results differ.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from time import perf_counter, sleep
from typing import Any

import numpy as np

from kerogen.compiler.target import Target
from kerogen.runtime import threads as pool

from .cases import Built, Case, all_cases
from .peak import Peak

TURN = 0.004  # seconds of one turn
PAUSE = 0.03  # in which the last one's workers stop spinning: OpenMP's do so for some 10 ms


def take_turns(calls: Sequence[Callable[[], Any]], rounds: int) -> np.ndarray:
    """Least seconds of a call in each turn, [call, round]. The order within rounds alternates."""
    repeat = []
    for f in calls:
        f()
        begin = perf_counter()
        f()
        repeat.append(max(2, min(2000, int(TURN / max(perf_counter() - begin, 1e-7)))))
    times = np.empty((len(calls), rounds))
    for r in range(rounds):
        order = range(len(calls)) if r % 2 == 0 else range(len(calls) - 1, -1, -1)
        for i in order:
            f = calls[i]
            sleep(PAUSE)
            f()
            best = float("inf")
            for _ in range(repeat[i]):
                begin = perf_counter()
                f()
                best = min(best, perf_counter() - begin)
            times[i, r] = best
    return times


def largest_difference(built: Built) -> float:
    """Of kerogen's result from any peer's, scaled."""
    if "kerogen" not in built.results:
        return 0.0
    ours = np.asarray(built.results["kerogen"](), np.float64)
    worst = 0.0
    for name, result in built.results.items():
        if name != "kerogen":
            theirs = np.asarray(result(), np.float64).reshape(ours.shape)
            worst = max(worst, float(np.max(np.abs(ours - theirs) / (1 + np.abs(theirs)), initial=0)))
    return worst


def measure(case: Case, threads: int, rounds: int, target: Target) -> dict[str, Any]:
    """One row."""
    pool.set_num_threads(threads)
    built = case.build(threads)
    peak = Peak(target, 20_000)
    names = list(built.peers)
    times = take_turns([built.kerogen, peak, *built.peers.values()], rounds)
    difference = largest_difference(built)
    least = times.min(1)
    best = min(range(len(names)), key=lambda i: least[2 + i]) if names else -1
    spread = [float(q) for q in np.percentile(times[2 + best] / times[0], (10, 50, 90))] if names else []
    rate = threads * peak.flops / least[1]
    return {
        "name": case.name, "threads": threads, "us": least[0] * 1e6, "median_us": float(np.median(times[0])) * 1e6,
        "gflops": case.flops / least[0] / 1e9, "peak_gflops": rate / 1e9, "share": case.flops / least[0] / rate,
        "gbytes": case.nbytes / least[0] / 1e9, "peers_us": {n: least[2 + i] * 1e6 for i, n in enumerate(names)},
        "best": names[best] if names else "", "ratio": least[2 + best] / least[0] if names else None, "spread": spread,
        "difference": difference, "ok": difference <= case.tolerance,
    }


def line(r: dict[str, Any]) -> str:
    spread = f"({'/'.join(f'{q:.2f}' for q in r['spread'])})" if r["spread"] else ""
    ratio = f"{r['ratio']:.2f}" if r["ratio"] is not None else ""
    return (f"{r['name']:<28}{r['threads']:>3}{r['us']:>10.1f}{r['median_us']:>10.1f}{r['gflops']:>8.1f}{r['share']:>7.0%}{r['gbytes']:>7.1f}"
            f"{ratio:>7} {spread:<18}{r['best']:<13}{'' if r['ok'] else ' RESULTS DIFFER'}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--filter", default="", help="parts of names, separated by commas")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args(argv)
    parts = [p for p in args.filter.split(",") if p]
    cases = [c for c in all_cases() if not parts or any(p in c.name for p in parts)]
    if args.list:
        print("\n".join(c.name for c in cases))
        return 0
    target = Target.host()
    rows = []
    print(f"{target.name}, {args.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print(f"{'case':<28}{'thr':>3}{'us':>10}{'median':>10}{'GF/s':>8}{'peak':>7}{'GB/s':>7}{'ratio':>7} {'(p10/p50/p90)':<18}best peer")
    for case in cases:
        for n in map(int, args.threads.split(",")):
            rows.append(measure(case, n, args.rounds, target))
            print(line(rows[-1]), flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"target": target.name, "rounds": args.rounds, "load": os.getloadavg()[0], "rows": rows}, f, indent=2)
    return 0 if all(r["ok"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
