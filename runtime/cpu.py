"""Native code on the CPU: assembling LLVM text to object code and loading it. The runtime's only user of llvmlite.

Nothing here runs, or imports llvmlite, before the first call. Every module is verified before it reaches LLVM's back end, every
text has a context and a pass manager of its own (a pass manager used twice ends the process), and loaded code is never
unloaded: a worker thread may still be inside it when the interpreter ends.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import platform
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import config
from .errors import ArgumentError, InternalError, UnsupportedPlatformError

# What each x86-64 level of the psABI demands, in LLVM's names.
_V2 = ("cx8", "cmov", "mmx", "fxsr", "sse", "sse2", "cx16", "sahf", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3", "crc32")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_LEVELS = {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
# Names that say how LLVM should use a CPU, not what the CPU can do: never a reason to refuse code.
_TUNING = frozenset({"64bit"})

_lock = threading.RLock()
_numbers = itertools.count()


@dataclass(frozen=True)
class Machine:
    """A CPU to generate code for: ``arch`` ("x86_64" | "aarch64"), LLVM's ``cpu`` name (which only steers scheduling) and the
    ``features`` that generated code may use, sorted, without sign."""

    arch: str
    cpu: str
    features: tuple[str, ...]

    @property
    def triple(self) -> str:
        return f"{self.arch}-unknown-linux-gnu"

    @property
    def flags(self) -> str:
        """LLVM's feature string: what the machine has, and on this architecture what the CPU name must not bring in besides."""
        on = [f"+{f}" for f in self.features]
        return ",".join(on + [f"-{f}" for f in _withheld(self)])

    @property
    def text(self) -> str:
        """One line from which ``parse_machine`` makes an equal Machine; what a plan carries as its target."""
        return f"{self.arch}:{self.cpu}:{','.join(self.features)}"

    def __str__(self) -> str:
        return self.text


def parse_machine(text: str) -> Machine:
    """The inverse of ``Machine.text``; ``ArgumentError`` for anything else."""
    parts = text.split(":")
    if len(parts) != 3 or parts[0] not in ("x86_64", "aarch64"):
        raise ArgumentError(f"{text!r} doesn't name a CPU that kerogen can run code on")
    return Machine(parts[0], parts[1], tuple(f for f in parts[2].split(",") if f))


def _arch() -> str:
    machine = platform.machine().lower()
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if not sys.platform.startswith("linux") or arch not in ("x86_64", "aarch64") or sys.maxsize < 2**32:
        raise UnsupportedPlatformError(
            f"kerogen generates code for Linux on x86-64 and AArch64; this is {sys.platform} on {machine} "
            f"({8 * ctypes.sizeof(ctypes.c_void_p)} bit). Importing and inspecting models works here, compiling them doesn't"
        )
    return arch


@functools.cache
def _llvm() -> Any:
    """llvmlite.binding, with the native target ready."""
    _arch()
    import llvmlite.binding as llvm

    with _lock:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def llvm_version() -> str:
    """Versions of llvmlite and of LLVM: part of every cache key of object code (found without loading LLVM)."""
    from importlib.metadata import version

    return f"llvmlite-{version('llvmlite')}"


@functools.cache
def _all_features() -> tuple[frozenset[str], frozenset[str]]:
    """Features that this host has, and those that LLVM knows and it lacks."""
    llvm = _llvm()
    try:
        found = dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM can't tell on this kernel or CPU
        found = {}
    has = {name for name, there in found.items() if there}
    if _arch() == "aarch64":
        has |= {"neon", "fp-armv8"}  # the base of the architecture
    return frozenset(has), frozenset(found) - has


@functools.cache
def host() -> Machine:
    """The CPU of this process, as LLVM sees it; ``UnsupportedPlatformError`` where kerogen can't generate code."""
    arch, (has, _) = _arch(), _all_features()
    # A hypervisor may hide the model name, so that it stands for an older CPU; it only steers scheduling.
    cpu = "sapphirerapids" if "amx-tile" in has else _llvm().get_host_cpu_name() or "generic"
    return Machine(arch, cpu, tuple(sorted(has)))


def _withheld(machine: Machine) -> list[str]:
    """Features to switch off: those that a CPU name such as "znver5" implies beyond what ``machine`` has."""
    if machine.cpu in _LEVELS or machine.cpu in ("generic", "x86-64"):
        return []
    has, lacks = _all_features() if machine.arch == _arch() else (frozenset(), frozenset())
    return sorted((has | lacks) - set(machine.features))


def named_machine(name: str | None = None) -> Machine:
    """The machine that a name means: "native", "x86-64-v2|v3|v4" or "aarch64"; by default KEROGEN_TARGET's, or the host."""
    name = name or config.TARGET.get() or "native"
    if name == "native":
        return host()
    if name in _LEVELS:
        return Machine("x86_64", name, tuple(sorted(_LEVELS[name])))
    if name == "aarch64":
        return Machine("aarch64", "generic", ("fp-armv8", "neon"))
    raise ArgumentError(f"{config.TARGET.name}={name!r} is unknown: {config.TARGET.doc}")


@functools.lru_cache(maxsize=256)
def require(target: str) -> None:
    """Checks that code for ``target`` (``Machine.text``) can run here, else ``UnsupportedPlatformError`` names what
    is lacking."""
    machine, here = parse_machine(target), host()
    if machine.arch != here.arch:
        raise UnsupportedPlatformError(
            f"this code is for {machine.arch}, this machine is {here.arch}: compile it here, or load it there"
        )
    lacking = sorted(set(machine.features) - set(here.features) - _TUNING)
    if lacking:
        raise UnsupportedPlatformError(
            f"this code needs CPU features that this machine ({here.cpu}) lacks: {', '.join(lacking)}. "
            f"Compile it here, or with {config.TARGET.name} set to what both machines have"
        )


def assemble(text: str, cpu: str, features: str, opt: int = 0, triple: str | None = None) -> bytes:
    """Object code of LLVM IR ``text``. ``opt``: 0 runs no IR passes (right for well-built kernels), 1-3 the pipeline of that
    level without vectorisers. IR that LLVM refuses is an ``InternalError`` that quotes LLVM's message."""
    llvm = _llvm()
    with _lock:
        if triple is not None and not triple.startswith(_arch()):
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
        target = llvm.Target.from_triple(triple or llvm.get_process_triple())
        machine = target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small", jit=True)
        try:
            module = llvm.parse_assembly(text, llvm.create_context())
            module.verify()
        except RuntimeError as e:
            raise InternalError(f"LLVM refused generated code: {e}\n{_excerpt(text, str(e))}") from None
        if opt:
            options = llvm.create_pipeline_tuning_options(speed_level=opt)
            options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
        return machine.emit_object(module)


def disassemble(text: str, cpu: str, features: str, opt: int = 0) -> str:
    """The assembly text that ``assemble`` would encode, for dumps."""
    llvm = _llvm()
    with _lock:
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small", jit=True
        )
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
        if opt:
            options = llvm.create_pipeline_tuning_options(speed_level=opt)
            options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
        return machine.emit_assembly(module)


def _excerpt(text: str, message: str) -> str:
    """The lines around the position that LLVM's message names."""
    for part in message.replace("\n", ":").split(":"):
        if part.strip().isdigit():
            at, lines = int(part), text.splitlines()
            return "\n".join(f"{i + 1:5} {lines[i]}" for i in range(max(0, at - 4), min(len(lines), at + 2)))
    return text[:2000]


def object_key(text: str, machine: Machine, opt: int = 0) -> str:
    """Key of the object code of ``text``: everything that it depends on."""
    parts = (text, machine.text, machine.flags, str(opt), llvm_version())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def object_code(text: str, machine: Machine, opt: int = 0) -> bytes:
    """``assemble`` through the cache."""
    from . import cache

    key = object_key(text, machine, opt)
    found = cache.get("object", key)
    if found is None:
        found = assemble(text, machine.cpu, machine.flags, opt, machine.triple)
        cache.put("object", key, found)
    return found


@functools.cache
def _jit() -> Any:
    llvm = _llvm()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    jit = llvm.create_lljit_compiler(target.create_target_machine(reloc="pic", codemodel="small", jit=True))
    _keep(jit)
    return jit


def _keep(x: Any) -> None:
    """Keeps ``x`` alive beyond the interpreter's end: threads in native code outlive Python's objects."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))


_loaded: dict[bytes, dict[str, int]] = {}


def load(image: bytes, symbols: Iterable[str], imports: Mapping[str, int] | None = None) -> dict[str, int]:
    """Addresses of ``symbols`` of an object file, loaded once per content and process. libm and libc resolve by themselves,
    other names by ``imports``."""
    wanted = sorted(set(symbols))
    key = hashlib.sha256(image).digest()
    with _lock:
        known = _loaded.setdefault(key, {})
        if not all(s in known for s in wanted):
            builder = _llvm().JITLibraryBuilder().add_object_img(image).add_current_process()
            for name, address in (imports or {}).items():
                builder.import_symbol(name, address)
            for symbol in wanted:
                builder.export_symbol(symbol)
            try:
                library = builder.link(_jit(), f"k{next(_numbers)}")
            except RuntimeError as e:
                raise InternalError(f"generated code doesn't link: {e}") from None
            _keep(library)
            known.update({s: library[s] for s in wanted})
        return {s: known[s] for s in wanted}


@functools.cache
def enable_amx() -> bool:
    """Asks the kernel for AMX tile state for this process (arch_prctl ARCH_REQ_XCOMP_PERM); whether code may use it."""
    if _arch() != "x86_64" or "amx-tile" not in host().features:
        return False
    return ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0
