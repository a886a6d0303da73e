"""Random configurations of recurrent layers, and of wrappers around layers."""

from __future__ import annotations

from typing import Any

from tests.keras.parity import Case, chance, layer, pick, size, some

GATES = ("hard_sigmoid",)  # gates outside [0, 1] make training chaotic: Keras' own losses then differ after a change of 1e-7
STEP = ("tanh", "relu", "softsign", "hard_sigmoid", "elu")


def sequence(rng, steps: int | None = None):
    """(batch, time, features), odd and unequal."""
    return (size(rng, 1, 5), steps or size(rng, 1, 9), size(rng, 1, 7))


def options(rng) -> dict:
    """What every recurrent layer takes beside its cell's arguments."""
    return {
        **some(rng, return_sequences=(True,), return_state=(True,), go_backwards=(True,), use_bias=(False,), activation=STEP),
        **({"unroll": True} if chance(rng, 0.15) else {}),
        **({"zero_output_for_mask": True} if chance(rng, 0.2) else {}),
        **({"kernel_regularizer": "l2", "recurrent_regularizer": "l2"} if chance(rng, 0.2) else {}),
    }


def case(rng, arguments: dict, **more: Any) -> Case:
    masked = chance(rng, 0.4)
    if masked:  # where it writes the steps out, Keras gives masked steps the output before and never 0
        arguments.pop("unroll", None)
    return Case(arguments, [sequence(rng)], masked=masked, **more)


@layer("SimpleRNN")
def simple_rnn(rng):
    return case(rng, {"units": size(rng, 1, 9), **options(rng)})


@layer("LSTM")
def lstm(rng):
    return case(rng, {"units": size(rng, 1, 9), **options(rng), **some(rng, recurrent_activation=GATES, unit_forget_bias=(False,))})


@layer("GRU")
def gru(rng):
    return case(rng, {"units": size(rng, 1, 9), **options(rng), **some(rng, recurrent_activation=GATES, reset_after=(False,))})



@layer("RNN")
def rnn(rng):
    """One cell, or a stack of up to three kinds."""
    kinds = [pick(rng, "SimpleRNNCell", "LSTMCell", "GRUCell") for _ in range(size(rng, 1, 3))]
    units = [size(rng, 1, 6) for _ in kinds]
    arguments = some(rng, return_sequences=(True,), return_state=(True,), go_backwards=(True,), zero_output_for_mask=(True,))

    def make(k):
        cells = [getattr(k.layers, kind)(n) for kind, n in zip(kinds, units)]
        return k.layers.RNN(cells if len(cells) > 1 else cells[0], **arguments)

    return case(rng, arguments, make=make, config=False)


@layer("Bidirectional")
def bidirectional(rng):
    kind, units = pick(rng, "SimpleRNN", "LSTM", "GRU"), size(rng, 1, 5)
    inner = some(rng, return_sequences=(True,), return_state=(True,), use_bias=(False,))
    mode = pick(rng, "concat", "sum", "mul", "ave", None)
    given = chance(rng, 0.3)

    def make(k):
        cls = getattr(k.layers, kind)
        backward = cls(units, go_backwards=True, activation="relu", name="back", **inner) if given else None
        return k.layers.Bidirectional(cls(units, name="inner", **inner), merge_mode=mode, backward_layer=backward)

    return case(rng, {**inner, "merge_mode": mode, "kind": kind, "units": units, "backward": given}, make=make, config=False)


@layer("TimeDistributed")
def time_distributed(rng):
    kind = pick(rng, "Dense", "LayerNormalization", "BatchNormalization", "Conv2D", "LSTM", "Activation")
    arguments = {"Dense": {"units": 5, "activation": "relu"}, "LayerNormalization": {}, "BatchNormalization": {"momentum": 0.7}, "Conv2D": {
        "filters": 3, "kernel_size": 2, "padding": "same"}, "LSTM": {"units": 4}, "Activation": {"activation": "gelu"}}[kind]
    rank = {"Conv2D": 5, "LSTM": 4}.get(kind, size(rng, 3, 4))
    shape = (size(rng, 2, 4), *[size(rng, 2, 5) for _ in range(rank - 1)])
    return Case({"kind": kind}, [shape], make=lambda k: k.layers.TimeDistributed(getattr(k.layers, kind)(name="inner", **arguments)), config=False)


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def conv_lstm(rng, name):
    rank = int(name[8])
    arguments = {"filters": size(rng, 1, 4), "kernel_size": pick(rng, 1, 2, 3), "padding": pick(rng, "same", "valid"),
                 **some(rng, return_sequences=(True,), return_state=(True,), go_backwards=(True,), use_bias=(False,), recurrent_activation=("hard_sigmoid",))}
    arguments.update(pick(rng, {}, {"strides": 2}, {"dilation_rate": 2}))
    low = 5 if arguments.get("dilation_rate") else 3
    return Case(arguments, [(size(rng, 1, 3), size(rng, 1, 4), *[size(rng, low, 6) for _ in range(rank)], size(rng, 1, 3))])
