"""Random configurations of normalisations."""

from __future__ import annotations

from tests.keras.draws_core import shape
from tests.keras.parity import Case, chance, layer, pick, size, some


@layer("BatchNormalization")
def batch_normalization(rng):
    rank = size(rng, 2, 4)
    axis = pick(rng, -1, 1, rank - 1)
    return Case(some(rng, axis=(axis,), momentum=(0.7, 0.9), epsilon=(0.02,), center=(False,), scale=(False,)), [shape(rng, rank, 6)],
                masked=rank == 3 and chance(rng))


@layer("LayerNormalization")
def layer_normalization(rng):
    return Case(some(rng, axis=(1, -1, (1, 2), [-2]), epsilon=(0.01,), center=(False,), scale=(False,)), [shape(rng, pick(rng, 3, 4))])


@layer("GroupNormalization")
def group_normalization(rng):
    groups = pick(rng, 1, 2, 3, -1)
    channels = abs(groups) * size(rng, 1, 3)
    rank = size(rng, 2, 4)
    axis = pick(rng, -1, 1) if rank > 2 else -1
    given = list(shape(rng, rank))
    given[axis] = channels
    return Case({"groups": groups, "axis": axis, **some(rng, epsilon=(0.02,), center=(False,), scale=(False,))}, [tuple(given)])


@layer("RMSNormalization")
def rms_normalization(rng):
    return Case(some(rng, axis=(-1, 2, (1, 2)), epsilon=(0.1,)), [shape(rng, 3)])


@layer("UnitNormalization")
def unit_normalization(rng):
    return Case(some(rng, axis=(1, -1, (1, 2))), [shape(rng, 3)])


@layer("SpectralNormalization")
def spectral_normalization(rng):
    power = size(rng, 1, 3)
    if chance(rng):
        units = size(rng, 2, 6)
        return Case({"power_iterations": power}, [shape(rng, 2)], config=False,
                    make=lambda k: k.layers.SpectralNormalization(k.layers.Dense(units), power_iterations=power))
    filters = size(rng, 2, 4)
    return Case({"power_iterations": power}, [(2, 6, 5, 3)], config=False,
                make=lambda k: k.layers.SpectralNormalization(k.layers.Conv2D(filters, 3), power_iterations=power))
