"""einsum against NumPy's over random equations, and the order in which operands meet."""

import numpy as np
import pytest

from kerogen.compiler import ops as o
from kerogen.compiler.ir.evaluate import evaluate
from kerogen.compiler.ir.graph import Graph, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.ops.contract import DotGeneral
from kerogen.runtime.dtype import float64
from kerogen.runtime.errors import ArgumentError, ShapeError

from ..compare import assert_close


def random_equation(rng: np.random.Generator) -> tuple[str, list[np.ndarray]]:
    """1 to 4 operands over five labels, repeated within operands or not, some with "...", sizes of 1 and 0 among them."""
    sizes = dict(zip("abcde", rng.choice([0, 1, 2, 3, 4, 5], 5, p=[0.04, 0.16, 0.2, 0.2, 0.2, 0.2])))
    dots = [int(n) for n in rng.integers(1, 4, rng.integers(0, 3))]
    terms, arrays, seen = [], [], ""
    for _ in range(rng.integers(1, 5)):
        labels = "".join(rng.choice(list("abcde"), rng.integers(0, 4)))
        shape = [int(sizes[c]) for c in labels]
        if rng.random() < 0.4:
            at, mine = int(rng.integers(0, len(labels) + 1)), dots[int(rng.integers(0, len(dots) + 1)) :]
            labels, shape = labels[:at] + "..." + labels[at:], shape[:at] + mine + shape[at:]
        terms.append(labels)
        seen += labels
        arrays.append(rng.standard_normal(shape))
    equation = ",".join(terms)
    if rng.random() < 0.8:
        kept = [c for c in dict.fromkeys(seen.replace(".", "")) if rng.random() < 0.6]
        rng.shuffle(kept)
        equation += "->" + ("..." if "." in seen else "") + "".join(kept)
    return equation, arrays


@pytest.mark.parametrize("seed", range(150))
def test_random_equations(seed: int) -> None:
    equation, arrays = random_equation(np.random.default_rng(seed))
    leaves = [leaf(f"x{i}", TensorType(a.shape, float64)) for i, a in enumerate(arrays)]
    actual = evaluate(Graph(tuple(leaves), (o.einsum(equation, *leaves),)), arrays)[0]
    assert_close(actual, np.einsum(equation, *arrays, optimize=False), 1e-12, what=equation)


def test_the_cheapest_pair_is_contracted_first() -> None:
    """A vector at the right end of a chain of matrices: products from the right cost n^2 each, from the left n^3."""
    n = 30
    a, b, c = (leaf(x, TensorType((n, n), float64)) for x in "abc")
    v = leaf("v", TensorType((n,), float64))
    y = o.einsum("ij,jk,kl,l->i", a, b, c, v)
    assert sum(m.op.flops(m) for m in Graph((a, b, c, v), (y,)).nodes if isinstance(m.op, DotGeneral)) == 3 * 2 * n * n


def test_errors_name_the_equation() -> None:
    x = leaf("x", TensorType((2, 3), float64))
    with pytest.raises(ShapeError, match="'ij,jk->ik': label j has sizes 3 and 2"):
        o.einsum("ij,jk->ik", x, x)
    with pytest.raises(ArgumentError, match="'i.j' *: labels are letters"):
        o.einsum("i.j", x)
    with pytest.raises(ShapeError, match="label i has sizes 1 and 3 in one operand"):
        o.einsum("ii->i", leaf("y", TensorType((1, 3), float64)))
    with pytest.raises(ArgumentError, match="distinct and occur in an operand"):
        o.einsum("ij->ik", x)
