"""Every environment variable that kerogen reads: one typed, documented entry each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from .errors import ArgumentError


@dataclass(frozen=True)
class Knob:
    """An environment variable. ``get()`` reads it now; a value that doesn't parse is an ``ArgumentError``."""

    name: str
    kind: type
    default: Any
    doc: str

    def get(self) -> Any:
        raw = os.environ.get(self.name)
        if raw is None or raw == "":
            return self.default
        try:
            return self.kind(raw)
        except ValueError:
            raise ArgumentError(f"{self.name}={raw!r} is not {self.kind.__name__}: {self.doc}") from None


def _size(raw: str) -> int:
    """Bytes from "512M", "2G" or digits."""
    unit = {"K": 10, "M": 20, "G": 30}.get(raw[-1:].upper())
    return int(float(raw[:-1]) * 2**unit) if unit else int(raw)


_size.__name__ = "a size such as 512M"

DEBUG = Knob("KEROGEN_DEBUG", int, 0, "1 summary and times, 2 fusion reasons, 3 schedules, 4 generated code, 5 graphs after each changing pass, 6 assembly")
DUMP = Knob("KEROGEN_DUMP", str, None, "a directory for numbered stage files of each compilation")
VERIFY = Knob("KEROGEN_VERIFY", int, 0, "1 verifies every graph between passes, 2 also runs every compiled kernel on random data beside the interpreter")
FUEL = Knob("KEROGEN_FUEL", int, None, "stop rewriting and fusing after this many steps (to bisect)")
CACHE_DIR = Knob("KEROGEN_CACHE_DIR", str, None, "where object code and plans are kept (default: $XDG_CACHE_HOME/kerogen); 'off' keeps nothing")
CACHE_SIZE = Knob("KEROGEN_CACHE_SIZE", _size, 2**30, "bytes the cache may take; least recently used entries go first (default 1G)")
TARGET = Knob("KEROGEN_TARGET", str, None, "CPU to generate code for: native, x86-64-v4, x86-64-v3, x86-64-v2, aarch64")
NUM_THREADS = Knob("KEROGEN_NUM_THREADS", int, None, "threads a call uses (default: the cores this process may run on)")

ALL = (DEBUG, DUMP, VERIFY, FUEL, CACHE_DIR, CACHE_SIZE, TARGET, NUM_THREADS)
