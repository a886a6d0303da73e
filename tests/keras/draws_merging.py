"""Random configurations of layers that join several inputs."""

from __future__ import annotations

from tests.keras.draws_core import shape
from tests.keras.parity import Case, chance, layer, pick, size


@layer("Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract")
def merge(rng, name):
    given = shape(rng, 3)
    count = 2 if name == "Subtract" else size(rng, 2, 4)
    kind = pick(rng, "equal", "equal", "size one", "rank")
    shapes = [given] * count
    if kind == "size one":
        shapes[-1] = (given[0], 1, given[2])
    elif kind == "rank":
        shapes[-1] = (given[0], given[2])
    return Case({}, shapes, masked=kind == "equal" and chance(rng, 0.6))


@layer("Concatenate")
def concatenate(rng):
    given = shape(rng, 3)
    axis = pick(rng, -1, 1, 2)
    shapes = [tuple(size(rng, 1, 5) if i == axis % 3 else n for i, n in enumerate(given)) for _ in range(size(rng, 2, 4))]
    return Case({} if axis == -1 else {"axis": axis}, shapes, masked=chance(rng))


@layer("Dot")
def dot(rng):
    b, n, m, k = size(rng, 2, 4), size(rng, 2, 5), size(rng, 2, 5), size(rng, 1, 4)
    axes, shapes = pick(
        rng, (1, [(b, n), (b, n)]), (-1, [(b, m, n), (b, k, n)]), ((2, 1), [(b, m, n), (b, n, k)]), (1, [(b, n, m), (b, n, k)]),
        ((1, 2), [(b, n), (b, m, n)]), ((3, 1), [(b, k, m, n), (b, n, k)]),
    )
    return Case({"axes": axes, "normalize": chance(rng)}, shapes)
