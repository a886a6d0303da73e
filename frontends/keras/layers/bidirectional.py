"""A recurrent layer over time in both directions."""

from __future__ import annotations

from typing import Any

from ....runtime.errors import ArgumentError, StateError
from .. import ops
from ..layer import Layer
from ..structure import flatten, is_nested

MERGE_MODES = ("sum", "mul", "ave", "concat", None)


class Bidirectional(Layer):
    """``layer`` (made anew from its configuration) from the first step to the last, and ``backward_layer`` (by default the same kind of layer, with
    weights of its own) from the last to the first; outputs are merged at equal steps.

    ``merge_mode``: "concat" (along the features), "sum", "mul", "ave", or None (a tuple of both). With ``return_state`` the forward states follow, then
    the backward ones; ``initial_state`` is given in the same order.
    """

    def __init__(self, layer: Any, merge_mode: str | None = "concat", weights: Any = None, backward_layer: Any = None, **kwargs: Any):
        if not isinstance(layer, Layer):
            raise ArgumentError(f"Bidirectional: layer must be a recurrent layer, got {layer!r}")
        if backward_layer is not None and not isinstance(backward_layer, Layer):
            raise ArgumentError(f"Bidirectional: backward_layer must be a recurrent layer, got {backward_layer!r}")
        if merge_mode not in MERGE_MODES:
            raise ArgumentError(f"Bidirectional: merge_mode is one of {', '.join(map(repr, MERGE_MODES))}, not {merge_mode!r}")
        for each in (layer, backward_layer or layer):
            missing = [a for a in ("go_backwards", "return_sequences", "return_state", "stateful") if not hasattr(each, a)]
            if missing:
                raise ArgumentError(f"Bidirectional: {type(each).__name__} has no attribute {missing[0]}; it works on RNN, LSTM, GRU and layers like them")
        super().__init__(**kwargs)
        self.forward_layer = _remade(layer, f"forward_{layer.name.removeprefix('forward_')}")
        self.backward_layer = backward_layer if backward_layer is not None else _remade(
            layer, f"backward_{layer.name.removeprefix('backward_')}", go_backwards=True)
        self._check_directions()
        for each in (self.forward_layer, self.backward_layer):
            if getattr(each, "zero_output_for_mask", None) is not None:
                each.zero_output_for_mask = each.return_sequences  # else a masked step would show the other direction's last output
        self.merge_mode = merge_mode
        self._initial_weights = None if weights is None else list(weights)
        forward = self.forward_layer
        self.stateful, self.return_sequences, self.return_state = forward.stateful, forward.return_sequences, forward.return_state
        self.supports_masking = True
        self.input_spec = forward.input_spec

    def _check_directions(self) -> None:
        f, b = self.forward_layer, self.backward_layer
        if f.go_backwards == b.go_backwards:
            raise ArgumentError(f"Bidirectional: both layers have go_backwards={f.go_backwards}; one must go forwards and the other backwards")
        for name in ("stateful", "return_sequences", "return_state"):
            if getattr(f, name) != getattr(b, name):
                raise ArgumentError(f"Bidirectional: both layers need the same {name}; the forward layer has {getattr(f, name)}, the backward layer "
                                    f"{getattr(b, name)}")

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)
        if self._initial_weights:
            half = len(self._initial_weights) // 2
            self.forward_layer.set_weights(self._initial_weights[:half])
            self.backward_layer.set_weights(self._initial_weights[half:])
            self._initial_weights = None

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None) -> Any:
        states: list[Any] = [None, None]
        if initial_state is not None:
            given = list(initial_state) if is_nested(initial_state) else [initial_state]
            if len(given) % 2:
                raise ArgumentError(f"Bidirectional '{self.name}': initial_state has {len(given)} tensors; it needs the forward states, then as many "
                                    "backward ones")
            states = [given[:len(given) // 2], given[len(given) // 2:]]
        outputs = []
        last: list[Any] = []
        for layer, state in zip((self.forward_layer, self.backward_layer), states):
            kwargs = {k: v for k, v in (("training", training), ("mask", mask)) if k in layer._signature.parameters}
            y = layer(sequences, initial_state=state, **kwargs)
            if self.return_state:
                y, *rest = y
                last += rest
            y = ops.cast(y, self.compute_dtype)
            outputs.append(ops.flip(y, axis=1) if self.return_sequences and layer is self.backward_layer else y)
        merged = self._merge(*outputs)
        if not self.return_state:
            return merged
        return (*merged, *last) if self.merge_mode is None else (merged, *last)

    def _merge(self, forward: Any, backward: Any) -> Any:
        if self.merge_mode == "concat":
            return ops.concatenate([forward, backward], axis=-1)
        if self.merge_mode == "sum":
            return forward + backward
        if self.merge_mode == "ave":
            return (forward + backward) / 2
        if self.merge_mode == "mul":
            return forward * backward
        return forward, backward

    @property
    def states(self) -> Any:
        """The variables of both stateful layers; None where there are none."""
        if not (self.forward_layer.states and self.backward_layer.states):
            return None
        return (*self.forward_layer.states, *self.backward_layer.states)

    def reset_state(self) -> None:
        """Sets the states of both stateful layers to 0."""
        if not self.stateful:
            raise StateError(f"Bidirectional '{self.name}' isn't stateful, so it has no state to reset")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    def _eager_specs(self, arrays: list) -> list:
        return self.forward_layer._eager_specs(arrays)

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        shape = self.forward_layer.compute_output_shape(sequences_shape)
        states: tuple = ()
        if self.return_state:
            shape, states = shape[0], tuple(shape[1:])
        shape = tuple(shape)
        if self.merge_mode == "concat":
            shape = (*shape[:-1], 2 * shape[-1])
        if self.merge_mode is None:
            return [shape, shape] if not self.return_state else (shape, shape, *states, *states)
        return (shape, *states, *states) if self.return_state else shape

    def compute_mask(self, inputs: Any, mask: Any) -> Any:
        mask = flatten(mask)[0] if self.return_sequences else None
        return [mask, mask] if self.merge_mode is None else mask  # states, behind them, have none

    def get_config(self) -> dict:
        from ..serialization import serialize_keras_object

        return {**super().get_config(), "merge_mode": self.merge_mode, "layer": serialize_keras_object(self.forward_layer),
                "backward_layer": serialize_keras_object(self.backward_layer)}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> Bidirectional:
        from ..serialization import deserialize_keras_object

        config = {k: deserialize_keras_object(v, custom_objects=custom_objects) if k in ("layer", "backward_layer") and isinstance(v, dict) else v
                  for k, v in config.items()}
        return cls(**config)


def _remade(layer: Layer, name: str, **changed: Any) -> Any:
    """A layer of the same configuration under another name, with variables of its own (where the layer is built, so is it)."""
    from ..serialization import deserialize_keras_object, serialize_keras_object

    config = serialize_keras_object(layer)
    config["config"] = {**config["config"], "name": name, **changed}
    return deserialize_keras_object(config)
