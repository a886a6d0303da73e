"""``load`` and ``check``: ONNX files as models that compile."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...compiler.ir.graph import Graph
from ...runtime.dim import Dim, resolve, unguarded
from ...runtime.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError
from .importer import Importer, shape_text
from .model import NodeDef, ValueInfo, read_model
from .report import CheckReport
from .values import Weight

# The value that a free dimension has where a model is traced only to look at it.
_EXAMPLE = 7
_KEEP = 64  # executables of one model for different values of inputs that shape its graph


class OnnxModel:
    """An ONNX model, read and checked, that ``kg.compile`` takes. Calling it compiles it once and runs it.

    ``inputs`` and ``outputs`` have name, dtype and shape (ints and names of free dimensions); ``weights`` are the bound
    parameters, by name.
    """

    def __init__(self, importer: Importer, settings: Mapping[str, Any] | None = None) -> None:
        self._importer, self._settings = importer, dict(settings or {})
        self.name = importer.model.name
        self.opset = importer.model.opsets.get("", 0)
        self.inputs: tuple[ValueInfo, ...] = importer.inputs
        self.outputs: tuple[ValueInfo, ...] = importer.model.graph.outputs
        self.free_dims: tuple[str, ...] = importer.free
        self.bindings: list[Weight] = importer.weights
        self.weights: Mapping[str, Weight] = {w.name: w for w in importer.weights}
        self._executables: OrderedDict[tuple, Any] = OrderedDict()

    def trace(self, dims: Mapping[str, int]) -> Graph:
        """The graph at these sizes of the free dimensions; one error lists everything that can't be compiled."""
        return self._importer.trace(dims)

    @property
    def input_names(self) -> list[str]:
        return [v.name for v in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return [v.name for v in self.outputs]

    def unflatten(self, arrays: Sequence[Any]) -> Any:
        """One output as it is, several as a list in the file's order."""
        return arrays[0] if len(self.outputs) == 1 else list(arrays)

    def check(self) -> CheckReport:
        """The model's facts and everything that can't be compiled."""
        importer = self._importer
        graph, issues = importer.attempt({name: Dim.free(name, _EXAMPLE) for name in importer.free})
        if graph is None and importer.free:  # a model that states a free batch but is written for one sample
            single, fewer = importer.attempt({name: Dim.free(name, 1) for name in importer.free})
            graph, issues = (single, fewer) if len(fewer) < len(issues) else (graph, issues)
        model = importer.model
        kinds = Counter(n.op for n in _all_nodes(model.graph.nodes, model.functions.values()))
        macs = ""
        if graph is not None:
            macs = _macs(graph)
        return CheckReport(
            name=model.name,
            opset=self.opset,
            producer=model.producer,
            nbytes=model.nbytes,
            nodes=len(model.graph.nodes),
            operators=dict(sorted(kinds.items())),
            inputs=tuple(f"{v.name}  {v.dtype or v.kind} {shape_text(v.shape)}" for v in self.inputs),
            outputs=tuple(
                f"{v.name}  {v.dtype or v.kind} {shape_text(o)}"
                for v, o in zip(self.outputs, _output_shapes(graph, self.outputs))
            ),
            free_dims=self.free_dims,
            parameters=sum(w.array.size for w in self.bindings),
            macs=macs,
            issues=issues,
        )

    def executable(self, options: Any = None) -> Any:
        """The compiled model: a callable of the inputs in the file's order."""
        from ...compiler.pipeline import executable

        more = {} if options is None else {"options": options}
        return executable(self.trace, bindings=self.bindings, name=self.name, unflatten=self.unflatten, **more)

    def arrange(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> list[np.ndarray]:
        """The inputs in the file's order, checked: number, names, dtypes, ranks and fixed sizes."""
        names = self.input_names
        given = dict(zip(names, arrays))
        if len(arrays) > len(names):
            raise ArgumentError(f"{self.name} takes {len(names)} inputs ({', '.join(names)}), got {len(arrays)}")
        for k, v in named.items():
            if k not in names:
                raise UnknownNameError(f"{self.name} has no input {k!r}; its inputs are {', '.join(names)}")
            if k in given:
                raise ArgumentError(f"{self.name}: input {k!r} is given twice")
            given[k] = v
        missing = [n for n in names if n not in given]
        if missing:
            raise ArgumentError(f"{self.name} needs inputs {', '.join(missing)}")
        return [_fits(self.name, v, np.asarray(given[v.name])) for v in self.inputs]

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The outputs. Compiled at the first call, and again for each value of an input whose values shape the graph."""
        if any(v.dtype is None or v.shape is None for v in self.inputs):
            self.trace({d: Dim.free(d, _EXAMPLE) for d in self.free_dims})  # raises: no array can be given for such an input
        given = dict(zip(self.input_names, self.arrange(arrays, named)))
        sizes = {d: Dim.free(d, n) for v in self.inputs for d, n in zip(v.shape or (), given[v.name].shape) if isinstance(d, str)}
        fixed: tuple[str, ...] = ()
        while True:
            # Values that shape the graph rarely fit other sizes, so where there are any the sizes are fixed with them.
            key = tuple((n, given[n].dtype.str, given[n].shape, given[n].tobytes()) for n in fixed) + tuple(
                sizes.items() if fixed else ()
            )
            found = self._executables.get(key)
            if found is None:
                importer = self._importer
                if fixed:
                    dims = {
                        **(self._settings.get("dims") or {}),
                        **{d: int(n) for d, n in sizes.items() if d not in self._only_in(fixed)},
                    }
                    importer = Importer(importer.model, dims, self._settings.get("shapes"), {n: given[n] for n in fixed})
                more = tuple(n for n in importer.needed(sizes) if n not in fixed)
                found = more or (OnnxModel(importer) if fixed else self).executable()
                self._executables[key] = found
                if len(self._executables) > _KEEP:
                    self._executables.popitem(last=False)
            self._executables.move_to_end(key)
            if not isinstance(found, tuple):
                return found(*[given[n] for n in self.input_names if n not in fixed])
            fixed = (*fixed, *found)

    def _only_in(self, names: Sequence[str]) -> set[str]:
        """Free dimensions that occur in no other input than these."""
        elsewhere = {d for v in self.inputs if v.name not in names for d in v.shape or ()}
        return {d for d in self.free_dims if d not in elsewhere}

    def __repr__(self) -> str:
        return f"<ONNX model {self.name!r}, opset {self.opset}, {len(self.weights)} weights>"


def _fits(model: str, v: ValueInfo, a: np.ndarray) -> np.ndarray:
    if v.dtype is not None and a.dtype != v.dtype.np:
        raise DTypeError(f"{model}: input {v.name!r} is {v.dtype}, got {a.dtype}")
    if v.shape is not None and (a.ndim != len(v.shape) or any(isinstance(n, int) and n != m for n, m in zip(v.shape, a.shape))):
        raise ShapeError(f"{model}: input {v.name!r} is {shape_text(v.shape)}, got {list(a.shape)}")
    return a


def load(
    src: Any,
    *,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple] | None = None,
    values: Mapping[str, np.ndarray] | None = None,
    opset: int | None = None,
    allow_links: bool = False,
) -> OnnxModel:
    """The model in an ONNX file (path), its bytes, or a ``ModelProto``.

    ``dims`` fixes free dimensions by name; ``shapes`` gives inputs whole shapes (ints, names, None); ``values`` makes inputs
    constants.
    ``opset`` overrides the version of the default operator set that the file states; ``allow_links`` lets external data be
    reached through
    links. Raises ``ModelFormatError`` for a damaged or hostile file; what can't be compiled is raised (all at once,
    ``UnsupportedOpError``) when the model is traced.
    """
    settings = {"dims": dims, "shapes": shapes}
    return OnnxModel(Importer(read_model(src, opset=opset, allow_links=allow_links), values=values, **settings), settings)


def check(src: Any, *, dims: Mapping[str, int] | None = None, shapes: Mapping[str, tuple] | None = None) -> CheckReport:
    """Everything that keeps a model from compiling: node, operator, opset, dtype, attribute, reason, hint of each; ``ok`` if
    there is nothing.
    """
    return load(src, dims=dims, shapes=shapes).check()


def onnx_trace(src: Any, dims: Mapping[str, int] | None = None) -> tuple[Callable, list[Weight], Callable, str, list[str]]:
    """(trace, bindings, unflatten, name, names of the inputs in order) of a model, for ``compiler.pipeline.executable``."""
    model = src if isinstance(src, OnnxModel) else load(src, dims=dims)
    return model.trace, model.bindings, model.unflatten, model.name, model.input_names


def _all_nodes(nodes: Sequence[NodeDef], functions) -> list[NodeDef]:
    return [*nodes, *[n for f in functions for n in f.nodes]]


def _output_shapes(graph: Graph | None, outputs: Sequence[ValueInfo]) -> list:
    return [v.shape for v in outputs] if graph is None else [o.shape for o in graph.outputs]


def _macs(graph: Graph) -> str:
    """Multiply-adds of the contractions, as text over the free dimensions' example."""
    from .report import count_text

    with unguarded():
        flops = sum((n.op.flops(n) for n in graph.nodes if getattr(n.op, "kind", "") == "contraction"), 0)
    if not flops:
        return ""
    if type(flops) is Dim:
        flops = resolve(flops, defaultdict(lambda: 1))
        return f"{count_text(flops // 2, 'MAC')} with free dimensions at 1"
    return count_text(flops // 2, "MAC")
