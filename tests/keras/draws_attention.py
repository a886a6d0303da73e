"""Random configurations of attention layers."""

from __future__ import annotations

from tests.keras.parity import Case, chance, layer, pick, size, some


@layer("MultiHeadAttention")
def multi_head_attention(rng):
    b, t, s, d = size(rng, 1, 3), size(rng, 2, 6), size(rng, 2, 7), size(rng, 2, 7)
    arguments = {"num_heads": size(rng, 1, 3), "key_dim": size(rng, 1, 5), **some(rng, use_bias=(False,), output_shape=(5,), use_gate=(True,), sliding_window=(2,))}
    kind = pick(rng, "self", "cross", "key", "mask", "causal", "masked", "scores")
    if kind == "self":
        return Case(arguments, [(b, t, d)], call=lambda made, x: made(x[0], x[0]))
    if kind == "causal":
        return Case(arguments, [(b, t, d)], call=lambda made, x: made(x[0], x[0], use_causal_mask=True))
    if kind == "cross":
        return Case(arguments, [(b, t, d), (b, s, d + 1)], call=lambda made, x: made(x[0], x[1]))
    if kind == "key":
        return Case(arguments, [(b, t, d), (b, s, d + 1), (b, s, d + 2)], call=lambda made, x: made(x[0], x[1], key=x[2]))
    if kind == "mask":
        return Case(arguments, [(b, t, d), (b, s, d), (b, t, s)], dtypes=["float32", "float32", "bool"],
                    call=lambda made, x: made(x[0], x[1], attention_mask=x[2]))
    if kind == "scores":  # Keras has no CPU kernel for values of another width than keys, but for those that it computes step by step
        arguments["value_dim"] = size(rng, 1, 4)
        arguments.pop("sliding_window", None)  # its mask sticks to Keras' scores, and doesn't fit a loss of them
        return Case(arguments, [(b, t, d), (b, t, d)], call=lambda made, x: made(x[0], x[1], return_attention_scores=True))
    return Case(arguments, [(b, t, d), (b, s, d)], masked=True, call=lambda made, x: made(x[0], x[1], use_causal_mask=chance(rng)))


@layer("GroupQueryAttention")
def group_query_attention(rng):
    b, t, s, d = size(rng, 1, 3), size(rng, 2, 6), size(rng, 2, 7), size(rng, 2, 7)
    groups = size(rng, 1, 3)
    arguments = {"head_dim": size(rng, 1, 5), "num_query_heads": groups * size(rng, 1, 3), "num_key_value_heads": groups, **some(rng, use_bias=(False,))}
    kind = pick(rng, "self", "cross", "mask", "causal", "masked")
    if kind == "self":
        return Case(arguments, [(b, t, d)], call=lambda made, x: made(x[0], x[0]))
    if kind == "causal":
        return Case(arguments, [(b, t, d)], call=lambda made, x: made(x[0], x[0], use_causal_mask=True))
    if kind == "mask":
        return Case(arguments, [(b, t, d), (b, s, d), (b, t, s)], dtypes=["float32", "float32", "bool"],
                    call=lambda made, x: made(x[0], x[1], attention_mask=x[2]))
    return Case(arguments, [(b, t, d), (b, s, d)], masked=kind == "masked", call=lambda made, x: made(x[0], x[1]))


@layer("Attention", "AdditiveAttention")
def attention(rng, name):
    b, t, s, d, e = size(rng, 1, 3), size(rng, 2, 6), size(rng, 2, 7), size(rng, 2, 6), size(rng, 1, 5)
    if name == "Attention":
        arguments = some(rng, use_scale=(True,), score_mode=("concat",))
    else:
        arguments = some(rng, use_scale=(False,))
    kind = pick(rng, "two", "three", "masks", "causal", "masked", "scores")
    shapes = [(b, t, d), (b, s, d)]
    if kind == "three":
        return Case(arguments, [(b, t, d), (b, s, e), (b, s, d)])
    if kind == "masks":
        return Case(arguments, [*shapes, (b, t), (b, s)], dtypes=["float32", "float32", "bool", "bool"],
                    call=lambda made, x: made([x[0], x[1]], mask=[x[2], x[3]]))
    if kind == "causal":
        return Case(arguments, shapes, call=lambda made, x: made(list(x), use_causal_mask=True))
    if kind == "scores":
        return Case(arguments, shapes, call=lambda made, x: made(list(x), return_attention_scores=True))
    return Case(arguments, shapes, masked=kind == "masked")
