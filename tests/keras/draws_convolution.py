"""Random configurations of convolutions."""

from __future__ import annotations

from tests.keras.parity import Case, chance, layer, pick, size, some


def window(rng, n, reach=3):
    return pick(rng, size(rng, 1, reach), tuple(size(rng, 1, reach) for _ in range(n)))


def strided(rng, n, arguments):
    """Strides or dilation: Keras allows one of both to exceed 1."""
    if chance(rng, 0.6):
        arguments[pick(rng, "strides", "dilation_rate")] = pick(rng, size(rng, 1, 3), tuple(size(rng, 1, 3) for _ in range(n)))
    return arguments


def common(rng):
    return {"use_bias": chance(rng, 0.6), **some(rng, activation=("relu", "tanh", "elu"), padding=("same",), kernel_regularizer=("l2",))}


def image(rng, n, channels, low=7, high=11):
    if n == 3:
        low, high = 5, 7
    return (size(rng, 1, 3), *[size(rng, low, high) for _ in range(n)], channels)


@layer("Conv1D", "Conv2D", "Conv3D")
def convolution(rng, name):
    n = int(name[4])
    groups = pick(rng, 1, 1, 2, 3)
    channels = groups * size(rng, 1, 3)
    arguments = {"filters": groups * size(rng, 1, 3), "kernel_size": window(rng, n), **common(rng)}
    arguments = strided(rng, n, arguments)
    if groups > 1:
        arguments["groups"] = groups
    if n == 1 and chance(rng, 0.3):
        arguments["padding"] = "causal"
    return Case(arguments, [image(rng, n, channels)])


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(rng, name):
    n = int(name[-2])
    arguments = {"kernel_size": window(rng, n), "depth_multiplier": pick(rng, 1, 1, 2, 3), **common(rng)}
    arguments.pop("kernel_regularizer", None)
    if chance(rng, 0.6):
        stride = size(rng, 1, 3)  # Keras' backends take equal strides only
        arguments[pick(rng, "strides", "dilation_rate")] = stride
    return Case(arguments, [image(rng, n, size(rng, 1, 5))])


@layer("SeparableConv1D", "SeparableConv2D")
def separable(rng, name):
    n = int(name[-2])
    arguments = {"filters": size(rng, 1, 5), "kernel_size": window(rng, n), "depth_multiplier": pick(rng, 1, 1, 2), **common(rng)}
    arguments.pop("kernel_regularizer", None)
    if chance(rng, 0.6):
        arguments[pick(rng, "strides", "dilation_rate")] = size(rng, 1, 3)
    return Case(arguments, [image(rng, n, size(rng, 1, 4))])


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(rng, name):
    n = int(name[4])
    arguments = {"filters": size(rng, 1, 4), "kernel_size": pick(rng, size(rng, 1, 4), tuple(size(rng, 1, 4) for _ in range(n))), **common(rng)}
    if chance(rng, 0.7):
        strides = size(rng, 1, 3)
        arguments["strides"] = strides
        if strides > 1 and chance(rng, 0.5):
            arguments["output_padding"] = size(rng, 0, strides - 1)
    elif chance(rng):
        arguments["dilation_rate"] = size(rng, 1, 2)
    return Case(arguments, [image(rng, n, size(rng, 1, 3), 3, 6)])
