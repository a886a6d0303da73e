"""What the emitter knows of a tile: named tile dimensions, values over them, and the nested blocks of text being written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...kernel.expr import Expr


@dataclass(frozen=True)
class Tile:
    """One dimension of the tile: ``size`` (a power of two) elements at tensor position ``position``; ``mask`` tells which are real, or None."""

    name: str
    position: int
    size: int
    mask: str | None = None


@dataclass(frozen=True)
class Value:
    """An emitted value. ``type`` is a Triton element type ("float32"); ``dims`` names the tile dimensions it varies over
    (it has size 1 along the others); ``level`` is the block in which ``text`` is valid. ``lit``: a Python number without a type of its own."""

    text: str
    type: str
    dims: frozenset[str] = frozenset()
    level: int = 0
    lit: bool = False


@dataclass
class Level:
    """A block of text (the kernel's body, or a loop's): its lines, and what is known inside it. ``axes`` of the kernel are bound in ``values``."""

    header: str | None = None
    lines: list[str] = field(default_factory=list)
    values: dict[int, Value] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class Writer:
    """Lines in nested blocks. A value is written in the outermost block in which everything it needs is known, so loops hold only what varies."""

    def __init__(self) -> None:
        self.levels: list[Level] = [Level()]
        self._numbers: dict[str, int] = {}
        self._kept: list[Expr] = []  # ids are keys, so the expressions must live

    def fresh(self, prefix: str) -> str:
        n = self._numbers.get(prefix, 0)
        self._numbers[prefix] = n + 1
        return f"{prefix}{n}"

    def line(self, text: str, level: int | None = None) -> None:
        self.levels[-1 if level is None else level].lines.append(text)

    def assign(self, text: str, level: int, prefix: str = "t") -> str:
        """A name for ``text``, assigned in block ``level``; the same text is assigned once."""
        known = self.levels[level].texts
        name = known.get(text)
        if name is None:
            name = known[text] = self.fresh(prefix)
            self.line(f"{name} = {text}", level)
        return name

    def find(self, e: Expr) -> Value | None:
        for level in reversed(self.levels):
            v = level.values.get(id(e))
            if v is not None:
                return v
        return None

    def bind(self, e: Expr, v: Value, level: int | None = None) -> None:
        self._kept.append(e)
        self.levels[v.level if level is None else level].values[id(e)] = v

    def open(self, header: str) -> int:
        """Starts a nested block; its number."""
        self.levels.append(Level(header))
        return len(self.levels) - 1

    def close(self) -> None:
        """Ends the innermost block: its lines go into the block around it."""
        done = self.levels.pop()
        self.line(done.header or "")
        self.levels[-1].lines.extend("    " + x for x in done.lines or ["pass"])

    def suspend(self, level: int) -> list[Level]:
        """Leaves the blocks inside ``level`` for a while, so that a loop can be written before them; ``resume`` returns."""
        inner, self.levels = self.levels[level + 1:], self.levels[: level + 1]
        return inner

    def resume(self, inner: Iterable[Level]) -> None:
        self.levels.extend(inner)
