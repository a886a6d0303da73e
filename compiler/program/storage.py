"""Storage: how values lie in memory. Here the second operand of a contraction is packed into panels where that pays.

Packing is an ordinary kernel (a guarded copy), so fusion, dumps and the interpreter need to know nothing of it: a
weight's packing is a setup call, run once per weight version; an activation's runs in every call.
"""

from __future__ import annotations

from dataclasses import replace

from ...runtime.dim import key, size
from ..kernel import simplify
from ..kernel.attention import Attend
from ..kernel.expr import Axis, Cast, Const, Expr, Load, index, loads_of, substitute
from ..kernel.ir import Buffer, Contract, Kernel, Store, stage_exprs
from ..kernel.split import split_axes
from ..schedule.attention import choose_attention
from ..schedule.contraction import (
    ContractForm,
    GemmSchedule,
    b_batch,
    choose_schedule,
    match_contraction,
    natural,
    packed_buffer,
    panels,
)
from ..target import Target
from .program import Call, Program, Value


def assign_storage(program: Program, target: Target) -> None:
    """Chooses the schedules of templates; recognises contractions and packs their operands: one packed copy serves all calls that want it."""
    setup_values = {v for c in program.setup for v in c.writes}
    fixed = {v for v, role in zip(program.inputs, program.roles) if role == "parameter"} | setup_values | {v for v, _ in program.constants}
    packed: dict[tuple, Value] = {}
    program.setup = _rewritten(program.setup, program, target, fixed, packed, True)
    program.calls = _rewritten(program.calls, program, target, fixed, packed, False)


def _rewritten(calls: list[Call], program: Program, target: Target, fixed: set[Value], packed: dict, in_setup: bool) -> list[Call]:
    out: list[Call] = []
    for call in calls:
        if isinstance(call, Call) and isinstance(call.kernel, Attend):
            out.append(replace(call, schedule=choose_attention(call.kernel, target)))
            continue
        split = split_axes(call.kernel) if isinstance(call, Call) and isinstance(call.kernel, Kernel) else None
        form = match_contraction(split) if split is not None else None
        if form is None:
            out.append(call)
            continue
        call = replace(call, kernel=split)
        schedule = choose_schedule(form, target)
        names = [b.name for b in call.kernel.buffers]
        source = call.values[names.index(form.b.buffer.name)]
        as_it_lies = natural(form, schedule, source in fixed)
        if not as_it_lies and form.row_count == 1 and source not in fixed:  # each element is used once: packing costs what the product costs
            out.append(call)
            continue
        if form.a.dtype is not form.contract.acc:
            read = call.values[names.index(form.a.buffer.name)]
            k = (read, form.contract.acc.name)
            if k not in packed:
                widening, packed[k] = _widening(form, read, call)
                _placed(widening, read in fixed, packed[k], program, fixed, out, in_setup)
            call = _use_widened(call, form, packed[k])
            widened = match_contraction(call.kernel)
            assert widened is not None
            form = widened
        if as_it_lies:
            out.append(replace(call, schedule=schedule))
            continue
        k = (source, _layout_key(form, schedule))
        if k not in packed:
            packing, packed[k] = _packing(form, schedule, source, call)
            _placed(packing, source in fixed, packed[k], program, fixed, out, in_setup)
        out.append(_use_packed(call, form, schedule, packed[k]))
    return out


def _placed(preparing: Call, once: bool, value: Value, program: Program, fixed: set[Value], out: list[Call], in_setup: bool) -> None:
    """Puts a call that prepares an operand into the setup, where it depends on weights alone, or before the call that reads it."""
    if once:
        fixed.add(value)
    (program.setup if once and not in_setup else out).append(preparing)


def _widening(form: ContractForm, source: Value, call: Call) -> tuple[Call, Value]:
    """The kernel that converts all of a 16-bit operand to the type of the sums: once an element, where the sums would do it once a panel."""
    n = size(source.shape)
    read, write, axis = Buffer("in0", (n,), form.a.dtype), Buffer("out0", (n,), form.contract.acc), Axis("i0", n)
    kernel = Kernel("widen", (read, write), 1, (axis,), (Store(write, (), (axis,), Cast(Load(read, (axis,)), form.contract.acc)),))
    result = Value((n,), form.contract.acc)
    return Call(kernel, (source, result), (), call.origins), result


def _use_widened(call: Call, form: ContractForm, value: Value) -> Call:
    """The call with a read from its widened copy."""
    a, acc = form.a, form.contract.acc
    buffer = replace(a.buffer, name=a.buffer.name + "w", dtype=acc)
    outside = () if a.guard is None else (a.guard, Const(0, acc))
    return _with_operand(call, form, a, Load(buffer, a.index, *outside), value)


def _layout_key(form: ContractForm, schedule: GemmSchedule) -> tuple:
    """Two calls with equal keys read the same packed copy."""
    steps = tuple((key(x.extent), key(form.b_access.coefficients.get(x, 0))) for x in (*b_batch(form), form.n, *form.k))
    quotients = tuple(sorted((repr(e), key(k)) for e, k in form.b_access.rest.items()))
    return (key(form.b.buffer.shape), steps, quotients, repr(form.b.guard), key(form.b_access.constant), schedule.columns, schedule.lanes)


def _packing(form: ContractForm, schedule: GemmSchedule, source: Value, call: Call) -> tuple[Call, Value]:
    """The kernel that fills the panels: out[batch, panel, k, lane] = b[..., panel * columns + lane] where that is < N, else 0."""
    columns = schedule.columns
    batch = tuple(Axis(f"i{i}", x.extent) for i, x in enumerate(b_batch(form)))
    panel = Axis(f"i{len(batch)}", panels(form, schedule))
    depth = tuple(Axis(f"i{len(batch) + 1 + i}", x.extent) for i, x in enumerate(form.k))
    lane = Axis(f"i{len(batch) + 1 + len(depth)}", columns)
    column = simplify.add(simplify.mul(panel, columns), lane)
    mapping: dict[Expr, Expr] = {**dict(zip(b_batch(form), batch)), **dict(zip(form.k, depth)), form.n: column}
    address: Expr = index(form.b_access.constant)
    for old, step in (*form.b_access.coefficients.items(), *form.b_access.rest.items()):
        (new,) = substitute([old], mapping)
        address = simplify.add(address, simplify.mul(new, step))
    read = Buffer("in0", form.b.buffer.shape, form.b.dtype)
    write = packed_buffer(form, schedule, "out0")
    inside = simplify.less(column, index(form.n.extent))
    if form.b.guard is not None:
        inside = simplify.both(inside, *substitute([form.b.guard], mapping))
    value: Expr
    if isinstance(inside, Const) and inside.value:
        value = Load(read, (address,))
    else:
        value = Load(read, (address,), inside, Const(0, form.b.dtype))
    axes = (*batch, panel, *depth, lane)
    at = simplify.ravel(axes, tuple(x.extent for x in axes))
    kernel = Kernel("pack", (read, write), 1, axes, (Store(write, (), (at,), value),))
    result = Value(write.shape, write.dtype)
    return Call(kernel, (source, result), (), call.origins), result


def _use_packed(call: Call, form: ContractForm, schedule: GemmSchedule, value: Value) -> Call:
    """The call with b read from the panels; the kernel's meaning stays complete (the interpreter can run it)."""
    columns = schedule.columns
    name = form.b.buffer.name
    buffer = packed_buffer(form, schedule, name + "p")
    batch = b_batch(form)
    k = simplify.ravel(form.k, tuple(x.extent for x in form.k))
    at: Expr = index(0)
    for x in batch:
        at = simplify.add(simplify.mul(at, x.extent), x)
    at = simplify.add(simplify.mul(at, panels(form, schedule)), simplify.floordiv(form.n, columns))
    at = simplify.add(simplify.mul(at, form.depth), k)
    at = simplify.add(simplify.mul(at, columns), simplify.mod(form.n, columns))
    return replace(_with_operand(call, form, form.b, Load(buffer, (at,)), value), schedule=schedule)


def _with_operand(call: Call, form: ContractForm, old: Load, new: Load, value: Value) -> Call:
    """The call with one operand of its contraction read from another value; the epilogue still reads what it read."""
    contract = replace(form.contract, **({"a": new} if form.contract.a is old else {"b": new}))
    stages = tuple(contract if isinstance(s, Contract) else s for s in call.kernel.stages)
    name = old.buffer.name
    still_read = any(_reads(s, name) for s in stages)
    buffers, values = [], []
    for b, v in zip(call.kernel.buffers, call.values):
        if b.name == name and b.key == old.buffer.key:
            buffers.append(new.buffer)
            values.append(value)
            if still_read:
                buffers.append(b)
                values.append(v)
        else:
            buffers.append(b)
            values.append(v)
    return replace(call, kernel=replace(call.kernel, buffers=tuple(buffers), stages=stages), values=tuple(values))


def _reads(stage, name: str) -> bool:
    return any(x.buffer.name == name for x in loads_of(stage_exprs(stage)))
