"""All of onnx's single-operator tests, each with its expected outcome (node_outcomes.txt): "pass", "refuse" with a typed
error, or "rounded".

After a change that makes more cases pass: python -m tests.onnx.test_node_cases writes the list anew; read the difference before
committing it.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest

from kerogen.frontends.onnx import load
from kerogen.runtime.errors import UnsupportedOpError

from .backend import array, assert_case, node_cases

OUTCOMES = Path(__file__).with_name("node_outcomes.txt")


def expected() -> dict[str, str]:
    pairs = [line.split() for line in OUTCOMES.read_text().splitlines() if line and not line.startswith("#")]
    return {name: outcome for outcome, name in pairs}


def run(name: str, ulps: int = 0) -> None:
    """``ulps``: of the greatest element, that a result may be off besides the case's own tolerance."""
    case = node_cases()[name]
    model = load(case.model)
    for inputs, outputs in case.data_sets:
        arrays = [array(x) for x in inputs if isinstance(x, (np.ndarray, np.generic)) or hasattr(x, "data_type")]
        got = model(*arrays[: len(model.inputs)])
        for g, o in zip([got] if len(outputs) == 1 else got, outputs, strict=True):
            wanted = array(o)
            rounding = ulps * float(np.spacing(np.max(np.abs(wanted)))) if ulps else 0.0
            assert_case(np.asarray(g), wanted, case.rtol, case.atol + rounding)


def _named(outcome: str) -> list[str]:
    return [n for n, o in expected().items() if o == outcome]


def test_every_case_has_an_outcome():
    """A new release of onnx brings new cases: run them, then list them."""
    assert sorted(node_cases()) == sorted(expected())
    assert set(expected().values()) == {"pass", "refuse", "rounded"}


@pytest.mark.parametrize("name", _named("pass"))
def test_pass(name: str):
    run(name)


@pytest.mark.parametrize("name", _named("rounded"))
def test_rounded(name: str):
    """Where the truth is 0, the result that onnx stores is float32 noise beyond the case's tolerance."""
    run(name, 1)


@pytest.mark.parametrize("name", _named("refuse"))
def test_refuse(name: str):
    """What can't be compiled is refused with an error that names node and operator: no other exception, no wrong result."""
    with pytest.raises(UnsupportedOpError, match="can't be compiled"):
        run(name)


def write() -> None:
    lines = ["# Outcome of each of onnx's node tests: pass (official tolerances), rounded (one unit in the last place of the greatest element"
             " beside them) or refuse (UnsupportedOpError)."]
    for name in node_cases():
        try:
            with np.errstate(all="ignore"):
                run(name)
            lines.append(f"pass {name}")
        except UnsupportedOpError:
            lines.append(f"refuse {name}")
        except Exception as e:  # noqa: BLE001  (printed: the list shows it as WRONG, which no test accepts)
            with contextlib.suppress(Exception):
                run(name, 1)
                lines.append(f"rounded {name}")
                continue
            lines.append(f"WRONG {name}")
            print(name, type(e).__name__, str(e)[:300], file=sys.stderr)
    OUTCOMES.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write()
