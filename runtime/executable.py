"""What ``compile`` returns: a callable over plans. Arrays in, one native call, arrays out.

An ``Executable`` holds specialised plans (for other values of the free dimensions, where a plan's guards don't hold, the
compiler is asked for a new one), and for each set of sizes a ``Bound`` with contexts, so that several Python threads may call
it at once. Arrays of role "parameter" and "state" come from bindings: objects with ``array`` and ``version``.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import addressof, c_char
from itertools import product
from operator import attrgetter, is_
from typing import Any

import numpy as np

from . import cache, cpu, serialize, threads
from .arguments import PortInfo, Signature, shape_text
from .bound import Bound
from .boundcall import BoundCall
from .context import Context, Stopped
from .errors import ArgumentError, DTypeError, ModelFormatError, OutOfMemoryError, ShapeError, StateError, UnknownNameError
from .plan import Plan, Port
from .prepare import Store
from .profile import Memory, Profile, measure
from .report import Report
from .runner import YIELDED

PLANS = 32  # specialised plans kept
BOUNDS = 64  # sets of sizes kept
HISTORY = 100  # compilations that explain() tells of
IDLE_BYTES = 256 * 2**20  # of idle contexts, beyond the one used last

_array = attrgetter("array")
_from_buffer = c_char.from_buffer
_empty = np.empty
_alive: weakref.WeakSet[Executable] = weakref.WeakSet()


class Value:
    """A binding: an array and its version, to be incremented by whoever writes to the array or replaces it."""

    __slots__ = ("array", "version")

    def __init__(self, array: np.ndarray):
        self.array, self.version = array, 0


class Executable:
    """A compiled function. Call it with arrays, by position or by name; see the module for how it is kept.

    ``inputs``/``outputs``: the ports, with ``Dim`` for free sizes (default: the first plan's); ``specialize(values)``: compiles a
    plan for these values of the free dimensions (None: only ``plans`` are there); ``bindings``: for the ports that aren't of role
    "input", in order; ``unflatten(list of arrays)``: makes the result (default: one output as array, several as list);
    ``inspect(stage, values)``: the compiler's text of a stage."""

    def __init__(
        self,
        inputs: Sequence[Port] | None = None,
        outputs: Sequence[Port] | None = None,
        *,
        specialize: Callable[[dict[str, int]], Plan] | None = None,
        plans: Sequence[Plan] = (),
        bindings: Sequence[Any] = (),
        name: str = "",
        unflatten: Callable[[list], Any] | None = None,
        threads: int | None = None,
        inspect: Callable[[str, dict[str, int]], str] | None = None,
    ):
        if not plans and (inputs is None or outputs is None):
            raise ArgumentError("an executable needs its ports, or a plan that tells them")
        self._all_inputs = tuple(plans[0].inputs if inputs is None else inputs)
        self._outputs = tuple(plans[0].outputs if outputs is None else outputs)
        self.name = name or (plans[0].name if plans else "")
        self.bindings = list(bindings)
        bound = [p for p in self._all_inputs if p.role != "input"]
        if len(bound) != len(self.bindings):
            raise ArgumentError(f"executable {self.name!r} has {len(bound)} bound inputs, got {len(self.bindings)} bindings")
        self._signature = Signature([p for p in self._all_inputs if p.role == "input"], self.name)
        self._ports = self._signature.ports
        self._dtypes = tuple([p.dtype.np for p in self._ports])
        self._compile = specialize
        self._threads = threads
        self._unflatten = unflatten
        self._inspect = inspect
        self._plans: list[Plan] = []  # last used first
        self._bounds: OrderedDict[tuple, Bound] = OrderedDict()
        self._recent: dict[Any, Bound] = {}
        self._store = Store()
        self._lock = threading.RLock()
        self._state_lock = threading.RLock()
        self._compile_seconds = 0.0
        self._compiled = 0
        self._history: list[dict[str, Any]] = []  # what was compiled for which sizes, for ``explain``
        for p in plans:
            self._add(p)
        _alive.add(self)

    # ---- what it is

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The ports that a call has to be given."""
        return self._ports

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The ports of the results."""
        return self._outputs

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The specialised plans, last used first."""
        return tuple(self._plans)

    def get_inputs(self) -> list[PortInfo]:
        """The inputs as ONNX Runtime describes them."""
        return [PortInfo(p) for p in self._ports]

    def get_outputs(self) -> list[PortInfo]:
        """The outputs as ONNX Runtime describes them."""
        return [PortInfo(p) for p in self._outputs]

    def __repr__(self) -> str:
        def listing(ports):
            return ", ".join(f"{p.name}: {p.dtype}{shape_text(p.shape)}" for p in ports)

        return f"<Executable {self.name!r} ({listing(self._ports)}) -> ({listing(self._outputs)})>"

    # ---- calling

    def __call__(self, *args: Any, out: Any = None, threads: int | None = None, **named: Any) -> Any:
        """Runs it. Arrays by position or name, C-contiguous for speed; ``out``: an array (or a list, one per output) to write the
        results into; ``threads``: for this call only. Results are new arrays; those of donated state are the bindings' own.

        Raises ``ShapeError``, ``DTypeError``, ``ArgumentError``, ``IndexRangeError`` (donated state unchanged)."""
        if out is None and threads is None and not named:
            try:
                bound = self._recent.get(args[0].shape if len(args) == 1 else tuple([a.shape for a in args]))
            except (AttributeError, TypeError):
                bound = None
            if bound is not None:
                results = self._quick(bound, args)
                if results is not None:
                    if self._unflatten is not None:
                        return self._unflatten(results)
                    return results[0] if len(results) == 1 else results
        feeds = self._signature.gather(args, named)
        return self._finish(self._run(feeds, out, threads))

    def _quick(self, bound: Bound, args: Sequence[np.ndarray]) -> list | None:
        """The short way: arrays of sizes that are known, nothing to convert, nothing donated. None where it isn't that easy."""
        try:
            context = bound.free.pop()
        except IndexError:
            context = bound.checkout()
        try:
            if self.bindings:
                self._attach(bound, context)
            pointers = context.pointers
            for a, dtype, uses in zip(args, self._dtypes, bound.feed_uses):
                if a.dtype is not dtype:
                    return None
                try:
                    at = addressof(_from_buffer(a))
                except (TypeError, ValueError, BufferError):
                    if type(a) is not np.ndarray or not a.flags.c_contiguous:
                        return None
                    at = a.ctypes.data
                for index, offset in uses:
                    pointers[index] = at + offset
            results = []
            for shape, dtype, uses in bound.new_results:
                a = _empty(shape, dtype)
                results.append(a)
                try:
                    at = addressof(_from_buffer(a))
                except (TypeError, ValueError, BufferError):
                    at = a.ctypes.data
                for index, offset in uses:
                    pointers[index] = at + offset
            try:
                status = context.call()
                while status == YIELDED:
                    status = context.call()
            except BaseException:
                context.stopped(0, bound.table.count)
                raise
            if status:
                raise bound.failure(context)
            return results
        finally:
            bound.free.append(context)

    def _attach(self, bound: Bound, context: Context) -> list:
        """Brings the bound arrays into a context, and prepared buffers up to date; returns the arrays."""
        arrays = list(map(_array, self.bindings))
        if bound.setup is not None:
            bound.prepare(self.bindings, arrays, self._lock)
        if context.bound is None or not all(map(is_, arrays, context.bound)):
            bound.attach(context, arrays)
        return arrays

    def _finish(self, results: list) -> Any:
        if self._unflatten is not None:
            return self._unflatten(results)
        return results[0] if len(results) == 1 else results

    def _run(self, feeds: list[np.ndarray], out: Any = None, n: int | None = None) -> list:
        values = self._signature.sizes(feeds)
        bound = self._bound(values, n)
        if bound.plain and n is None:
            with self._lock:
                if any(b is bound for b in self._bounds.values()):
                    self._recent[bound.shapes[0] if len(bound.shapes) == 1 else bound.shapes] = bound
        if bound.donated:
            with self._state_lock:
                return self._call(bound, feeds, out)
        return self._call(bound, feeds, out)

    def _call(self, bound: Bound, feeds: list[np.ndarray], out: Any) -> list:
        context = bound.checkout()
        changed: tuple[int, ...] = ()
        try:
            arrays = self._attach(bound, context)
            feeds = self._apart(bound, feeds, arrays)
            outs, copies = self._outs(bound, feeds, out)
            changed = bound.donated
            results = bound.run(context, arrays, feeds, outs)
        except Stopped as e:
            changed = changed if e.complete else ()
            raise e.__cause__ from None
        except MemoryError as e:
            changed = ()
            sizes = ", ".join(f"{p.name} {shape_text(p.shape)}" for p in self._outputs)
            raise OutOfMemoryError(f"{self.name}: no memory for the results ({sizes})") from e
        except Exception:
            changed = () if bound.untouched(context) else changed
            raise
        finally:
            for n in changed:
                self.bindings[n].version += 1
            bound.free.append(context)
        for o, target in copies:
            target[...] = results[o]
            results[o] = target
        return results

    def _apart(self, bound: Bound, feeds: list[np.ndarray], arrays: list) -> list[np.ndarray]:
        """Copies of the inputs that share memory with donated state: the plan takes for granted that they don't."""
        state = [arrays[n] for n in bound.donated]
        return [a.copy() if any(np.may_share_memory(a, s) for s in state) else a for a in feeds] if state else feeds

    def _outs(self, bound: Bound, feeds: list[np.ndarray], out: Any) -> tuple[list | None, list]:
        """Arrays to compute into, and the (number, target) pairs that take a copy since they can't be computed into directly."""
        if out is None:
            return None, []
        given = list(out) if isinstance(out, (list, tuple)) else [out]
        if len(given) != len(bound.results):
            raise ArgumentError(f"out= needs {len(bound.results)} arrays, got {len(given)}")
        outs: list = []
        copies = []
        for o, (a, (shape, dtype, binding, _)) in enumerate(zip(given, bound.results, strict=True)):
            port = self._outputs[o]
            if a is not None:
                if not isinstance(a, np.ndarray) or a.dtype != dtype:
                    raise DTypeError(
                        f"out= for {port.name!r} must be an array of {port.dtype}, not {getattr(a, 'dtype', type(a).__name__)}"
                    )
                if a.shape != shape:
                    raise ShapeError(f"out= for {port.name!r} must have shape {shape}, got {a.shape}")
                if not a.flags.writeable:
                    raise ArgumentError(f"out= for {port.name!r} is read-only")
            others = [b for b in (*feeds, *given[:o], *[x.array for x in self.bindings]) if b is not None]
            if a is not None and (
                binding >= 0 or not (a.flags.c_contiguous and a.flags.aligned) or any(np.may_share_memory(a, b) for b in others)
            ):
                copies.append((o, a))
                a = None
            outs.append(a)
        return outs, copies

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list:
        """ONNX Runtime's spelling: arrays by name in; a list of all outputs, or of those named."""
        known = [p.name for p in self._outputs]
        for name in output_names or ():
            if name not in known:
                raise UnknownNameError(f"no output is named {name!r}; there are: {', '.join(known)}")
        results = self._run(self._signature.gather((), feeds))
        return results if output_names is None else [results[known.index(n)] for n in output_names]

    def bind(self, **arrays: Any) -> BoundCall:
        """A call on fixed buffers: inputs by name (kept, not copied: write into them), outputs by name or made here."""
        return BoundCall(self, arrays)

    # ---- looking inside

    def profile(self, *args: Any, repeat: int = 20, **named: Any) -> Profile:
        """Time of every step, each run by itself in order: median of ``repeat`` calls. Donated state is left as it is."""
        feeds = self._signature.gather(args, named)
        bound = self._bound(self._signature.sizes(feeds), None, timed=True)
        arrays = list(map(_array, self.bindings))
        if bound.setup is not None:
            bound.prepare(self.bindings, arrays, self._lock)
        return measure(bound, arrays, feeds, max(1, repeat), self.name)

    def memory(self) -> Memory:
        """Bytes that the executable holds, and its arena's size for the sizes used last."""
        weights = {id(b.array): b.array.nbytes for b in self.bindings}
        weights |= {id(c): c.nbytes for p in self._plans for c in p.constants}
        with self._lock:
            last = next(reversed(self._bounds.values()), None)
            arena, unplanned = (last.arena_bytes, last.unplanned_bytes) if last is not None else (0, 0)
        return Memory(sum(weights.values()), self._store.nbytes, arena, unplanned)

    def ir(self, stage: str = "final") -> str:
        """The program after a stage of compilation, for the sizes used last: "traced", "optimized", "kernels", "scheduled",
        "llvm", "asm", "triton"; "final" is "llvm". A loaded executable holds no such text (``StateError``)."""
        if self._inspect is None:
            raise StateError(
                f"executable {self.name!r} was loaded from a file, which holds machine code only: "
                "compile the model to see its stages"
            )
        last = next(reversed(self._bounds.values()), None)
        return self._inspect(stage, dict(last.values) if last is not None else dict.fromkeys(self._signature.dims, 2))

    def explain(self) -> Report:
        """What the compiler did: steps and the layers they compute, merges refused, host calls, of the plan used last; and for which sizes something was
        compiled, why, and how long it took. Prints as an outline."""
        with self._lock:
            return Report({**self._plans[0].report, "specialisations": list(self._history)} if self._plans else {})

    def stats(self) -> dict[str, Any]:
        """Counts and seconds: plans compiled, sizes bound, setup steps run, cache hits."""
        with self._lock:
            disk = cache.default()
            return {
                "plans": len(self._plans), "compiled": self._compiled, "compile_seconds": self._compile_seconds,
                "bound": len(self._bounds), "setup_steps_run": self._store.runs,
                "threads": self._threads or threads.num_threads(),
                "contexts": sum(len(b.free) for b in self._bounds.values()), "cache_hits": disk.hits, "cache_misses": disk.misses,
            }  # fmt: skip

    def save(self, path: str | os.PathLike) -> None:
        """Writes the plans compiled so far and the bound arrays into one file, which ``load`` runs without the compiler."""
        if not self._plans:
            raise StateError(f"executable {self.name!r} has no plan yet: call it, or exe.specialize(...), before saving it")
        write_atomically(path, serialize.chunks(serialize.Bundle(tuple(self._plans), tuple(b.array for b in self.bindings))))

    # ---- plans

    def specialize(self, **sizes: int | Sequence[int]) -> Executable:
        """Compiles for these values of the free dimensions now: ``exe.specialize(batch=[1, 8], time=128)``; returns itself."""
        names = list(sizes)
        unknown = [n for n in names if n not in self._signature.dims]
        missing = [n for n in self._signature.dims if n not in names]
        if unknown or missing:
            raise UnknownNameError(
                f"the free dimensions are {', '.join(self._signature.dims) or 'none'}; got {', '.join(names) or 'none'}"
            )
        for choice in product(*[[v] if isinstance(v, int) else list(v) for v in sizes.values()]):
            self._bound(dict(zip(names, choice, strict=True)), None)
        return self

    def _plan_for(self, values: dict[str, int]) -> Plan:
        for i, p in enumerate(self._plans):
            if p.accepts(values) or (not p.dims and not values):
                self._plans.insert(0, self._plans.pop(i))
                return p
        if self._compile is None:
            sizes = ", ".join(f"{n} = {v}" for n, v in values.items())
            kinds = "; ".join(
                f"{p.name}: {', '.join(shape_text(q.shape) for q in p.inputs if q.role == 'input')}" for p in self._plans
            )
            raise ShapeError(
                f"this saved executable holds no plan for {sizes}. "
                f"Specialise it before saving: exe.specialize(...). It has {kinds}"
            )
        began = time.perf_counter()
        broken = self._plans[0].broken(values) if self._plans else ""
        fresh = self._compile(dict(values))
        seconds = time.perf_counter() - began
        self._compile_seconds += seconds
        self._compiled += 1
        self._history.append({"sizes": dict(values), "seconds": seconds, "reason": f"because {broken} before" if broken else "the first sizes"})
        del self._history[:-HISTORY]
        self._add(fresh)
        return fresh

    def _add(self, plan: Plan) -> None:
        if len(plan.outputs) != len(self._outputs) or len(plan.inputs) != len(self._all_inputs):
            raise StateError(
                f"a plan of {self.name!r} has {len(plan.inputs)} inputs and {len(plan.outputs)} outputs, "
                f"not {len(self._all_inputs)} and {len(self._outputs)}"
            )
        cpu.require(plan.target)
        self._plans.insert(0, plan)
        if len(self._plans) > PLANS:
            gone = self._plans.pop()
            for key in [k for k, b in self._bounds.items() if b.plan is gone]:
                self._forget(key)

    def _forget(self, key: tuple) -> None:
        bound = self._bounds.pop(key)
        for shapes in [s for s, b in self._recent.items() if b is bound]:
            del self._recent[shapes]

    def _bound(self, values: dict[str, int], n: int | None, timed: bool = False) -> Bound:
        if n is None:
            n = self._threads if self._threads is not None else threads.num_threads()
        else:
            threads._checked(n)
        n = min(n, threads.num_threads())
        key = (tuple(values.items()), n, timed)
        with self._lock:
            found = self._bounds.get(key)
            if found is None:
                plan = self._plan_for(values)
                found = self._bounds[key] = Bound(plan, values, n, self._store, timed)
                if len(self._bounds) > BOUNDS:
                    self._forget(next(iter(self._bounds)))
            self._bounds.move_to_end(key)
            self._trim(found)
        return found

    def _trim(self, current: Bound) -> None:
        """Frees idle contexts of other sizes, longest unused first, beyond ``IDLE_BYTES``."""
        idle = [(b, b.nbytes) for b in list(self._bounds.values()) if b is not current and b.free]  # another thread may clear it
        total = sum(n for _, n in idle)
        for b, n in idle:
            if total <= IDLE_BYTES:
                break
            b.free.clear()
            total -= n


def load(path: str | os.PathLike, threads: int | None = None) -> Executable:
    """The executable that ``Executable.save`` wrote. It runs machine code from the file: load only what you would run. Raises
    ``ModelFormatError`` for damaged files, ``UnsupportedPlatformError`` where this machine lacks what the code needs."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except IsADirectoryError:
        raise ModelFormatError(f"{os.fspath(path)!r} is a folder, not a saved executable") from None
    bundle = serialize.loads(data)
    if not bundle.plans:
        raise ModelFormatError(f"{os.fspath(path)!r} holds no plan")
    bound = [p for p in bundle.plans[0].inputs if p.role != "input"]
    if len(bound) != len(bundle.arrays):
        raise ModelFormatError(f"{os.fspath(path)!r} has arrays for {len(bundle.arrays)} of {len(bound)} bound inputs")
    # State is updated in place, so it needs memory of its own; parameters stay views of the file's bytes.
    values = [Value(a.copy() if p.role == "state" else a) for p, a in zip(bound, bundle.arrays, strict=True)]
    try:
        return Executable(plans=bundle.plans[::-1], bindings=values, threads=threads)
    except StateError as e:
        raise ModelFormatError(f"{os.fspath(path)!r}: {e}") from None


def write_atomically(path: str | os.PathLike, pieces: Iterable[Any]) -> None:
    """Writes a file beside ``path`` and renames it: readers see the old or the new one, whole."""
    path = os.fspath(path)
    temporary = f"{path}.{os.getpid()}.{threading.get_ident():x}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(fd, "wb") as f:
            for piece in pieces:
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _pool_changed() -> None:
    """Contexts belong to a pool: those of an earlier one, or of the parent process, are forgotten."""
    for exe in list(_alive):
        exe._bounds.clear()
        exe._recent.clear()


def _after_fork() -> None:
    for exe in list(_alive):  # another thread may have held a lock when the process forked
        exe._lock, exe._state_lock = threading.RLock(), threading.RLock()


threads.on_change.append(_pool_changed)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
