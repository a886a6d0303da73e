"""Attention as Triton source: FlashAttention-2 (Dao, 2023), forward, and the derivative in two kernels without atomic additions.

Forward and ``AttendQueryGrad``: a program per batch, head and block of queries, a loop over blocks of keys up to the causal edge. ``AttendKeyGrad``: a program
per batch, head of the keys and block of keys, a loop over the heads of the group and over blocks of queries from the causal edge on;
scores are computed transposed there, so that no tile is. Products of float32 are IEEE; probabilities of 16-bit operands are rounded to
their type for the second product, as tensor cores take them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....runtime.dim import Dim, ceil_div, size
from ....runtime.dtype import DType, float64
from ...kernel.attention import MASKED, Attend, AttendKeyGrad, AttendQueryGrad
from ...schedule.triton import nominal, power
from .emitter import identifier
from .scalars import POINTER, STORAGE
from .source import Source


@dataclass(frozen=True)
class FlashSchedule:
    """``queries`` x ``keys`` scores at a time."""

    queries: int
    keys: int
    num_warps: int
    num_stages: int


def choose_flash(form: Attend) -> FlashSchedule:
    """Tiles that keep accumulators and operands in registers and shared memory (facts: triton_gpu sections 1.3 and 4); small ones for few queries."""
    wide = max(form.depth, form.width)
    itemsize = form.buffers[0].dtype.itemsize
    if itemsize == 2:
        queries, keys, warps, stages = (128, 64, 4, 3) if wide <= 64 else (64, 64, 4, 2)
        if type(form) is not Attend:
            queries, keys, warps = (64, 64, 4) if wide <= 64 else (64, 32, 4)
    elif itemsize == 4:
        queries, keys, warps, stages = (64 if wide <= 64 else 32, 32, 8, 1) if type(form) is Attend else (32, 16, 8, 1)  # no tensor cores: operands fill registers
    else:
        queries, keys, warps, stages = (32, 16, 4, 1)
    return FlashSchedule(max(16, min(queries, power(nominal(form.sizes[1])))), max(16, min(keys, power(nominal(form.sizes[2])))), warps, stages)


def attention_source(form: Attend, schedule: FlashSchedule | None = None) -> Source:
    """The source of an ``Attend``, ``AttendQueryGrad`` or ``AttendKeyGrad``."""
    return _Flash(form, schedule or choose_flash(form)).source()


class _Flash:
    def __init__(self, form: Attend, schedule: FlashSchedule):
        self.form, self.schedule = form, schedule
        self.dtype: DType = form.buffers[0].dtype
        self.wide = "float64" if self.dtype is float64 else "float32"
        self.params: dict[str, tuple[str, int]] = {}
        self.index = "int32" if all(nominal(size(b.shape)) < 1 << 30 for b in form.buffers) else "int64"
        self.lines: list[str] = []
        self.indent = ""
        self.numbers = dict(zip("BTSHGO", map(self._number, form.sizes)))
        self.pointers = {b.name: identifier(b.name) for b in form.buffers}
        self.depth, self.width = (max(16, power(n)) for n in (form.depth, form.width))
        self.fill = f"{MASKED!r}" if form.empty == "uniform" else 'float("-inf")'
        self.skips = form.causal and not form.may_redo  # a query that sees nothing may count keys beyond the edge

    # -- text

    def _number(self, n: int) -> str:
        """A size: a number, or an argument."""
        if type(n) is not Dim:
            return str(int(n))
        return self.params.setdefault(repr(n.expr), (f"n{len(self.params)}", n))[0]

    def line(self, text: str) -> None:
        self.lines.append(f"    {self.indent}{text}")

    def block(self, header: str) -> None:
        self.line(header)
        self.indent += "    "

    def end(self) -> None:
        self.indent = self.indent[:-4]

    def source(self) -> Source:
        form, s = self.form, self.schedule
        kinds = {Attend: self._forward, AttendQueryGrad: self._query_grad, AttendKeyGrad: self._key_grad}
        grid = kinds[type(form)]()
        signature = [(self.pointers[b.name], POINTER[b.dtype]) for b in form.buffers] + [(name, self.index.replace("nt", "")) for name, _ in self.params.values()]
        name = f"{form.name}_kernel"
        text = (f"import triton\nimport triton.language as tl\n\n\n# {form.text}\n@triton.jit\ndef {name}({', '.join(n for n, _ in signature)}):\n"
                + "\n".join(self.lines) + "\n")
        return Source(name, text, tuple(signature), tuple(b.name for b in form.buffers), tuple(n for _, n in self.params.values()),
                      self._limits(), grid, False, s.num_warps, s.num_stages)

    def _limits(self) -> tuple[int, ...]:
        """Element counts that the index type must hold."""
        counts = [size(b.shape) for b in self.form.buffers] if self.index == "int32" else []
        return tuple(n for n in counts if type(n) is Dim)

    # -- addresses

    def _place(self, i: int, time: str, column: str, name: str | None = None) -> str:
        """The address of operand i (3: the result) at (batch, head or group, time, column)."""
        n = self.numbers
        heads, head = (n["G"], "group") if i in (1, 2) else (n["H"], "head")
        times, columns = (n["S"] if i in (1, 2) else n["T"]), (self.form.depth if i < 2 else self.form.width)
        pointer = self.pointers[name or self.form.buffers[i].name]
        wide = "batch.to(tl.int64)"  # scalars; what differs in a tile is an offset from them
        if self.form.layouts[i] == "BTHD":
            return f"({pointer} + ({wide} * {times} * {heads} + {head}) * {columns}) + ({time} * ({heads} * {columns}) + {column})"
        return f"({pointer} + ({wide} * {heads} + {head}) * {times} * {columns}) + ({time} * {columns} + {column})"

    def _operand(self, i: int, time: str, inside: str, column: str, name: str | None = None) -> str:
        limit = self.form.depth if i < 2 else self.form.width
        padded = self.depth if i < 2 else self.width
        mask = inside if limit == padded else f"{inside} & ({column} < {limit})"
        return f"tl.load({self._place(i, time, column, name)}, mask={mask}, other=0)"

    def _extra(self, which: str, query: str, key: str, inside: str) -> str:
        """A tile of the bias or mask."""
        given = self.form.bias if which == "bias" else self.form.mask
        assert given is not None
        at = "0"
        for has, index, count in zip(given, ("batch", "head", query, key), "BHTS"):
            if has:
                at = index if at == "0" else f"({at}) * {self.numbers[count]} + {index}"
        shape = f"{query} * 0 + {key} * 0"  # a tile, whatever it depends on
        return f"tl.load({self.pointers[which]} + {at} + {shape}, mask={inside}, other=0)"

    def _chunks(self, padded: int) -> list[tuple[int, int]]:
        """(first, count) of the columns that one product sums over: products without tensor cores hold their operands in registers."""
        step = padded if self.dtype.itemsize == 2 else min(padded, 32)
        return [(at, step) for at in range(0, padded, step)]

    def _tile(self, name: str, i: int, time: str, inside: str, operand: str | None = None) -> None:
        """The tile [time, column] of operand i in ``name0``, ``name1``, ...: one name per chunk of columns."""
        for c, (at, count) in enumerate(self._chunks(self.depth if i < 2 else self.width)):
            self.line(f"{name}{c} = {self._operand(i, time, inside, f'({at} + tl.arange(0, {count})[None, :])', operand)}")

    def _across(self, target: str, left: str, i: int, time: str, inside: str, operand: str | None = None) -> None:
        """``target`` = ``left`` (of ``_tile``) times operand i transposed: its times are columns."""
        for c, (at, count) in enumerate(self._chunks(self.depth if i < 2 else self.width)):
            right = self._operand(i, time, inside, f"({at} + tl.arange(0, {count})[:, None])", operand)
            self.line(f"{target} {'+=' if c else '='} {self._dot(f'{left}{c}', right)}")

    def _stats(self, name: str, query: str, inside: str) -> str:
        return f"tl.load({self.pointers[name]} + (batch * {self.numbers['H']} + head) * {self.numbers['T']} + {query}, mask={inside}, other=0)"

    def _dot(self, a: str, b: str) -> str:
        precision = ', input_precision="ieee"' if self.dtype.itemsize == 4 else ""
        return f"tl.dot({a}, {b}{precision}, out_dtype=tl.{self.wide})"

    def _cast(self, x: str) -> str:
        return x if self.dtype.itemsize >= 4 else f"{x}.to(tl.{STORAGE[self.dtype]})"

    def _adjust(self, query: str, key: str) -> None:
        """``x`` holds products; they become scores, -inf beyond the last key."""
        f, n = self.form, self.numbers
        self.line(f"x = x * {f.scale!r}")
        if f.soft_cap:
            self.line(f"x = {f.soft_cap!r} * (2 * tl.sigmoid(x * {2 / f.soft_cap!r}) - 1)")
        inside = f"({query} < {n['T']}) & ({key} < {n['S']})"
        if f.bias is not None:
            self.line(f"x += {self._extra('bias', query, key, inside)}.to(tl.{self.wide})")
        if f.mask is not None:
            self.line(f"x = tl.where({self._extra('mask', query, key, inside)} != 0, x, {self.fill})")
        if f.causal:
            self.line(f"x = tl.where({key} <= {query} + {n['O']}, x, {self.fill})")
        self.line(f'x = tl.where({key} < {n["S"]}, x, float("-inf"))')

    # -- programs over blocks of queries

    def _queries(self) -> int:
        """Coordinates, the block of queries in ``qx``, the number of keys to visit; returns the grid."""
        n, s = self.numbers, self.schedule
        batch, queries, _, heads, _, _ = self.form.sizes
        blocks = ceil_div(queries, s.queries)
        self.line(f"pid = tl.program_id(0).to(tl.{self.index})")
        count = self._number(blocks)
        self.line(f"first = (pid % {count}) * {s.queries}")
        self.line(f"head = (pid // {count}) % {n['H']}")
        self.line(f"batch = pid // {count} // {n['H']}")
        self.line(f"group = head // ({n['H']} // {n['G']})")
        self.line(f"t = first + tl.arange(0, {s.queries})[:, None]")
        self.line(f"t_in = t < {n['T']}")
        self.line(f"d = tl.arange(0, {self.depth})[None, :]")
        self.line(f"e = tl.arange(0, {self.width})[None, :]")
        self._tile("qx", 0, "t", "t_in")
        self.line(f"limit = tl.cast({n['S']}, tl.{self.index})")
        if self.skips:
            self.line(f"limit = tl.minimum(limit, tl.maximum(first + {s.queries} + {n['O']}, 0))")
        return size((batch, heads, blocks))

    def _over_keys(self) -> None:
        s, n = self.schedule, self.numbers
        self.block(f"for start in range(0, limit, {s.keys}):")
        self.line(f"s = start + tl.arange(0, {s.keys})[None, :]")
        self.line(f"s_in = s < {n['S']}")
        self.line(f"st = start + tl.arange(0, {s.keys})[:, None]")
        self.line(f"st_in = st < {n['S']}")
        self._across("x", "qx", 1, "s", "s_in")
        self._adjust("t", "s")

    def _online(self) -> None:
        """One block's exponentials ``w`` under the new maximum, and ``alpha`` for what was summed under the old one."""
        self.line("new = tl.maximum(top, tl.max(x, 1)[:, None])")
        self.line('shift = tl.where(new == float("-inf"), 0.0, new)')
        self.line("w = tl.exp(x - shift)")
        self.line("alpha = tl.exp(top - shift)")
        self.line("total = total * alpha + tl.sum(w, 1)[:, None]")

    def _start(self) -> None:
        rows = f"[{self.schedule.queries}, 1]"
        self.line(f'top = tl.full({rows}, float("-inf"), tl.{self.wide})')
        self.line(f"total = tl.zeros({rows}, tl.{self.wide})")

    def _store(self, address: str, value: str, mask: str, columns: int, padded: int, column: str) -> None:
        mask = mask if columns == padded else f"{mask} & ({column} < {columns})"
        self.line(f"tl.store({address}, {value}.to(tl.{STORAGE[self.dtype]}), mask={mask})")

    def _forward(self) -> int:
        grid = self._queries()
        self._start()
        self.line(f"acc = tl.zeros([{self.schedule.queries}, {self.width}], tl.{self.wide})")
        self._over_keys()
        self._online()
        self.line(f"vx = {self._operand(2, 'st', 'st_in', 'e')}")
        self.line(f"acc = acc * alpha + {self._dot(self._cast('w'), 'vx')}")
        self.line("top = new")
        self.end()
        self.line("acc = acc / tl.where(total == 0, 1.0, total)")
        self._store(self._place(3, "t", "e", self.form.buffers[-1].name), "acc", "t_in", self.form.width, self.width, "e")
        return grid

    def _query_grad(self) -> int:
        s, form = self.schedule, self.form
        grid = self._queries()
        self._start()
        self.line(f"delta = tl.zeros([{s.queries}, 1], tl.{self.wide})")
        self._tile("cx", 3, "t", "t_in", "ct")
        for last in (False, True):
            if last:
                self.line('shift = tl.where(top == float("-inf"), 0.0, top)')
                self.line("inverse = tl.where(total == 0, 0.0, 1.0 / tl.where(total == 0, 1.0, total))")
                self.line("delta = delta * inverse")
                self.line(f"live = top > {self.fill if form.empty != 'uniform' else repr(MASKED * 0.999)}")
                self.line(f"dq_acc = tl.zeros([{s.queries}, {self.depth}], tl.{self.wide})")
            self._over_keys()
            self._across("dp", "cx", 2, "s", "s_in")
            if last:
                self.line("p = tl.exp(x - shift) * inverse")
                self.line("ds = tl.where(live, p * (dp - delta), 0.0)")
                self.line(f"kx = {self._operand(1, 'st', 'st_in', 'd')}")
                self.line(f"dq_acc += {self._dot(self._cast('ds'), 'kx')}")
            else:
                self._online()
                self.line("delta = delta * alpha + tl.sum(w * dp, 1)[:, None]")
                self.line("top = new")
            self.end()
        self._store(self._place(0, "t", "d", "dq"), f"(dq_acc * {form.scale!r})", "t_in", form.depth, self.depth, "d")
        self.line(f"row = (batch * {self.numbers['H']} + head) * {self.numbers['T']} + t")
        for name, value in (("top", "shift"), ("inverse", "tl.where(live, inverse, -inverse)"), ("delta", "delta")):
            self.line(f"tl.store({self.pointers[name]} + row, {value}, mask=t_in)")
        return grid

    # -- programs over blocks of keys

    def _key_grad(self) -> int:
        n, s, form = self.numbers, self.schedule, self.form
        batch, _, keys, _, groups, _ = form.sizes
        blocks = ceil_div(keys, s.keys)
        count = self._number(blocks)
        self.line(f"pid = tl.program_id(0).to(tl.{self.index})")
        self.line(f"first = (pid % {count}) * {s.keys}")
        self.line(f"group = (pid // {count}) % {n['G']}")
        self.line(f"batch = pid // {count} // {n['G']}")
        self.line(f"s = first + tl.arange(0, {s.keys})[:, None]")
        self.line(f"s_in = s < {n['S']}")
        self.line(f"d = tl.arange(0, {self.depth})[None, :]")
        self.line(f"e = tl.arange(0, {self.width})[None, :]")
        self._tile("kx", 1, "s", "s_in")
        self._tile("vx", 2, "s", "s_in")
        self.line(f"dk_acc = tl.zeros([{s.keys}, {self.depth}], tl.{self.wide})")
        self.line(f"dv_acc = tl.zeros([{s.keys}, {self.width}], tl.{self.wide})")
        self.line(f"per = {n['H']} // {n['G']}")
        self.line("begin = pid * 0")
        if self.skips:
            self.line(f"begin = tl.maximum(first - {n['O']}, 0) // {s.queries} * {s.queries}")
        self.block("for member in range(0, per):")
        self.line("head = group * per + member")
        self.block(f"for start in range(begin, {n['T']}, {s.queries}):")
        self.line(f"t = start + tl.arange(0, {s.queries})[None, :]")
        self.line(f"t_in = t < {n['T']}")
        self.line(f"tt = start + tl.arange(0, {s.queries})[:, None]")
        self.line(f"tt_in = tt < {n['T']}")
        self._across("x", "kx", 0, "t", "t_in")
        self._adjust("t", "s")
        for name in ("top", "inverse", "delta"):
            self.line(f"{name} = {self._stats(name, 't', 't_in')}")
        self.line("p = tl.exp(x - top) * tl.abs(inverse)")
        self.line(f"cx = {self._operand(3, 'tt', 'tt_in', 'e', 'ct')}")
        self.line(f"dv_acc += {self._dot(self._cast('p'), 'cx')}")
        self._across("dp", "vx", 3, "t", "t_in", "ct")
        self.line("ds = tl.where(inverse < 0, 0.0, p * (dp - delta))")
        self.line(f"qx = {self._operand(0, 'tt', 'tt_in', 'd')}")
        self.line(f"dk_acc += {self._dot(self._cast('ds'), 'qx')}")
        self.end()
        self.end()
        self._store(self._place(1, "s", "d", "dk"), f"(dk_acc * {form.scale!r})", "s_in", form.depth, self.depth, "d")
        self._store(self._place(2, "s", "e", "dv"), "dv_acc", "s_in", form.width, self.width, "e")
        return size((batch, groups, blocks))
