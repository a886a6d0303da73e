"""From what a caller gives to the arrays that a plan takes: by position or name, dtype and shape checked, free sizes found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .dim import Dim, evaluate, text
from .errors import ArgumentError, DTypeError, ShapeError, UnknownNameError
from .plan import Port

_ONNX_NAMES = {"float32": "float", "float64": "double"}


class Signature:
    """The ports that a call has to be given, in order."""

    def __init__(self, ports: Sequence[Port], name: str = ""):
        self.ports, self.name = tuple(ports), name
        self.index = {p.name: i for i, p in enumerate(self.ports)}
        self.dims = tuple(dict.fromkeys(n for p in self.ports for d in p.shape for n in free_names(d)))

    def gather(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[np.ndarray]:
        """One array per port; ``ArgumentError`` or ``UnknownNameError`` where their number or names don't fit."""
        if len(args) > len(self.ports):
            raise ArgumentError(f"{self._who()} takes {self._listing()}, got {len(args)} arrays")
        given: list[Any] = list(args) + [None] * (len(self.ports) - len(args))
        filled = [True] * len(args) + [False] * (len(self.ports) - len(args))
        for key, value in named.items():
            i = self.index.get(key)
            if i is None:
                raise UnknownNameError(f"{self._who()} has no input named {key!r}; it takes {self._listing()}")
            if filled[i]:
                raise ArgumentError(f"input {key!r} was given twice, by position and by name")
            given[i], filled[i] = value, True
        missing = [p.name for p, there in zip(self.ports, filled, strict=True) if not there]
        if missing:
            raise ArgumentError(f"{self._who()} takes {self._listing()}; missing: {', '.join(missing)}")
        return [coerce(x, p) for x, p in zip(given, self.ports, strict=True)]

    def sizes(self, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        """The values of the free dimensions; ``ShapeError`` where an array doesn't fit its port, or two disagree."""
        values: dict[str, int] = {}
        origin: dict[str, str] = {}
        later: list[tuple[Port, int, int, Dim]] = []
        for a, p in zip(arrays, self.ports, strict=True):
            if len(a.shape) != len(p.shape):
                raise ShapeError(
                    f"input {p.name!r} expects {_dimensions(len(p.shape))} {shape_text(p.shape)}, got {shape_text(a.shape)}"
                )
            for axis, (seen, wanted) in enumerate(zip(a.shape, p.shape, strict=True)):
                if type(wanted) is not Dim:
                    if seen != wanted:
                        raise ShapeError(
                            f"input {p.name!r} expects shape {shape_text(p.shape)}, got {shape_text(a.shape)}: "
                            f"axis {axis} has size {seen}, not {wanted}"
                        )
                    continue
                found = _solve(wanted, seen)
                if found is None:
                    later.append((p, axis, seen, wanted))
                    continue
                key, value = found
                if value is None:
                    raise ShapeError(
                        f"input {p.name!r} expects shape {shape_text(p.shape)}, got {shape_text(a.shape)}: "
                        f"no {key} makes axis {axis} of size {seen}"
                    )
                if values.setdefault(key, value) != value:
                    raise ShapeError(
                        f"inputs disagree on {key}: {origin[key]} gives {values[key]}, axis {axis} of {p.name!r} gives {value}"
                    )
                origin.setdefault(key, f"axis {axis} of {p.name!r}")
        for p, axis, seen, wanted in later:
            if all(n in values for n in free_names(wanted)):
                expected = evaluate(wanted.expr, values)
                if seen != expected:
                    raise ShapeError(f"axis {axis} of input {p.name!r} must be {text(wanted)} = {expected}, got {seen}")
            else:
                raise ShapeError(f"the sizes of the inputs don't determine {text(wanted)} (axis {axis} of input {p.name!r})")
        return values

    def _who(self) -> str:
        return f"executable {self.name!r}" if self.name else "this executable"

    def _listing(self) -> str:
        if not self.ports:
            return "no inputs"
        return ", ".join(f"{p.name}: {p.dtype} {shape_text(p.shape)}" for p in self.ports)


def free_names(x: int) -> list[str]:
    """The free dimensions in the expression of a size."""
    out: list[str] = []
    todo = [x.expr] if type(x) is Dim else []
    while todo:
        for monomial, _ in todo.pop():
            for atom in monomial:
                if isinstance(atom, str):
                    out.append(atom)
                else:
                    todo += [atom[1], atom[2]]
    return list(dict.fromkeys(out))


def _solve(wanted: Dim, seen: int) -> tuple[str, int | None] | None:
    """(name, value) where ``wanted`` is a*name + b, with value None if no whole size fits; None for other expressions."""
    varying = [(m, c) for m, c in wanted.expr if m]
    if len(varying) != 1 or len(varying[0][0]) != 1 or not isinstance(varying[0][0][0], str):
        return None
    (((name,), coefficient),) = varying
    rest = seen - sum(c for m, c in wanted.expr if not m)
    return name, rest // coefficient if rest % coefficient == 0 and rest // coefficient >= 0 else None


def coerce(x: Any, port: Port) -> np.ndarray:
    """``x`` as a C-contiguous array of the port's dtype. Arrays (also by DLPack) must have exactly that dtype; Python numbers and
    (nested) lists of them may be cast within bool < int < float."""
    wanted = port.dtype.np
    if not isinstance(x, np.ndarray):
        if isinstance(x, np.generic):
            x = np.asarray(x)
        elif hasattr(x, "__dlpack__"):
            try:
                x = np.from_dlpack(x)
            except (BufferError, TypeError, RuntimeError, ValueError) as e:
                raise ArgumentError(f"input {port.name!r}: the {type(x).__name__} can't be read by DLPack: {e}") from None
        elif hasattr(x, "__array__"):
            x = np.asarray(x)
        else:
            return _from_numbers(x, port)
    if x.dtype != wanted:
        raise DTypeError(
            f"input {port.name!r} expects {port.dtype}, got an array of {x.dtype}; convert it with .astype({port.dtype.name!r})"
        )
    if type(x) is not np.ndarray:
        x = np.asarray(x)
    if not (x.flags.c_contiguous and x.flags.aligned):
        x = np.array(x, order="C")
    return x


def _from_numbers(x: Any, port: Port) -> np.ndarray:
    try:
        a = np.asarray(x)
    except ValueError as e:
        raise ShapeError(f"input {port.name!r}: not a regular nested list: {e}") from None
    rank = {"b": 0, "i": 1, "u": 1, "f": 2}
    have = rank.get(a.dtype.kind) if a.dtype != np.dtype(object) else None
    if a.size == 0:
        have = 0
    if have is None or have > rank[port.dtype.kind]:
        kinds = {0: "bools", 1: "ints", 2: "floats"}
        what = kinds.get(have, type(x).__name__) if have is not None else f"{type(x).__name__} of {a.dtype}"
        raise DTypeError(f"input {port.name!r} expects {port.dtype}, got {what}")
    if have == 1 and port.dtype.is_int and a.size:
        low, high = int(a.min()), int(a.max())
        if low < port.dtype.min or high > port.dtype.max:
            raise ArgumentError(f"input {port.name!r} is {port.dtype}: {low if low < port.dtype.min else high} doesn't fit")
    return np.ascontiguousarray(a, port.dtype.np).reshape(a.shape)


def shape_text(shape: Sequence[int]) -> str:
    """``(batch, 28, 28)``."""
    return "(" + ", ".join(text(d) for d in shape) + ("," if len(shape) == 1 else "") + ")"


def _dimensions(n: int) -> str:
    return f"{n} dimension{'' if n == 1 else 's'}"


class PortInfo:
    """A port as ONNX Runtime's users know it: ``name``, ``shape`` (ints, and names of free dimensions), ``type``."""

    def __init__(self, port: Port):
        self.name = port.name
        self.shape = [text(d) if type(d) is Dim else int(d) for d in port.shape]
        self.type = f"tensor({_ONNX_NAMES.get(port.dtype.name, port.dtype.name)})"

    def __repr__(self) -> str:
        return f"PortInfo(name={self.name!r}, type={self.type!r}, shape={self.shape!r})"
