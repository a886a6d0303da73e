"""Targets: what code generation must know of a processor, as plain data.

A ``Target`` is chosen once per compilation and passed down, so that schedules and emitters ask it and never the host. ``Target.host()``
reads what this machine can do; importing this module reads nothing and imports no LLVM.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..runtime.config import TARGET
from ..runtime.errors import ArgumentError, UnsupportedPlatformError


@dataclass(frozen=True)
class Target:
    """A processor to generate code for.

    ``vector_bytes``: width of a vector register; ``registers``: their number; ``masks``: every vector instruction takes a lane mask
    (AVX-512); ``fma``: fused multiply-add on vectors; ``l1``, ``l2``: bytes of data cache per core; ``cpu`` and ``features`` are LLVM's
    names (features comma separated, each with its sign); ``isa`` names the file of ``codegen/llvm/isa`` that emits for it.
    """

    name: str
    arch: str
    isa: str
    vector_bytes: int
    registers: int
    masks: bool
    fma: bool
    cpu: str
    features: str = ""
    l1: int = 32 << 10
    l2: int = 1 << 20

    @staticmethod
    def named(name: str) -> Target:
        """"x86-64-v4" | "x86-64-v3" | "x86-64-v2" | "aarch64", or "native": the best of these that this machine runs. Raises ArgumentError."""
        if name == "native":
            return _native()
        if name not in _NAMED:
            raise ArgumentError(f"unknown target {name!r}; known: native, {', '.join(_NAMED)} (KEROGEN_TARGET)")
        return _NAMED[name]

    @staticmethod
    def host() -> Target:
        """The target to use here: KEROGEN_TARGET, or "native". Raises UnsupportedPlatformError where no code can run."""
        return Target.named(TARGET.get() or "native")

    def has(self, feature: str) -> bool:
        """Whether an extension beyond the baseline is there, by LLVM's name ("avx512bf16", "avx512vnni", "amx-bf16")."""
        return f"+{feature}" in self.features.split(",")

    def lanes(self, itemsize: int) -> int:
        """Elements of ``itemsize`` bytes in a vector register."""
        return max(1, self.vector_bytes // itemsize)

    @property
    def claims(self) -> tuple[str, ...]:
        """The composite ops whose whole this backend has a template for."""
        if self.arch == "cuda":
            return ("Attention", "AttentionQueryGrad", "AttentionKeyGrad")
        return ("Attention", "AttentionGrad")

    @property
    def key(self) -> str:
        """What a cache key must hold beside text and schedule."""
        return f"{self.isa}|{self.cpu}|{self.features}"


_NAMED = {
    "x86-64-v4": Target("x86-64-v4", "x86_64", "avx512", 64, 32, True, True, "x86-64-v4"),
    "x86-64-v3": Target("x86-64-v3", "x86_64", "avx2", 32, 16, False, True, "x86-64-v3"),
    "x86-64-v2": Target("x86-64-v2", "x86_64", "sse4", 16, 16, False, False, "x86-64-v2"),
    "aarch64": Target("aarch64", "aarch64", "neon", 16, 32, False, True, "generic", "+neon"),
}

# What the kernel's flags must name before a level may be used (glibc's x86-64 levels; the last of each implies the rest).
_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd", "avx2", "fma", "f16c", "bmi2", "abm"}),
    ("x86-64-v3", {"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm"}),
    ("x86-64-v2", {"sse4_2", "ssse3", "popcnt"}),
)

# Extensions that emitters can use beside the level: flag in /proc/cpuinfo -> LLVM's feature.
_EXTENSIONS = {"avx512_bf16": "avx512bf16", "avx512_vnni": "avx512vnni", "avx512_fp16": "avx512fp16", "amx_tile": "amx-tile",
               "amx_bf16": "amx-bf16", "amx_int8": "amx-int8"}


@cache
def _native() -> Target:
    machine = platform.machine().lower()
    if platform.system() != "Linux" or machine not in ("x86_64", "amd64", "aarch64", "arm64"):
        raise UnsupportedPlatformError(
            f"kerogen generates code for Linux on x86-64 and AArch64; this is {platform.system()} on {platform.machine()}")
    if machine in ("aarch64", "arm64"):
        return _with_caches(_NAMED["aarch64"])
    flags = _flags()
    for level, needed in _LEVELS:
        if needed <= flags:
            base = _NAMED[level]
            extra = [f"+{f}" for flag, f in _EXTENSIONS.items() if flag in flags] if level == "x86-64-v4" else []
            return _with_caches(replace(base, features=",".join(extra)))
    raise UnsupportedPlatformError(f"this x86-64 processor lacks SSE4.2 (flags seen: {len(flags)}); kerogen needs x86-64-v2")


def _flags() -> set[str]:
    """Features the kernel lets programs use: never deduced from the processor's name, which says nothing of a hypervisor's masks."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()


def _with_caches(target: Target) -> Target:
    sizes = {}
    for name, key in (("l1", "SC_LEVEL1_DCACHE_SIZE"), ("l2", "SC_LEVEL2_CACHE_SIZE")):
        try:
            size = os.sysconf(key)
        except (ValueError, OSError):
            size = 0
        if size > 0:
            sizes[name] = size
    return replace(target, **sizes)
