"""Slots and live ranges: which calls need which bytes. Offsets are found when sizes are known (``runtime.arena``)."""

from __future__ import annotations

from ...runtime.plan import Slot
from .program import Program, Value


def assign_slots(program: Program) -> tuple[list[Slot], dict[Value, int]]:
    """A slot for every value that a call touches or a port needs; arena slots live from their writer to their last reader."""
    number: dict[Value, int] = {}
    slots: list[Slot] = []

    def add(value: Value, slot: Slot) -> int:
        if value not in number:
            number[value] = len(slots)
            slots.append(slot)
        return number[value]

    for i, v in enumerate(program.inputs):
        add(v, Slot("input", v.nbytes, i))
    for i, (v, _) in enumerate(program.constants):
        add(v, Slot("constant", v.nbytes, i))
    for i, v in enumerate(program.outputs):
        if v.donated >= 0:
            number[v] = number[program.inputs[v.donated]]
        else:
            add(v, Slot("output", v.nbytes, i))
    for call in program.setup:
        for v in call.writes:
            add(v, Slot("prepared", v.nbytes))
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for step, call in enumerate(program.calls):
        for v in call.values:
            first.setdefault(v, step)
            last[v] = step
    for v in first:
        add(v, Slot("arena", v.nbytes, -1, first[v], last[v]))
    return slots, number
