"""Kernels to cubins: Triton as a compiler only, ahead of time, with no GPU and no torch. The one library file that imports triton.

The launch ABI of a cubin: the arguments of ``Source.signature`` in order, then two 8-byte pointers (global and profile scratch, null where
their sizes are 0); block = 32 * num_warps threads, ``shared`` bytes of dynamic shared memory, grid = (``Source.grid``, 1, 1).
"""

from __future__ import annotations

import json
import linecache
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Protocol

from ....runtime.errors import ArgumentError, InternalError, UnsupportedPlatformError
from ...kernel.ir import Kernel
from ...schedule.triton import TritonSchedule
from .source import Source, emit_source

ARCHITECTURES = (80, 86, 89, 90, 100)
_KIND = "cubin"
_EMITTER = 1  # part of every cache key: raise it when the compile options below change


class ContentCache(Protocol):
    """Where cubins are kept: ``runtime.cache.Cache`` fits."""

    def get(self, kind: str, key: str) -> bytes | None: ...

    def put(self, kind: str, key: str, data: bytes) -> None: ...


@dataclass(frozen=True)
class CubinMetadata:
    """What a launch needs beside the cubin. ``symbol`` is the entry's name; sizes are bytes."""

    symbol: str
    arch: int
    num_warps: int
    shared: int
    global_scratch: int
    signature: tuple[tuple[str, str], ...]
    triton: str


def require_triton() -> Any:
    """The triton module, or a typed error that says how to get it."""
    try:
        import triton
    except ImportError as e:
        raise UnsupportedPlatformError(f"compiling for a GPU needs Triton ({e}): pip install kerogen[gpu]") from None
    return triton


def cache_key(source: Source, arch: int, version: str) -> str:
    """Content address of a cubin."""
    parts = [source.text, source.signature, source.num_warps, source.num_stages, arch, version, _EMITTER]
    return sha256(json.dumps(parts).encode()).hexdigest()


def compile_cubin(kernel: Kernel, schedule: TritonSchedule | None = None, arch: int = 90,
                  cache: ContentCache | None = None) -> tuple[bytes, CubinMetadata]:
    """The cubin of ``kernel`` for ``sm_<arch>``, and its metadata. ``cache``: where cubins are kept by content."""
    return compile_source(emit_source(kernel, schedule), arch, cache)


def compile_source(source: Source, arch: int = 90, cache: ContentCache | None = None) -> tuple[bytes, CubinMetadata]:
    """As ``compile_cubin``, from source."""
    if arch not in ARCHITECTURES:
        raise ArgumentError(f"sm_{arch} is not a GPU that kerogen compiles for; known: {', '.join(f'sm_{a}' for a in ARCHITECTURES)}")
    triton = require_triton()
    key = cache_key(source, arch, triton.__version__)
    stored = cache.get(_KIND, key) if cache is not None else None
    if stored is not None:
        return _unpack(stored)
    compiled = _compile(triton, source, arch)
    m = compiled.metadata
    meta = CubinMetadata(m.name, arch, m.num_warps, m.shared, m.global_scratch_size, source.signature, triton.__version__)
    cubin = compiled.asm["cubin"]
    if cache is not None:
        cache.put(_KIND, key, _pack(cubin, meta))
    return cubin, meta


def _pack(cubin: bytes, meta: CubinMetadata) -> bytes:
    head = json.dumps(asdict(meta)).encode()
    return len(head).to_bytes(8, "little") + head + cubin


def _unpack(data: bytes) -> tuple[bytes, CubinMetadata]:
    n = int.from_bytes(data[:8], "little")
    fields = json.loads(data[8: 8 + n])
    fields["signature"] = tuple((a, b) for a, b in fields["signature"])
    return data[8 + n:], CubinMetadata(**fields)


def _compile(triton: Any, source: Source, arch: int) -> Any:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    path = f"<kerogen:{source.name}:{sha256(source.text.encode()).hexdigest()[:12]}>"
    linecache.cache[path] = (len(source.text), None, source.text.splitlines(True), path)
    space: dict[str, Any] = {"__name__": "kerogen_kernels"}
    exec(compile(source.text, path, "exec"), space)
    fn = space[source.name]
    if hasattr(fn, "rewriter"):
        raise InternalError("TRITON_INTERPRET is set in this process: Triton cannot compile here (kerogen interprets kernels in a process of their own)")
    # Arena offsets are 256-aligned, and the runtime copies arguments that are not 16-aligned: wide loads are always allowed.
    attrs = {(i,): [["tt.divisibility", 16]] for i, (_, t) in enumerate(source.signature) if t.startswith("*")}
    options = {"num_warps": source.num_warps, "num_stages": source.num_stages, "enable_fp_fusion": True}
    try:
        return triton.compile(ASTSource(fn=fn, signature=dict(source.signature), constexprs={}, attrs=attrs),
                              target=GPUTarget("cuda", arch, 32), options=options)
    except Exception as e:
        raise InternalError(f"Triton {triton.__version__} could not compile kernel {source.name} for sm_{arch}: {type(e).__name__}: {e}\n{source.text}") from e
