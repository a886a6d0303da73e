"""Every layer of the table in random configurations against real Keras; ``python -m tests.keras.parity`` runs more of them."""

import pytest

from tests.keras.parity import check, load_table
from tests.oracle import oracle

oracle("keras")

SEEDS = 2


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", sorted(load_table()))
def test_layer(name, seed):
    case, mistakes = check(name, seed, steps=seed == 0)
    assert not mistakes, "\n".join([str(case), *mistakes])
