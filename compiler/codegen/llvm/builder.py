"""A small typed builder of LLVM IR text: SSA names, blocks, phis, loops, masked memory, vectors.

Text is fast to write (no object per instruction), readable in dumps, and parsed once by LLVM. A ``Value`` is a name or constant with its type.
Integer arithmetic on constants is folded here, so that emitters may write plain address arithmetic.

``Cursor`` is a place where instructions go. Each loop has a cursor for its body; while the body is being written, its owner may still append to the
cursor of the code *before* the loop: that is how loop-invariant values are hoisted without a pass. Loops are rotated (test at the bottom); their
phis and the branch into them are written when they close, so code before them may have branched in between.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator, Sequence
from functools import cache


class Value:
    """An SSA name or a constant: ``text`` is how it is written, ``type`` its LLVM type."""

    __slots__ = ("text", "type")

    def __init__(self, text: str, type_: str):
        self.text, self.type = text, type_

    def __str__(self) -> str:
        return f"{self.type} {self.text}"

    __repr__ = __str__

    @property
    def number(self) -> int | None:
        """The value of a scalar integer constant, else None."""
        t = self.text
        return int(t) if (t[0] in "-0123456789") and self.type[0] == "i" else None


@cache
def lanes(type_: str) -> int:
    """Elements of a vector type; 1 for a scalar."""
    return int(type_[1:].split(" ", 1)[0]) if type_[0] == "<" else 1


@cache
def element(type_: str) -> str:
    return type_[1:-1].split(" x ", 1)[1] if type_[0] == "<" else type_


@cache
def vector(element_: str, n: int) -> str:
    """The type of ``n`` elements; the scalar type for n = 1."""
    return element_ if n == 1 else f"<{n} x {element_}>"


def like(type_: str, element_: str) -> str:
    """``type_`` with another element type."""
    return vector(element_, lanes(type_))


_BYTES = {"float": 4, "double": 8, "half": 2, "bfloat": 2, "ptr": 8, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8}


def size_of(type_: str) -> int:
    """Bytes in memory."""
    return _BYTES[element(type_)] * lanes(type_)


def _scalar_text(type_: str, x) -> str:
    if type_ in ("float", "double"):
        if type_ == "float":
            x = struct.unpack("f", struct.pack("f", x))[0] if abs(x) < 3.4028235677973366e38 or x != x else math.copysign(math.inf, x)
        return f"0x{struct.unpack('Q', struct.pack('d', x))[0]:016X}"
    if type_ == "half":
        return f"0xH{struct.unpack('H', struct.pack('e', x))[0]:04X}"
    if type_ == "i1":
        return "true" if x else "false"
    bits = int(type_[1:])
    x = int(x) & ((1 << bits) - 1)
    return str(x - (1 << bits) if x >> (bits - 1) else x)


def const(type_: str, x) -> Value:
    """A number of a scalar type, or the splat of it for a vector type."""
    e = element(type_)
    text = _scalar_text(e, x)
    if e is type_ or type_[0] != "<":
        return Value(text, type_)
    return Value("zeroinitializer" if x == 0 and text in ("0", "false", "0x0000000000000000") else f"splat ({e} {text})", type_)


def constants(type_: str, xs: Sequence) -> Value:
    """A vector constant, lane by lane."""
    e = element(type_)
    return Value("<" + ", ".join(f"{e} {_scalar_text(e, x)}" for x in xs) + ">", type_)


def iota(type_: str) -> Value:
    """<0, 1, 2, ...>; 0 for a scalar type."""
    return const(type_, 0) if lanes(type_) == 1 else constants(type_, range(lanes(type_)))


def poison(type_: str) -> Value:
    return Value("poison", type_)


class Block:
    """A basic block: ``phis`` and ``end`` (the terminator) are filled in late."""

    __slots__ = ("end", "label", "lines", "phis")

    def __init__(self, label: str):
        self.label = label
        self.phis: list[str] = []
        self.lines: list[str] = []
        self.end = ""


class Cursor:
    """Where instructions go: the block at the end of a straight line of code, which branches and loops move on."""

    __slots__ = ("block",)

    def __init__(self, block: Block):
        self.block = block


class Module:
    """Functions, globals and the intrinsics they declare, as one text."""

    def __init__(self, triple: str = ""):
        self.triple = triple
        self.functions: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self.declarations: dict[str, str] = {}

    def constant(self, name: str, type_: str, body: str, align: int = 64) -> Value:
        """A private constant array, by name; made once."""
        self.globals.setdefault(name, f"@{name} = private unnamed_addr constant {type_} {body}, align {align}")
        return Value(f"@{name}", "ptr")

    def text(self) -> str:
        head = [f'target triple = "{self.triple}"'] if self.triple else []
        parts = [*head, *self.globals.values(), *(self.declarations[k] for k in sorted(self.declarations)), *self.functions.values()]
        return "\n".join(parts) + "\n" + ATTRIBUTES


# Explicit vectors come out at full width whatever the scheduling model prefers; strict IEEE (no fast-math) is the default.
ATTRIBUTES = 'attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" "no-trapping-math"="true" }\n'


class Loop:
    """An open loop. ``index`` is its counter, ``state`` the carried values; ``next`` gives the state of the next round; ``results`` is valid after it closed."""

    def __init__(self, index: Value, state: list[Value], cursor: Cursor):
        self.index, self.state, self.cursor = index, state, cursor
        self.results: list[Value] = []
        self._next: list[Value] | None = None

    def next(self, values: Sequence[Value]) -> None:
        self._next = list(values)


class Builder:
    """Writes one function. ``fma``: whether the target has fused multiply-add (else multiply and add are rounded apart)."""

    def __init__(self, module: Module, name: str, arguments: Sequence[tuple[str, str]], result: str = "void", internal: bool = False, fma: bool = True):
        self.module, self.name, self.fma_allowed = module, name, fma
        self.arguments = [Value(f"%{n}", t.split(" ", 1)[0] if not t.startswith("<") else t) for t, n in arguments]
        args = ", ".join(f"{t} %{n}" for t, n in arguments)
        self._head = f"define {'internal ' if internal else ''}{result} @{name}({args}) #0 {{"
        self._count = 0
        self._labels: dict[str, int] = {}
        self.blocks: list[Block] = []
        self.entry = self.new_block("entry")
        self.cursor = Cursor(self.entry)

    # -- names, blocks

    def name_for(self, hint: str = "v") -> str:
        self._count += 1
        return f"%{hint}{'_' if hint[-1].isdigit() else ''}{self._count}"  # r14 + 3 is not r + 143

    def new_block(self, hint: str) -> Block:
        n = self._labels[hint] = self._labels.get(hint, -1) + 1
        block = Block(f"{hint}${n}" if n else hint)  # labels and values share their names: no value's has a "$"
        self.blocks.append(block)
        return block

    def emit(self, type_: str, text: str, hint: str = "v") -> Value:
        name = self.name_for(hint)
        self.cursor.block.lines.append(f"{name} = {text}")
        return Value(name, type_)

    def do(self, text: str) -> None:
        """An instruction without result."""
        self.cursor.block.lines.append(text)

    @contextlib.contextmanager
    def at(self, cursor: Cursor) -> Iterator[None]:
        """Writes at another cursor for a while."""
        saved, self.cursor = self.cursor, cursor
        try:
            yield
        finally:
            self.cursor = saved

    def ret(self, value: Value | None = None) -> None:
        self.cursor.block.end = f"ret {value}" if value else "ret void"

    def finish(self) -> None:
        """Adds the function to its module."""
        out = [self._head]
        for b in self.blocks:
            out.append(f"{b.label}:")
            out.extend(f"  {x}" for x in b.phis)
            out.extend(f"  {x}" for x in b.lines)
            out.append(f"  {b.end}")
        out.append("}\n")
        self.module.functions[self.name] = "\n".join(out)

    # -- control

    @contextlib.contextmanager
    def loop(self, begin: Value, end: Value, step: int = 1, state: Sequence[Value] = (), hint: str = "i", nonempty: bool = False,
             unroll: str = "") -> Iterator[Loop]:
        """for index in range(begin, end, step), carrying ``state``. ``nonempty``: begin < end is known.

        Inside, ``cursor`` is the body's; the cursor of before (``outer``) may still be written to and stands after the loop once it has closed."""
        outer = self.cursor
        body = self.new_block(f"{hint}.loop")
        index = Value(self.name_for(hint), begin.type)
        phis = [Value(self.name_for("s"), s.type) for s in state]
        loop = Loop(index, phis, Cursor(body))
        self.cursor = loop.cursor
        yield loop
        new = loop._next if loop._next is not None else list(state)
        following = self.add(index, const(index.type, step))
        more = self.icmp("slt", following, end)
        latch = self.cursor.block
        done = self.new_block(f"{hint}.done")
        latch.end = f"br i1 {more.text}, label %{body.label}, label %{done.label}"
        before = outer.block
        body.phis.append(f"{index.text} = phi {index.type} [ {begin.text}, %{before.label} ], [ {following.text}, %{latch.label} ]")
        for p, first, n in zip(phis, state, new):
            body.phis.append(f"{p.text} = phi {p.type} [ {first.text}, %{before.label} ], [ {n.text}, %{latch.label} ]")
        known = nonempty or (begin.number is not None and end.number is not None and begin.number < end.number)
        if known:
            before.end = f"br label %{body.label}"
            loop.results = list(new)
        else:
            self.cursor = outer
            enter = self.icmp("slt", begin, end)
            before.end = f"br i1 {enter.text}, label %{body.label}, label %{done.label}"
            for first, n in zip(state, new):
                r = Value(self.name_for("r"), first.type)
                done.phis.append(f"{r.text} = phi {r.type} [ {first.text}, %{before.label} ], [ {n.text}, %{latch.label} ]")
                loop.results.append(r)
        outer.block = done
        self.cursor = outer

    @contextlib.contextmanager
    def when(self, condition: Value, hint: str = "if", unlikely: bool = False) -> Iterator[None]:
        """Runs the body where ``condition`` (i1) holds; for effects only."""
        body, done = self.new_block(hint), self.new_block(f"{hint}.end")
        self.cursor.block.end = f"br i1 {condition.text}, label %{body.label}, label %{done.label}"
        self.cursor.block = body
        yield
        self.cursor.block.end = f"br label %{done.label}"
        self.cursor.block = done

    def choose(self, condition: Value, then, otherwise: list[Value], hint: str = "if") -> list[Value]:
        """``then()`` (values like ``otherwise``) where ``condition`` holds, computed only there."""
        before = self.cursor.block
        body, done = self.new_block(hint), self.new_block(f"{hint}.end")
        before.end = f"br i1 {condition.text}, label %{body.label}, label %{done.label}"
        self.cursor.block = body
        values = then()
        last = self.cursor.block
        last.end = f"br label %{done.label}"
        self.cursor.block = done
        out = []
        for a, b in zip(values, otherwise):
            v = Value(self.name_for("c"), b.type)
            done.phis.append(f"{v.text} = phi {v.type} [ {a.text}, %{last.label} ], [ {b.text}, %{before.label} ]")
            out.append(v)
        return out

    # -- arithmetic

    def binary(self, name: str, a: Value, b: Value, hint: str = "v") -> Value:
        return self.emit(a.type, f"{name} {a.type} {a.text}, {b.text}", hint)

    def add(self, a: Value, b: Value) -> Value:
        x, y = a.number, b.number
        if x == 0:
            return b
        if y == 0:
            return a
        if x is not None and y is not None:
            return const(a.type, x + y)
        return self.binary("add nsw" if a.type == "i64" else "add", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        x, y = a.number, b.number
        if y == 0:
            return a
        if x is not None and y is not None:
            return const(a.type, x - y)
        return self.binary("sub nsw" if a.type == "i64" else "sub", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        x, y = a.number, b.number
        if x is not None and y is not None:
            return const(a.type, x * y)
        if x == 1:
            return b
        if y == 1:
            return a
        if x == 0 or y == 0:
            return const(a.type, 0)
        return self.binary("mul nsw" if a.type == "i64" else "mul", a, b)

    def and_(self, a: Value, b: Value) -> Value:
        return self.binary("and", a, b)

    def or_(self, a: Value, b: Value) -> Value:
        return self.binary("or", a, b)

    def xor(self, a: Value, b: Value) -> Value:
        return self.binary("xor", a, b)

    def not_(self, a: Value) -> Value:
        return self.binary("xor", a, const(a.type, -1 if element(a.type) != "i1" else 1))

    def fadd(self, a: Value, b: Value) -> Value:
        return self.binary("fadd", a, b)

    def fsub(self, a: Value, b: Value) -> Value:
        return self.binary("fsub", a, b)

    def fmul(self, a: Value, b: Value) -> Value:
        return self.binary("fmul", a, b)

    def fdiv(self, a: Value, b: Value) -> Value:
        return self.binary("fdiv", a, b)

    def fneg(self, a: Value) -> Value:
        return self.emit(a.type, f"fneg {a}")

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c: one rounding where the target can, else two."""
        if self.fma_allowed:
            return self.intrinsic("llvm.fma", a.type, [a, b, c])
        return self.fadd(self.fmul(a, b), c)

    def icmp(self, how: str, a: Value, b: Value) -> Value:
        return self.emit(like(a.type, "i1"), f"icmp {how} {a.type} {a.text}, {b.text}", "p")

    def fcmp(self, how: str, a: Value, b: Value) -> Value:
        return self.emit(like(a.type, "i1"), f"fcmp {how} {a.type} {a.text}, {b.text}", "p")

    def select(self, c: Value, a: Value, b: Value) -> Value:
        if c.text == "true" or a.text == b.text:
            return a
        if c.text == "false":
            return b
        return self.emit(a.type, f"select {c}, {a}, {b}")

    def convert(self, how: str, x: Value, to: str) -> Value:
        """``how``: trunc, zext, sext, fptrunc, fpext, sitofp, uitofp, fptosi, fptoui, bitcast; ``to`` is an element type."""
        type_ = like(x.type, to)
        if type_ == x.type:
            return x
        n = x.number
        if n is not None and how in ("sext", "trunc"):
            return const(type_, n)
        return self.emit(type_, f"{how} {x} to {type_}")

    def freeze(self, x: Value) -> Value:
        return self.emit(x.type, f"freeze {x}")

    # -- calls

    def intrinsic(self, name: str, result: str, args: Sequence[Value], suffixes: Sequence[str] | None = None, attributes: str = "") -> Value:
        """An overloaded intrinsic: its name is completed by the mangled ``suffixes`` types (default: the result's)."""
        full = ".".join([name, *(_mangle(t) for t in ([result] if suffixes is None else suffixes))])
        self.module.declarations.setdefault(full, f"declare {result} @{full}({', '.join(a.type for a in args)})")
        text = f"call {result} @{full}({', '.join(map(str, args))}){attributes}"
        if result == "void":
            self.do(text)
            return poison("void")
        return self.emit(result, text)

    def call(self, function: str, result: str, args: Sequence[Value]) -> Value:
        """A function of this module."""
        text = f"call {result} @{function}({', '.join(map(str, args))})"
        if result == "void":
            self.do(text)
            return poison("void")
        return self.emit(result, text)

    # -- memory

    def gep(self, base: Value, offset: Value, type_: str, hint: str = "p") -> Value:
        """base + offset elements of scalar ``type_``; ``offset`` may be a vector of offsets."""
        if offset.number == 0:
            return base
        result = like(offset.type, "ptr")
        return self.emit(result, f"getelementptr inbounds {type_}, ptr {base.text}, {offset}", hint)

    def load(self, pointer: Value, type_: str, align: int | None = None, hint: str = "x") -> Value:
        return self.emit(type_, f"load {type_}, ptr {pointer.text}, align {align or size_of(element(type_))}", hint)

    def store(self, value: Value, pointer: Value, align: int | None = None) -> None:
        self.do(f"store {value}, ptr {pointer.text}, align {align or size_of(element(value.type))}")

    def masked_load(self, pointer: Value, mask: Value, other: Value) -> Value:
        """Lanes where ``mask`` holds are read, the rest are ``other``."""
        t = other.type
        return self._masked("llvm.masked.load", t, f"ptr align {size_of(element(t))} {pointer.text}, {mask}, {other}", f"ptr, {mask.type}, {t}", [t, "ptr"])

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        t = value.type
        flags = mask.text[1:-1].split(", ") if mask.text[0] == "<" else []
        if flags.count("i1 true") == 1:  # LLVM 22 writes four bytes where such a store follows a truncation to a narrower element
            lane = flags.index("i1 true")
            self.store(self.extract(value, lane), self.gep(pointer, const("i64", lane), element(t)))
            return
        self._masked("llvm.masked.store", "void", f"{value}, ptr align {size_of(element(t))} {pointer.text}, {mask}", f"{t}, ptr, {mask.type}", [t, "ptr"])

    def gather(self, pointers: Value, mask: Value, other: Value) -> Value:
        t = other.type
        a = size_of(element(t))
        return self._masked("llvm.masked.gather", t, f"{pointers.type} align {a} {pointers.text}, {mask}, {other}",
                            f"{pointers.type}, {mask.type}, {t}", [t, pointers.type])

    def scatter(self, value: Value, pointers: Value, mask: Value) -> None:
        t = value.type
        a = size_of(element(t))
        self._masked("llvm.masked.scatter", "void", f"{value}, {pointers.type} align {a} {pointers.text}, {mask}",
                     f"{t}, {pointers.type}, {mask.type}", [t, pointers.type])

    def _masked(self, name: str, result: str, args: str, types: str, suffixes: list[str]) -> Value:
        full = ".".join([name, *map(_mangle, suffixes)])
        self.module.declarations.setdefault(full, f"declare {result} @{full}({types})")
        if result == "void":
            self.do(f"call void @{full}({args})")
            return poison("void")
        return self.emit(result, f"call {result} @{full}({args})", "x")

    def prefetch(self, pointer: Value, locality: int = 3) -> None:
        """A read prefetch; ``locality`` 3 is the first-level cache, 2 the second."""
        self.module.declarations.setdefault("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.do(f"call void @llvm.prefetch.p0(ptr {pointer.text}, i32 0, i32 {locality}, i32 1)")

    def alloca(self, type_: str, align: int = 64) -> Value:
        """Stack memory of the function (made at entry)."""
        name = self.name_for("m")
        self.entry.lines.insert(0, f"{name} = alloca {type_}, align {align}")
        return Value(name, "ptr")

    # -- vectors

    def splat(self, x: Value, n: int) -> Value:
        """``n`` copies of a scalar; a vector of n comes back as it is."""
        if lanes(x.type) == n:
            return x
        t = vector(x.type, n)
        if x.text[0] not in "%@":
            return Value("poison", t) if x.text == "poison" else Value(f"splat ({x})", t)
        first = self.emit(t, f"insertelement {t} poison, {x}, i64 0")
        return self.emit(t, f"shufflevector {t} {first.text}, {t} poison, <{n} x i32> zeroinitializer", "b")

    def extract(self, x: Value, lane: int) -> Value:
        return x if lanes(x.type) == 1 else self.emit(element(x.type), f"extractelement {x}, i64 {lane}")

    def insert(self, into: Value, x: Value, lane: int) -> Value:
        return x if lanes(into.type) == 1 else self.emit(into.type, f"insertelement {into}, {x}, i64 {lane}")

    def shuffle(self, a: Value, b: Value | None, picks: Sequence[int]) -> Value:
        """Lanes of (a, b), numbered through; one pick gives a scalar."""
        if len(picks) == 1 and b is None:
            return self.extract(a, picks[0])
        t = vector(element(a.type), len(picks))
        mask = ", ".join(f"i32 {p}" for p in picks)
        return self.emit(t, f"shufflevector {a}, {a.type} {'poison' if b is None else b.text}, <{len(picks)} x i32> <{mask}>")

    def any(self, mask: Value) -> Value:
        """Whether any lane of an i1 vector holds."""
        return mask if lanes(mask.type) == 1 else self.intrinsic("llvm.vector.reduce.or", "i1", [mask], [mask.type])


def _mangle(type_: str) -> str:
    e = element(type_)
    short = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16", "ptr": "p0"}.get(e, e)
    return f"v{lanes(type_)}{short}" if type_[0] == "<" else short
