"""Random configurations of dense, embedding, activation, noise and other small layers."""

from __future__ import annotations

from tests.keras.parity import Case, chance, layer, pick, size, some

ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "softmax", "elu", "sigmoid", "softplus", "mish", "hard_silu", "leaky_relu", "log_softmax")


def shape(rng, rank=None, batch=None):
    """A shape of odd and unequal sizes."""
    rank = rank if rank is not None else size(rng, 2, 4)
    return (batch or size(rng, 2, 5), *[size(rng, 2, 7) for _ in range(rank - 1)])


@layer("Dense")
def dense(rng):
    return Case({"units": size(rng, 1, 9), "use_bias": chance(rng, 0.7), **some(rng, activation=ACTIVATIONS, kernel_regularizer=("l2",))}, [shape(rng)])


@layer("EinsumDense")
def einsum_dense(rng):
    b, t, d, h, e = size(rng, 2, 4), size(rng, 2, 5), size(rng, 2, 6), size(rng, 1, 3), size(rng, 1, 4)
    arguments, given = pick(
        rng,
        ({"equation": "ab,bc->ac", "output_shape": h, "bias_axes": "c"}, (b, d)),
        ({"equation": "abc,cd->abd", "output_shape": (None, e), "bias_axes": "d"}, (b, t, d)),
        ({"equation": "abc,cde->abde", "output_shape": (None, h, e), "bias_axes": "de"}, (b, t, d)),
        ({"equation": "abcd,cde->abe", "output_shape": (None, e), "bias_axes": "e"}, (b, t, h, d)),
        ({"equation": "...x,xy->...y", "output_shape": e, "bias_axes": "y"}, (b, t, d)),
        ({"equation": "abc,bcd->ad", "output_shape": e}, (b, t, d)),
    )
    return Case({**arguments, **some(rng, activation=("relu", "tanh"))}, [given])


@layer("Embedding")
def embedding(rng):
    high = size(rng, 3, 11)
    return Case({"input_dim": high, "output_dim": size(rng, 1, 6), "mask_zero": chance(rng)}, [shape(rng, size(rng, 1, 3))],
                dtypes=[pick(rng, "int32", "int64")], high=high)


@layer("Activation")
def activation(rng):
    return Case({"activation": pick(rng, *ACTIVATIONS, "selu", "exponential", "softsign", "hard_tanh", "tanh_shrink", "celu", "log_sigmoid")}, [shape(rng)])


@layer("ReLU")
def relu(rng):
    return Case(some(rng, max_value=(0.8, 6.0), negative_slope=(0.1, 0.4), threshold=(0.2,)), [shape(rng)])


@layer("LeakyReLU")
def leaky_relu(rng):
    return Case(some(rng, negative_slope=(0.1, 0.6)), [shape(rng)])


@layer("ELU")
def elu(rng):
    return Case(some(rng, alpha=(0.3, 1.7)), [shape(rng)])


@layer("PReLU")
def prelu(rng):
    given = shape(rng, 4)
    return Case(some(rng, shared_axes=([1], [1, 2], [2, 3])), [given])


@layer("Softmax")
def softmax(rng):
    if chance(rng):
        given = shape(rng, 3)
        return Case({"axis": pick(rng, -1, 1)}, [given, given], dtypes=["float32", "bool"], call=lambda made, x: made(x[0], mask=x[1]))
    return Case({"axis": pick(rng, -1, 1, (1, 2))}, [shape(rng, 3)])


@layer("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise", "GaussianDropout", "AlphaDropout")
def noise(rng, name):
    rank = {"SpatialDropout1D": 3, "SpatialDropout2D": 4, "SpatialDropout3D": 5}.get(name, size(rng, 2, 4))
    rate = pick(rng, 0.1, 0.37, 0.8)
    return Case({"stddev" if name == "GaussianNoise" else "rate": rate, "seed": 5}, [shape(rng, rank)], random=True, masked=rank == 3)


@layer("ActivityRegularization")
def activity_regularization(rng):
    return Case(some(rng, l1=(0.01, 0.3), l2=(0.02, 0.1)), [shape(rng)])


@layer("Rescaling")
def rescaling(rng):
    return Case({"scale": pick(rng, 1 / 255, 2.5), "offset": pick(rng, 0.0, -0.7)}, [shape(rng)])


@layer("Resizing")
def resizing(rng):
    options = {"interpolation": pick(rng, "nearest", "bilinear", "bicubic", "lanczos3"), "antialias": chance(rng)}
    options |= pick(rng, {}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True, "fill_value": 0.3})
    return Case({"height": size(rng, 2, 9), "width": size(rng, 2, 9), **options}, [shape(rng, 4)])


@layer("CenterCrop")
def center_crop(rng):
    given = shape(rng, 4)
    first = chance(rng)
    h, w = given[2:] if first else given[1:3]
    height, width = (h + 2, w + 1) if chance(rng) else (max(h - 1, 1), max(w - 2, 1))
    return Case({"height": height, "width": width, "data_format": "channels_first" if first else "channels_last"}, [given])


@layer("Identity")
def identity(rng):
    return Case({}, [shape(rng, 3)], masked=True)


@layer("Masking")
def masking(rng):
    return Case({"mask_value": 0.0}, [shape(rng, 3)], masked=True)
