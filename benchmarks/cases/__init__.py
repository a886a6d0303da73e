"""Single kernels and what they are compared with. A module here has ``CASES``, a list of ``Case``; ``benchmarks.kernels`` finds
the modules by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np

from kerogen.compiler.ir.graph import Graph, Node, leaf
from kerogen.compiler.ir.types import TensorType
from kerogen.compiler.pipeline import executable
from kerogen.runtime.dtype import as_dtype

Call = Callable[[], Any]


@dataclass
class Built:
    """One case, ready to run: ``kerogen()`` and each peer's call do the same work on the same operands, and leave the result
    where ``results`` (by the same names, "kerogen" among them) reads it as a NumPy array."""

    kerogen: Call
    peers: Mapping[str, Call]
    results: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """``build(threads)`` prepares the work; ``flops`` and ``nbytes`` (operands and results, each once) are of one call.

    ``tolerance``: largest |a - b| / (1 + |b|) beside any peer."""

    name: str
    build: Callable[[int], Built]
    flops: int
    nbytes: int
    tolerance: float = 1e-3


def all_cases() -> Iterator[Case]:
    """The cases of every area, in order of the areas' names."""
    for m in sorted(iter_modules(__path__), key=lambda m: m.name):
        yield from import_module(f"{__name__}.{m.name}").CASES


class Weight:
    """A bound parameter."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.version = array, 0


def compiled(name: str, fn: Callable[..., Node | Sequence[Node]], arrays: Sequence[np.ndarray], roles: str, threads: int) -> tuple[Call, Any]:
    """``fn`` of graph nodes, compiled: (the call on fixed buffers, the BoundCall). ``roles``: i(nput) or p(arameter) for each of ``arrays``."""

    def trace(dims: Any) -> Graph:
        kinds = {"i": "input", "p": "parameter"}
        nodes = [leaf(f"x{i}", TensorType(a.shape, as_dtype(a.dtype)), kinds[r]) for i, (a, r) in enumerate(zip(arrays, roles))]
        out = fn(*nodes)
        return Graph(tuple(nodes), (out,) if isinstance(out, Node) else tuple(out), name=name)

    exe = executable(trace, bindings=[Weight(a) for a, r in zip(arrays, roles) if r == "p"], name=name)
    bound = exe.bind(**{f"x{i}": a for i, (a, r) in enumerate(zip(arrays, roles)) if r == "i"})
    return bound, bound


def first_output(bound: Any) -> Callable[[], np.ndarray]:
    return lambda: next(iter(bound.outputs.values()))


def onnx_call(nodes: Sequence[Any], feeds: Mapping[str, np.ndarray], constants: Mapping[str, np.ndarray], out_shape: Sequence[int],
              threads: int) -> tuple[Call, Callable[[], np.ndarray]]:
    """A session of ``nodes`` (the last one's output is "y") on fixed buffers."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, a.shape) for k, a in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(out_shape))],
        [numpy_helper.from_array(a, k) for k, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    ort.set_default_logger_severity(3)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for k, a in feeds.items():
        binding.bind_cpu_input(k, a)
    result = np.empty(out_shape, np.float32)
    binding.bind_output("y", "cpu", 0, np.float32, result.shape, result.ctypes.data)
    return lambda: session.run_with_iobinding(binding), lambda: result
