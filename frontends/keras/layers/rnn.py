"""The recurrent layer: a cell applied along time, as one native loop."""

from __future__ import annotations

from typing import Any

from ....compiler import ops as F
from ....compiler.ir.evaluate import evaluate
from ....compiler.ir.graph import Graph, Node
from ....runtime.dim import Dim
from ....runtime.dtype import bool_
from ....runtime.errors import ArgumentError, ShapeError
from .. import ops
from ..layer import Layer
from ..naming import name_scope
from ..ops.control import fitted, scan_nodes
from ..structure import flatten, is_nested, map_structure, pack_as
from ..tensor import Tensor
from ..trace import ArgSpec, TraceScope, as_node, current_scope
from ..variable import Variable
from .dropout_rnn_cell import DropoutRNNCell
from .stacked_rnn_cells import StackedRNNCells, call_cell, cell_output_size, initial_states


class RNN(Layer):
    """``cell`` applied to (batch, time, ...) from step to step.

    A cell (any object, usually a Layer) has ``state_size`` (an int, or a list with one for each state), ``call(inputs, states)`` that returns
    (output, new states) for inputs (batch, ...), and optionally ``output_size`` and ``get_initial_state(batch_size)``. A list of cells is stacked.

    The result is the last output (batch, units), or with ``return_sequences`` all of them (batch, time, units), followed by the last states with
    ``return_state``. ``go_backwards`` runs from the last step to the first and gives outputs in that order. ``stateful`` begins each call with the
    states at the end of the one before; ``reset_state()`` sets them to 0. At a masked step the states stay, and the output is the one before
    (``zero_output_for_mask``: 0). ``unroll`` writes the steps out (their number must then be known). The time axis may be free (None).

    The cell is traced once. Products of inputs and weights are computed for all steps at once, before the loop.
    """

    def __init__(self, cell: Any, return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False, stateful: bool = False,
                 unroll: bool = False, zero_output_for_mask: bool = False, **kwargs: Any):
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        for attribute in ("call", "state_size"):
            if not hasattr(cell, attribute):
                raise ArgumentError(f"{type(self).__name__}: the cell {cell!r} has no `{attribute}`; a cell has call(inputs, states) and state_size")
        super().__init__(**kwargs)
        size = cell.state_size
        if size is None or not isinstance(size, (list, tuple, int)):
            raise ArgumentError(f"{type(self).__name__}: state_size of the cell must be an integer or a list with one for each state, not {size!r}")
        self.zero_output_for_mask = zero_output_for_mask
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.supports_masking = True
        self.single_state = isinstance(size, int)
        self._states: _States | None = None

    @property
    def state_size(self) -> list:
        size = self.cell.state_size
        return [size] if isinstance(size, int) else list(size)

    @property
    def states(self) -> Any:
        """The variables of a stateful layer that was built, in the structure of the states; None otherwise. They are no weights."""
        return None if self._states is None else self._states.variables

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))
        if self.stateful:
            if self._states is not None:
                self.reset_state()
            elif sequences_shape[0] is None:
                raise ShapeError(f"{type(self).__name__} '{self.name}' is stateful, so its batch size must be known; got shape {tuple(sequences_shape)}. "
                                 "Give it with Input(batch_shape=(...))")
            else:
                with name_scope(self.name, self):
                    self._states = _States(self._initial_values(sequences_shape[0]), self.variable_dtype, sequences_shape[0])

    def _initial_values(self, batch_size: int) -> Any:
        """``get_initial_state`` as arrays."""
        with TraceScope() as scope:
            made = self.get_initial_state(batch_size)
            nodes = [as_node(t) for t in flatten(made)]
        return pack_as(made, evaluate(Graph(tuple([n for _, n in scope.inputs]), tuple(nodes)), [v.array for v, _ in scope.inputs]))

    def get_initial_state(self, batch_size: Any) -> list:
        """The states before the first step, in a list: the cell's own, or zeros."""
        states = initial_states(self.cell, batch_size, self._state_dtype())
        return list(states) if is_nested(states) else [states]

    def _state_dtype(self) -> Any:
        return self.cell.compute_dtype if isinstance(self.cell, Layer) else self.compute_dtype

    def reset_state(self) -> None:
        """Sets the states of a stateful layer to 0."""
        if self._states is not None:
            for v in flatten(self._states.variables):
                v.assign(ops.zeros(v.shape, v.dtype))

    reset_states = reset_state

    def _eager_specs(self, arrays: list) -> list[ArgSpec]:
        specs = super()._eager_specs(arrays)
        return [ArgSpec(a.shape, s.dtype, s.name) for a, s in zip(arrays, specs)] if self.stateful else specs

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False) -> Any:
        what = f"{type(self).__name__} '{self.name}'"
        batch, time = sequences.shape[:2]
        if self.unroll and type(time) is Dim:
            raise ShapeError(f"{what}: unroll=True needs a known number of time steps; give it with Input((steps, ...)), or leave unroll out")
        if self.stateful and self._states is not None and batch != self._states.batch_size:
            raise ShapeError(f"{what} is stateful and was built for a batch of {self._states.batch_size}; got one of {batch}")
        if initial_state is None:
            initial_state = self.states if self.stateful else self.get_initial_state(batch)
        states = self._standard_states(initial_state, batch, what)
        if training:
            self._draw_masks(self.cell, sequences[:, 0], states)
        last, outputs, states = self.inner_loop(sequences, states, mask, training)
        self._forget_masks(self.cell)
        if self.stateful:
            for v, s in zip(flatten(self.states), flatten(states), strict=True):
                v.assign(Tensor(fitted(ops.cast(s, v.dtype), as_node(v).type, what)))
        output = ops.cast(outputs if self.return_sequences else last, self.compute_dtype)
        return (output, *map_structure(lambda s: ops.cast(s, self.compute_dtype), states)) if self.return_state else output

    def _standard_states(self, states: Any, batch: Any, what: str) -> list:
        """States as a list of tensors in the structure of ``get_initial_state`` and in the type that the cell computes in."""
        states = list(states) if is_nested(states) else [states]
        sizes = flatten(self.state_size)
        found = flatten(states)
        if len(found) != len(sizes):
            raise ArgumentError(f"{what}: initial_state must have {len(sizes)} tensors (state sizes {self.state_size}), got {len(found)}")
        tensors = []
        for i, (s, size) in enumerate(zip(found, sizes)):
            t = ops.cast(ops.convert_to_tensor(s), self._state_dtype())
            if not t.shape or t.shape[0] != batch or isinstance(size, int) and size >= 0 and t.shape[-1] != size:
                raise ShapeError(f"{what}: initial state {i} has shape {tuple(t.shape)}; it must be (batch = {batch}, ..., {size})")
            tensors.append(t)
        return pack_as(states, tensors)

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: Any = False) -> tuple[Any, Any, Any]:
        """(last output or None, all outputs (batch, time, ...) or None, last states): the one that ``return_sequences`` asks for."""
        x = as_node(sequences)
        x = F.transpose(x, (1, 0, *range(2, x.rank)))
        xs = [x] if mask is None else [x, _per_step(flatten(mask)[0], x)]
        length = x.shape[0]
        states = [as_node(s) for s in flatten(initial_state)]
        types = [s.type for s in states]
        place: int | None = None  # among the states, where the output is one of them
        before: Node | None = None  # the output of the step before, where the steps are written out

        def step(carries: list[Node], rows: list[Node]) -> tuple[list[Node], list[Node]]:
            nonlocal place, before
            old = pack_as(initial_state, [Tensor(c) for c in carries])
            output, new = call_cell(self.cell, Tensor(rows[0]), old, training)
            found = flatten(new)
            if len(found) != len(carries):
                raise ArgumentError(f"{type(self).__name__} '{self.name}': the cell {type(self.cell).__name__} takes {len(carries)} states and returns "
                                    f"{len(found)}")
            after = [fitted(s, t, f"{type(self).__name__} '{self.name}': state {i}") for i, (s, t) in enumerate(zip(found, types))]
            out = as_node(output)
            if mask is not None:
                if self.zero_output_for_mask or (self.unroll and before is None):
                    previous = F.zeros_like(out)
                else:  # Keras gives the first state in a loop, and the output before where it writes the steps out
                    previous = before if before is not None else self._as_output(_first_state(self.cell, old), out)
                out = _where(rows[1], out, previous)
                after = [_where(rows[1], a, c) for a, c in zip(after, carries)]
            if self.unroll:
                before = out
                return after, [out]
            place = next((i for i, a in enumerate(after) if a is out), None)
            return after, [] if place is not None and not self.return_sequences else [out]

        if self.unroll:
            ys: list[Node] = []
            for t in range(length)[::-1 if self.go_backwards else 1]:
                states, row = step(states, [F.squeeze(F.slice_(a, (t, *[0] * (a.rank - 1)), (t + 1, *a.shape[1:])), 0) for a in xs])
                ys += row
            if ys:
                ys = [F.stack(ys, 0)]
        else:
            states, ys = scan_nodes(step, states, xs, length, self.go_backwards)
            if ys and self.go_backwards:
                ys = [F.flip(ys[0], 0)]
        final = pack_as(initial_state, [Tensor(s) for s in states])
        if not ys:
            if place is None:
                raise ShapeError(f"{type(self).__name__} '{self.name}': there are no time steps to go through")
            return Tensor(states[place]), None, final
        if self.return_sequences:
            y = ys[0]
            return None, Tensor(F.transpose(y, (1, 0, *range(2, y.rank)))), final
        y = ys[0]
        return Tensor(F.squeeze(F.slice_(y, (length - 1, *[0] * (y.rank - 1)), y.shape), 0)), None, final

    def _as_output(self, state: Node, out: Node) -> Node:
        if state.rank != out.rank or any(a != b for a, b in zip(state.shape, out.shape)):
            raise ShapeError(f"{type(self).__name__} '{self.name}': at masked steps the output is the first state, but that has shape {state.shape} and the "
                             f"output {out.shape}; set zero_output_for_mask=True")
        return F.reshape(F.cast(state, out.dtype), out.shape)

    # Masks of dropout are drawn before the loop, so that all its steps see the same ------------------------------------------------------------------------

    def _draw_masks(self, cell: Any, step_input: Any, states: Any) -> None:
        if isinstance(cell, DropoutRNNCell):
            cell.get_dropout_mask(step_input)
            cell.get_recurrent_dropout_mask(flatten(states)[0])
        elif isinstance(cell, StackedRNNCells):
            for c, s in zip(cell.cells, states):
                self._draw_masks(c, step_input, s)
                scope = current_scope()
                if scope is not None:  # what the next cell's input looks like; the call itself is dropped
                    with scope.aside():
                        step_input, _ = call_cell(c, step_input, list(s) if is_nested(s) else [s], False)

    def _forget_masks(self, cell: Any) -> None:
        for c in cell.cells if isinstance(cell, StackedRNNCells) else [cell]:
            if isinstance(c, DropoutRNNCell):
                c.reset_dropout_mask()
                c.reset_recurrent_dropout_mask()

    # Shapes, masks, configuration ---------------------------------------------------------------------------------------------------------------------------

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        batch, time = sequences_shape[:2]
        size = cell_output_size(self.cell)
        output = (batch, time, size) if self.return_sequences else (batch, size)
        if not self.return_state:
            return output
        return (output, *[[(batch, d) for d in s] if isinstance(s, (list, tuple)) else (batch, s) for s in self.state_size])

    def compute_mask(self, inputs: Any, mask: Any) -> Any:
        output = flatten(mask)[0] if self.return_sequences else None
        return [output, *[None for _ in flatten(self.state_size)]] if self.return_state else output

    def get_config(self) -> dict:
        from ..serialization import serialize_keras_object

        return {**super().get_config(), "return_sequences": self.return_sequences, "return_state": self.return_state, "go_backwards": self.go_backwards,
                "stateful": self.stateful, "unroll": self.unroll, "zero_output_for_mask": self.zero_output_for_mask,
                "cell": serialize_keras_object(self.cell)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Any:
        from ..serialization import deserialize_keras_object

        config = dict(config)
        cell = config.pop("cell")
        return cls(deserialize_keras_object(cell, custom_objects=custom_objects) if isinstance(cell, dict) else cell, **config)


class _States:
    """The state variables of a stateful layer, where the walk for weights doesn't find them."""

    def __init__(self, values: Any, dtype: str, batch_size: int):
        self.variables = map_structure(lambda a: Variable(a, trainable=False, dtype=dtype, name="rnn_state"), values)
        self.batch_size = batch_size


class CellRNN(RNN):
    """A RNN layer whose constructor makes the cell: its configuration is the cell's arguments (``cell_arguments``) beside the layer's own."""

    cell_arguments: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name in cls.__dict__.get("cell_arguments", ()):
            if name != "seed":
                setattr(cls, name, property(lambda self, name=name: getattr(self.cell, name)))

    def get_config(self) -> dict:
        from .. import regularizers

        config = super().get_config()
        del config["cell"]
        cell = self.cell.get_config()
        return {**config, **{name: cell[name] for name in self.cell_arguments},
                "activity_regularizer": regularizers.serialize(self.activity_regularizer)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Any:
        return super(RNN, cls).from_config(config)


def _per_step(mask: Any, x: Node) -> Node:
    """A mask (batch, time) or (batch, time, ...) as bool [time, batch]: a step counts where any of its elements is set."""
    m = as_node(mask)
    m = m if m.dtype is bool_ else F.ne(m, 0)
    if m.rank > 2:
        m = F.any_(m, tuple(range(2, m.rank)))
    if m.rank != 2 or m.shape[0] != x.shape[1] or m.shape[1] != x.shape[0]:
        raise ShapeError(f"the mask has shape {m.shape}; it must be (batch, time) = {(x.shape[1], x.shape[0])}")
    return F.transpose(m, (1, 0))


def _first_state(cell: Any, states: Any) -> Node:
    """The state that is the output of the step before: the first, of the last cell in a stack."""
    return as_node(flatten(states[-1] if isinstance(cell, StackedRNNCells) else states)[0])


def _where(keep: Node, new: Node, old: Node) -> Node:
    """``new`` for the samples that ``keep`` [batch] marks, ``old`` for the others."""
    return F.where(F.broadcast_to(F.reshape(keep, (keep.shape[0], *[1] * (new.rank - 1))), new.shape), new, old)
