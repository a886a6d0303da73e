"""How attention is tiled on a processor with vector registers."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from ...runtime.dim import Dim, ceil_div
from ..kernel.attention import Attend, AttendGrad
from ..target import Target

KEYS = 256  # keys per block: a row of scores is 1 KiB, and no register chain is longer (design section 8)
CHUNK = 144  # queries per work unit: packing a block of keys costs some 3 % of what is computed with it
GRAD_ROWS = 56  # queries at once in the derivative: sums over queries are loaded and stored once per so many


@dataclass(frozen=True)
class AttentionSchedule:
    """A tile is ``rows`` queries by ``vectors`` registers of ``lanes``; ``tiles`` tiles of queries are one block (a work unit of the forward
    pass), ``keys`` the keys of one block of scores. ``tail``: the number of keys may be no multiple of a tile's columns."""

    rows: int
    vectors: int
    lanes: int
    tiles: int
    keys: int
    tail: bool
    key_rows: int = 0  # keys of a tile of the sums over queries (backward pass); they divide ``keys``

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def chunk(self) -> int:
        """Queries of a block."""
        return self.rows * self.tiles


def choose_attention(form: Attend, target: Target) -> AttentionSchedule:
    """The analytic schedule: as many rows as registers allow, evened out over the queries."""
    itemsize = max(4, form.buffers[0].dtype.itemsize)
    lanes = target.vector_bytes // itemsize
    queries, keys = form.sizes[1], form.sizes[2]
    vectors = 2
    most = (target.registers - 2 - vectors) // vectors
    wanted = GRAD_ROWS if isinstance(form, AttendGrad) else CHUNK
    if type(queries) is Dim:
        rows, tiles = most, max(1, wanted // most)
    else:
        blocks = max(1, ceil_div(queries, wanted))
        each = max(1, ceil_div(queries, blocks))
        tiles = ceil_div(each, most)
        rows = ceil_div(each, tiles)
    columns = vectors * lanes
    tail = type(keys) is Dim or keys % columns != 0
    if isinstance(form, AttendGrad):
        unit = lcm(columns, most)
        return AttentionSchedule(rows, vectors, lanes, tiles, max(unit, KEYS // unit * unit), tail, most)
    block = KEYS if type(keys) is Dim else max(columns, min(KEYS, ceil_div(keys, columns) * columns))
    return AttentionSchedule(rows, vectors, lanes, tiles, block, tail)
