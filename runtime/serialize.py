"""Plans as bytes: a JSON header, raw sections, a SHA-256 over all. No pickle; every count is checked when reading.

Layout: magic (8) | length of header (u64) | header, JSON in UTF-8 | padding to 64 | sections, each padded to 64 | SHA-256 (32).
Sections are object code and arrays, given in the header by (offset, length) relative to the first one; equal ones are stored
once. Reading hostile bytes gives ``ModelFormatError``. But a plan *is* machine code: running one that somebody else made is
running their program, and the checksum is no signature.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from . import dtype as dt
from .dim import Dim
from .errors import ArgumentError, ModelFormatError
from .plan import BranchCall, ErrorSite, HostCall, KernelCall, LoopCall, Move, Plan, Port, Slot, Step

MAGIC = b"kgplan\x00\x02"
_LENGTH = struct.Struct("<Q")
_ALIGN = 64
_MAX_DEPTH = 64
_MAX_RANK = 64
_BIG = 2**62
_ROLES = ("input", "parameter", "state")
_KINDS = ("input", "output", "constant", "prepared", "arena")
_RELATIONS = ("==", "<", "<=")
_DIM_OPS = ("//", "%", "max", "min")


@dataclass(frozen=True)
class Bundle:
    """What one file holds: specialised plans, and the arrays of the bound ports."""

    plans: tuple[Plan, ...]
    arrays: tuple[np.ndarray, ...] = ()


# ---- writing


class _Sections:
    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.at = 0
        self._known: dict[bytes, int] = {}

    def add(self, data: Any) -> int:
        """Number of the section that holds these bytes."""
        view = memoryview(data).cast("B")
        digest = hashlib.sha256(view).digest()
        if digest not in self._known:
            self._known[digest] = len(self.parts)
            self.parts.append((self.at, view))
            self.at += -(-len(view) // _ALIGN) * _ALIGN
        return self._known[digest]


def dumps(bundle: Bundle | Plan) -> bytes:
    """The bytes of a plan, or of several with their bound arrays."""
    return b"".join(bytes(p) for p in chunks(bundle))


def chunks(bundle: Bundle | Plan):
    """The pieces of ``dumps``, without joining them: weights may be large."""
    if isinstance(bundle, Plan):
        bundle = Bundle((bundle,))
    sections = _Sections()
    body = {
        "plans": [_plan(p, sections) for p in bundle.plans],
        "arrays": [_array(a, sections) for a in bundle.arrays],
    }
    body["sections"] = [[at, len(view)] for at, view in sections.parts]
    header = json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode()
    digest = hashlib.sha256()
    start = len(MAGIC) + _LENGTH.size + len(header)
    pieces: list[Any] = [MAGIC, _LENGTH.pack(len(header)), header, bytes(-start % _ALIGN)]
    for _, view in sections.parts:
        pieces += [view, bytes(-len(view) % _ALIGN)]
    for piece in pieces:
        digest.update(piece)
        yield piece
    yield digest.digest()


def _array(a: np.ndarray, sections: _Sections) -> list:
    a = np.ascontiguousarray(a).reshape(np.shape(a))
    return [dt.as_dtype(a.dtype).name, list(a.shape), sections.add(a.reshape(-1).view(np.uint8)) if a.size else -1]


def _size(x: int) -> Any:
    return [int(x), _poly(x.expr)] if type(x) is Dim else int(x)


def _poly(p: tuple) -> list:
    return [[[_atom(a) for a in monomial], c] for monomial, c in p]


def _atom(a: Any) -> Any:
    return a if isinstance(a, str) else [a[0], _poly(a[1]), _poly(a[2])]


def _sizes(xs: Sequence[int]) -> list:
    return [_size(x) for x in xs]


def _plan(p: Plan, sections: _Sections) -> dict:
    return {
        "name": p.name, "target": p.target, "dims": list(p.dims),
        "guards": [[op, _poly(d), bool(outcome)] for (op, d), outcome in p.guards],
        "inputs": [_port(q) for q in p.inputs], "outputs": [_port(q) for q in p.outputs],
        "aliases": [list(a) for a in p.aliases],
        "slots": [[s.kind, _size(s.nbytes), s.index, s.first, s.last] for s in p.slots],
        "setup": [_step(s, sections) for s in p.setup], "steps": [_step(s, sections) for s in p.steps],
        "images": {name: sections.add(code) for name, code in sorted(p.images.items())},
        "constants": [_array(c, sections) for c in p.constants],
        "errors": [[e.code, e.message] for e in p.errors],
        "report": _value(dict(p.report), sections),
    }  # fmt: skip


def _port(p: Port) -> list:
    return [p.name, _sizes(p.shape), p.dtype.name, p.role]


def _moves(moves: Sequence[Move | None]) -> list:
    return [None if m is None else [_size(m.stride), m.phase, m.modulus] for m in moves]


def _step(s: Step, sections: _Sections) -> dict:
    if isinstance(s, (LoopCall, BranchCall)):
        around = {
            "slots": list(s.slots), "offsets": _sizes(s.offsets), "moves": _moves(s.moves), "name": s.name, "origin": s.origin,
            "reads": list(s.reads), "writes": list(s.writes),
        }  # fmt: skip
        if isinstance(s, LoopCall):
            return {"loop": [_step(x, sections) for x in s.steps], "trip": _size(s.trip), "condition": s.condition, **around}
        sides = [[_step(x, sections) for x in side] for side in (s.then, s.otherwise)]
        return {"branch": sides, "predicate": s.predicate, **around}
    if isinstance(s, HostCall):
        return {
            "host": s.function, "attributes": [[k, _value(v, sections)] for k, v in s.attributes], "inputs": list(s.inputs),
            "outputs": list(s.outputs), "origin": s.origin, "types": [[_sizes(shape), t.name] for shape, t in s.types],
        }  # fmt: skip
    return {
        "image": s.image, "symbol": s.symbol, "slots": list(s.slots), "offsets": _sizes(s.offsets), "params": _sizes(s.params),
        "units": _size(s.units), "scratch": _size(s.scratch), "error": s.error, "name": s.name, "origin": s.origin,
        "flops": _size(s.flops), "nbytes": _size(s.nbytes), "reads": list(s.reads), "writes": list(s.writes),
        "moves": _moves(s.moves),
    }  # fmt: skip


def _value(v: Any, sections: _Sections) -> Any:
    """Plain data: None, bool, int, Dim, float, str, bytes, DType, array, list, tuple, mapping."""
    if v is None or isinstance(v, (bool, str)) or type(v) is int:
        return v
    if type(v) is Dim:
        return {"dim": _size(v)}
    if isinstance(v, (float, np.floating)):
        return {"float": float(v).hex()}
    if isinstance(v, np.ndarray):
        return {"array": _array(v, sections)}
    if isinstance(v, (int, np.integer)):
        return int(v)
    if isinstance(v, (np.bool_,)):
        return bool(v)
    if isinstance(v, dt.DType):
        return {"dtype": v.name}
    if isinstance(v, bytes):
        return {"bytes": v.hex()}
    if isinstance(v, list):
        return [_value(x, sections) for x in v]
    if isinstance(v, tuple):
        return {"tuple": [_value(x, sections) for x in v]}
    if isinstance(v, Mapping):
        return {"map": [[_value(k, sections), _value(x, sections)] for k, x in v.items()]}
    raise ArgumentError(f"a {type(v).__name__} can't be saved in a plan")


# ---- reading


def _refuse(what: str) -> ModelFormatError:
    return ModelFormatError(f"not a saved kerogen executable, or damaged: {what}")


def _need(ok: bool, what: str) -> None:
    if not ok:
        raise _refuse(what)


def _int(x: Any, low: int = -_BIG, high: int = _BIG) -> int:
    _need(type(x) is int and low <= x <= high, "a number is missing or out of range")
    return x


def _str(x: Any) -> str:
    _need(type(x) is str and len(x) < 2**20, "a name is missing")
    return x


def _list(x: Any, length: int | None = None) -> list:
    _need(type(x) is list and (length is None or len(x) == length), "a list is missing or has the wrong length")
    return x


def _dict(x: Any, keys: str = "") -> dict:
    _need(type(x) is dict and all(k in x for k in keys.split()), f"a table lacks one of: {keys}")
    return x


def loads(data: bytes | memoryview) -> Bundle:
    """What ``dumps`` wrote; ``ModelFormatError`` for anything else. Arrays are read-only views of ``data``."""
    view = memoryview(data).cast("B")
    head = len(MAGIC) + _LENGTH.size
    _need(len(view) >= head + 32, "it is too short")
    _need(bytes(view[: len(MAGIC)]) == MAGIC, "it doesn't begin as one of this version does")
    _need(hashlib.sha256(view[:-32]).digest() == bytes(view[-32:]), "its checksum doesn't fit")
    (length,) = _LENGTH.unpack(view[len(MAGIC) : head])
    _need(length <= len(view) - head - 32, "its header is longer than the file")
    try:
        body = json.loads(bytes(view[head : head + length]))
    except (ValueError, RecursionError):
        raise _refuse("its header isn't JSON") from None
    try:
        return _Reader(view[: len(view) - 32], head + length, body).bundle()
    except RecursionError:
        raise _refuse("its header is nested too deeply") from None


class _Reader:
    def __init__(self, view: memoryview, start: int, body: Any):
        self.body = _dict(body, "plans arrays sections")
        base = -(-start // _ALIGN) * _ALIGN
        self.sections = []
        for at, length in (_list(s, 2) for s in _list(self.body["sections"])):
            at, length = _int(at, 0), _int(length, 0)
            _need(at % _ALIGN == 0 and base + at + length <= len(view), "a section lies outside the file")
            self.sections.append(view[base + at : base + at + length])

    def bundle(self) -> Bundle:
        plans = tuple([self.plan(p) for p in _list(self.body["plans"])])
        return Bundle(plans, tuple([self.array(a) for a in _list(self.body["arrays"])]))

    def section(self, number: Any) -> memoryview:
        return self.sections[_int(number, 0, len(self.sections) - 1)]

    def array(self, x: Any) -> np.ndarray:
        name, shape, number = _list(x, 3)
        dtype = self.dtype(name).np
        dims = tuple([_int(d, 0) for d in _list(shape)])
        _need(len(dims) <= _MAX_RANK, "an array has too many dimensions")
        count = prod(dims)
        if count == 0:
            return np.empty(dims, dtype)
        raw = self.section(number)
        _need(len(raw) == count * dtype.itemsize, "an array's bytes don't fit its shape")
        return np.frombuffer(raw, np.uint8).view(dtype).reshape(dims)

    def dtype(self, name: Any) -> dt.DType:
        found = dt._BY_NAME.get(_str(name))
        _need(found is not None, "an element type is unknown")
        return found

    def size(self, x: Any) -> int:
        if type(x) is not list:
            return _int(x)
        value, expr = _list(x, 2)
        return Dim(_int(value), self.poly(expr))

    def poly(self, x: Any, depth: int = 0) -> tuple:
        _need(depth < _MAX_DEPTH, "an expression is nested too deeply")
        terms = []
        for term in _list(x):
            atoms, c = _list(term, 2)
            terms.append((tuple([self.atom(a, depth) for a in _list(atoms)]), _int(c)))
        return tuple(terms)

    def atom(self, x: Any, depth: int) -> Any:
        if type(x) is str:
            return x
        op, a, b = _list(x, 3)
        _need(op in _DIM_OPS, "an expression has an unknown operation")
        return op, self.poly(a, depth + 1), self.poly(b, depth + 1)

    def tuple_of(self, x: Any, read: Callable) -> tuple:
        return tuple([read(v) for v in _list(x)])

    def port(self, x: Any) -> Port:
        name, shape, dtype, role = _list(x, 4)
        _need(role in _ROLES, "a port's role is unknown")
        _need(len(_list(shape)) <= _MAX_RANK, "a port has too many dimensions")
        return Port(_str(name), self.tuple_of(shape, self.size), self.dtype(dtype), role)

    def plan(self, x: Any) -> Plan:
        d = _dict(x, "name target dims guards inputs outputs aliases slots setup steps images constants errors report")
        inputs, outputs = self.tuple_of(d["inputs"], self.port), self.tuple_of(d["outputs"], self.port)
        constants = self.tuple_of(d["constants"], self.array)
        slots = self.tuple_of(d["slots"], lambda s: self.slot(s, len(inputs), len(outputs), constants))
        images = {_str(k): bytes(self.section(v)) for k, v in _dict(d["images"]).items()}
        aliases = self.tuple_of(
            d["aliases"], lambda a: (_int(_list(a, 2)[0], 0, len(outputs) - 1), _int(a[1], 0, len(inputs) - 1))
        )
        plan = Plan(
            name=_str(d["name"]), target=_str(d["target"]), dims=self.tuple_of(d["dims"], _str),
            guards=self.tuple_of(d["guards"], self.guard), inputs=inputs, outputs=outputs, aliases=aliases, slots=slots,
            setup=self.tuple_of(d["setup"], lambda s: self.step(s, len(slots), images)),
            steps=self.tuple_of(d["steps"], lambda s: self.step(s, len(slots), images)),
            images=images, constants=constants,
            errors=self.tuple_of(d["errors"], lambda e: ErrorSite(_int(_list(e, 2)[0]), _str(e[1]))),
            report=self.value(d["report"]),
        )  # fmt: skip
        _need(isinstance(plan.report, dict), "its report is no table")
        return plan

    def guard(self, x: Any) -> tuple:
        op, difference, outcome = _list(x, 3)
        _need(op in _RELATIONS and type(outcome) is bool, "a guard is malformed")
        return (op, self.poly(difference)), outcome

    def slot(self, x: Any, inputs: int, outputs: int, constants: tuple) -> Slot:
        kind, nbytes, index, first, last = _list(x, 5)
        _need(kind in _KINDS, "a slot's kind is unknown")
        count = {"input": inputs, "output": outputs, "constant": len(constants)}.get(kind)
        if count is not None:
            _int(index, 0, count - 1)
        size = self.size(nbytes)
        _need(type(size) is Dim or size >= 0, "a slot's size is negative")
        if kind == "constant":
            _need(int(size) <= constants[index].nbytes, "a constant is smaller than its slot")
        return Slot(kind, size, _int(index), _int(first), _int(last))

    def moves(self, x: Any, count: int) -> tuple[Move | None, ...]:
        def one(m: Any) -> Move | None:
            if m is None:
                return None
            stride, phase, modulus = _list(m, 3)
            return Move(self.size(stride), _int(phase, 0, 1 << 32), _int(modulus, 0, 1 << 32))

        found = self.tuple_of(x, one)
        _need(len(found) in (0, count), "a step's buffers and moves differ in number")
        return found

    def step(self, x: Any, slots: int, images: Mapping[str, bytes], inside: int = 0) -> Step:
        _need(inside < _MAX_DEPTH, "loops are nested too deeply")
        def numbers(v: Any) -> tuple[int, ...]:
            return self.tuple_of(v, lambda n: _int(n, 0, slots - 1))

        d = _dict(x)
        if "loop" in d or "branch" in d:
            return self.nested(d, numbers, images, inside)
        if "host" in d:
            _need(not inside, "a host call lies in a loop")
            _dict(d, "attributes inputs outputs origin types")
            types = self.tuple_of(d["types"], lambda t: (self.tuple_of(_list(t, 2)[0], self.size), self.dtype(t[1])))
            attributes = self.tuple_of(d["attributes"], lambda a: (_str(_list(a, 2)[0]), self.value(a[1])))
            step = HostCall(_str(d["host"]), attributes, numbers(d["inputs"]), numbers(d["outputs"]), _str(d["origin"]), types)
            _need(len(types) == len(step.inputs) + len(step.outputs), "a host call's types don't fit its arrays")
            return step
        _dict(d, "image symbol slots offsets params units scratch error name origin flops nbytes reads writes moves")
        _need(_str(d["image"]) in images, "a step's object code is missing")
        call = KernelCall(
            image=d["image"], symbol=_str(d["symbol"]), slots=numbers(d["slots"]), offsets=self.tuple_of(d["offsets"], self.size),
            params=self.tuple_of(d["params"], self.size), units=self.size(d["units"]), scratch=self.size(d["scratch"]),
            error=_int(d["error"]), name=_str(d["name"]), origin=_str(d["origin"]), flops=self.size(d["flops"]),
            nbytes=self.size(d["nbytes"]), reads=numbers(d["reads"]), writes=numbers(d["writes"]),
            moves=self.moves(d["moves"], len(_list(d["slots"]))),
        )  # fmt: skip
        _need(len(call.slots) == len(call.offsets), "a step's buffers and offsets differ in number")
        return call

    def nested(self, d: dict, numbers: Callable, images: Mapping[str, bytes], inside: int) -> LoopCall | BranchCall:
        """A loop or a branch; its steps number the slots of its own list."""
        _dict(d, "slots offsets moves name origin reads writes")
        slots, offsets = numbers(d["slots"]), self.tuple_of(d["offsets"], self.size)
        _need(len(slots) == len(offsets), "a loop's buffers and offsets differ in number")
        around = {
            "slots": slots, "offsets": offsets, "moves": self.moves(d["moves"], len(slots)), "name": _str(d["name"]),
            "origin": _str(d["origin"]), "reads": numbers(d["reads"]), "writes": numbers(d["writes"]),
        }  # fmt: skip

        def steps(x: Any) -> tuple:
            return self.tuple_of(x, lambda s: self.step(s, len(slots), images, inside + 1))

        if "loop" in d:
            _dict(d, "trip condition")
            return LoopCall(
                trip=self.size(d["trip"]), steps=steps(d["loop"]), condition=_int(d["condition"], -1, len(slots) - 1), **around
            )
        then, otherwise = _list(_dict(d, "branch predicate")["branch"], 2)
        return BranchCall(
            predicate=_int(d["predicate"], 0, len(slots) - 1), then=steps(then), otherwise=steps(otherwise), **around
        )

    def value(self, v: Any, depth: int = 0) -> Any:
        _need(depth < _MAX_DEPTH, "a value is nested too deeply")
        if v is None or isinstance(v, (bool, str)) or type(v) is int:
            return v
        if type(v) is list:
            return [self.value(x, depth + 1) for x in v]
        _need(type(v) is dict and len(v) == 1, "a value is malformed")
        ((tag, x),) = v.items()
        if tag == "tuple":
            return tuple([self.value(y, depth + 1) for y in _list(x)])
        if tag == "map":
            pairs = [(self.value(_list(p, 2)[0], depth + 1), self.value(p[1], depth + 1)) for p in _list(x)]
            try:
                return dict(pairs)
            except TypeError:
                raise _refuse("a table's key is malformed") from None
        if tag == "dim":
            return self.size(x)
        if tag == "array":
            return self.array(x)
        if tag == "dtype":
            return self.dtype(x)
        try:
            if tag == "float":
                return float.fromhex(_str(x))
            if tag == "bytes":
                return bytes.fromhex(_str(x))
        except (ValueError, OverflowError):
            pass
        raise _refuse("a value is malformed")
