"""A call on fixed buffers: no checks, no allocation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .context import Context, Stopped
from .errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from .executable import Executable


class BoundCall:
    """An executable with fixed buffers: ``call()`` reads the inputs' arrays, writes the outputs' arrays, and allocates nothing.

    ``inputs``, ``outputs``: the arrays, by name."""

    def __init__(self, exe: Executable, arrays: dict[str, Any]):
        self._exe = exe
        names = {p.name for p in exe.outputs}
        feeds = {n: a for n, a in arrays.items() if n in exe._signature.index}
        outs = {n: a for n, a in arrays.items() if n in names and n not in feeds}
        unknown = set(arrays) - set(feeds) - set(outs)
        if unknown:
            raise UnknownNameError(f"no input or output is named {', '.join(sorted(unknown))}")
        self._feeds = exe._signature.gather((), feeds)
        for p, a in zip(exe.inputs, self._feeds, strict=True):
            if arrays[p.name] is not a:
                raise ArgumentError(f"bind: input {p.name!r} must be a C-contiguous NumPy array of {p.dtype}")
        self._bound = exe._bound(exe._signature.sizes(self._feeds), None)
        self._outs = []
        for p, (shape, dtype, binding, _) in zip(exe.outputs, self._bound.results, strict=True):
            self._outs.append(None if binding >= 0 else outs.get(p.name, None) if p.name in outs else np.empty(shape, dtype))
        _, copies = exe._outs(self._bound, self._feeds, list(self._outs))
        if copies:
            raise ArgumentError(
                "bind: output arrays must be C-contiguous, and apart from each other, from the inputs and from the parameters"
            )
        self.inputs = dict(zip([p.name for p in exe.inputs], self._feeds, strict=True))
        self.outputs = {p.name: a for p, a in zip(exe.outputs, self._outs, strict=True) if a is not None}
        self._context: Context | None = None
        if self._bound.plain:
            self._context = self._bound.checkout()
            self._point()

    def _point(self) -> None:
        where = [a.ctypes.data for a in self._feeds]
        pointers = self._context.pointers
        for uses, at in zip(self._bound.feed_uses, where, strict=True):
            for index, offset in uses:
                pointers[index] = at + offset
        for a, (_, _, uses) in zip(self._outs, self._bound.new_results, strict=True):
            for index, offset in uses:
                pointers[index] = a.ctypes.data + offset

    def __call__(self) -> Any:
        """Runs it; returns the outputs as the executable would. One call at a time."""
        exe, bound, context = self._exe, self._bound, self._context
        if context is None:
            return exe._finish(exe._call(bound, self._feeds, self._outs) if not bound.donated else self._locked())
        if exe.bindings:
            exe._attach(bound, context)
        try:
            if context.execute(0, bound.table.count):
                raise bound.failure(context)
        except Stopped as e:
            raise e.__cause__ from None
        return exe._finish(list(self._outs))

    def _locked(self) -> list:
        with self._exe._state_lock:
            return self._exe._call(self._bound, self._feeds, self._outs)
