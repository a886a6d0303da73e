"""Slots and live ranges: which steps need which bytes. Offsets are found when sizes are known (``runtime.arena``)."""

from __future__ import annotations

from ...runtime.plan import Slot
from .program import Program, Step, Value, flat, place_of

_NO_VIEWS: frozenset[Value] = frozenset()


def assign_slots(program: Program) -> tuple[list[Slot], dict[Value, int]]:
    """A slot for every value that a step touches or a port needs; arena slots live from their writer to their last reader. The steps are numbered as in
    ``flat(program.calls)``."""
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
    for step in flat(program.setup):
        for v in _bases(step):
            add(v, Slot("prepared", v.nbytes))
    first: dict[Value, int] = {}
    last: dict[Value, int] = {}
    for at, step in enumerate(flat(program.calls)):
        for v in _bases(step):
            first.setdefault(v, at)
            last[v] = at
    for v in first:
        add(v, Slot("arena", v.nbytes, -1, first[v], last[v]))
    return slots, number


def _bases(step: Step) -> list[Value]:
    """The arrays that a step at the top touches."""
    return [place_of(v, _NO_VIEWS)[0] for v in step.values]
