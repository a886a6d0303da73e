"""More seeds than the test suite has time for: ``python -m tests.fuzz --seeds 1000 --start 200``. Exit status 1 where executors disagree."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Random graphs through every executor.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many graphs (default 1000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--steps", type=int, default=10, help="ops drawn for each graph (default 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kerogen-fuzz-") as folder:
        os.environ.setdefault("KEROGEN_CACHE_DIR", folder)  # never the user's cache
        from .differential import failures

        bad, began = 0, time.perf_counter()
        for seed in range(options.start, options.start + options.seeds):
            try:
                wrong = failures(seed, options.steps)
            except Exception:  # noqa: BLE001  (a crash is a finding; the next seed is tried)
                wrong = [f"seed {seed}: {traceback.format_exc(limit=-4)}"]
            bad += bool(wrong)
            print(*wrong, sep="\n", end="\n" if wrong else "", flush=True)
            if (seed - options.start) % 100 == 99:
                print(f"{seed - options.start + 1} graphs, {bad} wrong, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{options.seeds} graphs from seed {options.start}: {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
