"""The progress bar of ``fit``, in Keras' format."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def print_msg(message: str, line_break: bool = True) -> None:
    """Writes to standard output; characters that its encoding lacks are replaced."""
    text = message + "\n" if line_break else message
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        sys.stdout.write(text.replace("━", "=").encode("ascii", "replace").decode("ascii"))
    sys.stdout.flush()


class Progbar:
    """``update(step, [(name, value), ...])`` shows ``step/target bar time - name: value``. Not more often than every ``interval``
    seconds.

    ``verbose``: 0 silent, 1 a bar, 2 a line at the end. Values named in ``stateful_metrics`` (or, if ``stateless_metrics`` is
    given, those not in it)
    are shown as they are, others averaged over steps.
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        self.target, self.width, self.verbose, self.interval, self.unit_name = target, width, verbose, interval, unit_name
        self.stateful_metrics = None if stateless_metrics is not None else set(stateful_metrics or ())
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self._dynamic = (
            (hasattr(sys.stdout, "isatty") and sys.stdout.isatty())
            or "ipykernel" in sys.modules
            or "PYCHARM_HOSTED" in os.environ
        )
        self._sums: dict[str, list] = {}
        self._seen, self._start, self._last, self._shown = 0, time.time(), 0.0, 0
        self._first: float | None = None

    def due(self, finalize: bool = False) -> bool:
        """Whether an update now would be shown: values needn't be read otherwise."""
        return finalize or (self.verbose == 1 and time.time() - self._last >= self.interval)

    def update(self, current: int, values: Sequence[tuple[str, Any]] | None = None, finalize: bool | None = None) -> None:
        finalize = (self.target is not None and current >= self.target) if finalize is None else finalize
        for name, value in values or ():
            averaged = (
                name in self.stateless_metrics
                if self.stateless_metrics is not None
                else name not in (self.stateful_metrics or ())
            )
            if averaged and not finalize:
                n = max(current - self._seen, 1)
                total = self._sums.setdefault(name, [0.0, 0])
                total[0], total[1] = total[0] + value * n, total[1] + n
            else:
                self._sums[name] = [value, 1]
        self._seen = current
        now = time.time()
        per_step = self._per_step(current, now)
        if self.verbose == 1:
            if finalize or now - self._last >= self.interval:
                self._show(current, now, per_step, finalize)
                self._last = now
        elif self.verbose == 2 and finalize and self.target:
            count = f"{current:{len(str(self.target))}d}/{self.target}"
            print_msg(f"{count} - {now - self._start:.0f}s -{self._time(per_step)}{self._values()}")

    def add(self, n: int, values: Sequence[tuple[str, Any]] | None = None) -> None:
        self.update(self._seen + n, values)

    def _show(self, current: int, now: float, per_step: float, finalize: bool) -> None:
        if self.target:
            count = f"{current:{len(str(self.target))}d}/{self.target}"
            done = min(int(self.width * current / self.target), self.width)
            plain = f"{count} {'━' * self.width}"
            bar = (
                f"\x1b[1m{count}\x1b[0m \x1b[32m{'━' * done}\x1b[0m\x1b[37m{'━' * (self.width - done)}\x1b[0m"
                if self._dynamic
                else plain
            )
        else:
            plain = bar = f"{current:7d}/Unknown"
        clock = f"{now - self._start:.0f}s"
        if self.target and not finalize:
            clock = _clock(per_step * (self.target - current))
        rest = f"{self._time(per_step)}{self._values()}"
        width = len(plain) + 1 + len(clock) + len(rest)
        if self._dynamic:
            line = "\r" + f"{bar} \x1b[1m{clock}\x1b[0m{rest}" + " " * max(0, self._shown - width)
            print_msg(line, line_break=finalize)
        elif finalize:  # a file or a pipe gets one line for each epoch
            print_msg(f"{bar} {clock}{rest}")
        self._shown = width

    def _values(self) -> str:
        out = ""
        for name, (total, n) in self._sums.items():
            mean = float(np.mean(total)) / max(n, 1)
            out += f" - {name}: {mean:.4f}" if abs(mean) > 1e-3 else f" - {name}: {mean:.4e}"
        return out

    def _time(self, seconds: float) -> str:
        if seconds >= 1 or seconds == 0:
            return f" {seconds:.0f}s/{self.unit_name}"
        return f" {seconds * 1e3:.0f}ms/{self.unit_name}" if seconds >= 1e-3 else f" {seconds * 1e6:.0f}us/{self.unit_name}"

    def _per_step(self, current: int, now: float) -> float:
        """Without the first step, which compiles."""
        if not current:
            return 0.0
        if self._first is None and current >= 1:
            self._first = now if current == 1 else None
            return (now - self._start) / current
        return (now - self._first) / (current - 1) if self._first is not None and current > 1 else (now - self._start) / current


def _clock(seconds: float) -> str:
    s = math.ceil(seconds) if seconds < 1 else int(seconds)
    return f"{s // 3600}:{s % 3600 // 60:02d}:{s % 60:02d}" if s > 3600 else f"{s // 60}:{s % 60:02d}" if s > 60 else f"{s}s"
