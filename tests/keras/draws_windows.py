"""Random configurations of poolings and of layers that move elements."""

from __future__ import annotations

from tests.keras.draws_convolution import image
from tests.keras.draws_core import shape
from tests.keras.parity import Case, chance, layer, pick, size, some


@layer("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D")
def pooling(rng, name):
    n = int(name[-2])
    arguments = {"pool_size": pick(rng, size(rng, 1, 3), tuple(size(rng, 1, 3) for _ in range(n)))}
    if chance(rng):
        arguments["strides"] = pick(rng, size(rng, 1, 3), tuple(size(rng, 1, 3) for _ in range(n)))
    return Case({**arguments, **some(rng, padding=("same",))}, [image(rng, n, size(rng, 1, 4))])


@layer("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
       "GlobalAveragePooling3D")
def global_pooling(rng, name):
    n = int(name[-2])
    arguments = some(rng, keepdims=(True,), data_format=("channels_first",))
    masked = name == "GlobalAveragePooling1D" and "data_format" not in arguments and chance(rng)  # a mask is one of the axis 1
    return Case(arguments, [shape(rng, n + 2)], masked=masked)


@layer("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D", "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D",
       "AdaptiveAveragePooling3D")
def adaptive_pooling(rng, name):
    n = int(name[-2])
    return Case({"output_size": pick(rng, size(rng, 1, 4), tuple(size(rng, 1, 4) for _ in range(n))),
                 **some(rng, data_format=("channels_first",))}, [image(rng, n, 5)])


@layer("Flatten")
def flatten(rng):
    return Case(some(rng, data_format=("channels_first",)), [shape(rng)])


@layer("Reshape")
def reshape(rng):
    b, a, c = size(rng, 2, 4), size(rng, 2, 5), size(rng, 2, 5)
    return Case({"target_shape": pick(rng, (c, a), (-1, a), (a * c,), (a, -1, 1))}, [(b, a, c)])


@layer("Permute")
def permute(rng):
    rank = size(rng, 2, 4)
    return Case({"dims": tuple(int(i) + 1 for i in rng.permutation(rank))}, [shape(rng, rank + 1)])


@layer("RepeatVector")
def repeat_vector(rng):
    return Case({"n": size(rng, 1, 5)}, [shape(rng, 2)])


def border(rng, n, high):
    each = tuple((size(rng, 0, high), size(rng, 0, high)) for _ in range(n))
    if n == 1:
        return pick(rng, size(rng, 0, high), each[0])
    return pick(rng, size(rng, 0, high), tuple(a for a, _ in each), each)


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(rng, name):
    n = int(name[-2])
    return Case({"padding": border(rng, n, 3), **some(rng, data_format=("channels_first",))}, [shape(rng, n + 2)])


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(rng, name):
    n = int(name[-2])
    formats = {} if n == 1 else some(rng, data_format=("channels_first",))
    channels_first = bool(formats)
    spatial = [size(rng, 5, 8) for _ in range(n)]
    return Case({"cropping": border(rng, n, 2), **formats}, [(2, 3, *spatial) if channels_first else (2, *spatial, 3)])


@layer("UpSampling1D", "UpSampling3D")
def up_sampling(rng, name):
    n = int(name[-2])
    return Case({"size": size(rng, 1, 3)} if n == 1 else {"size": tuple(size(rng, 1, 3) for _ in range(n))}, [shape(rng, n + 2)])


@layer("UpSampling2D")
def up_sampling_2d(rng):
    arguments = {"size": pick(rng, size(rng, 1, 3), (size(rng, 1, 3), size(rng, 1, 3))),
                 **some(rng, interpolation=("bilinear", "bicubic", "lanczos3", "lanczos5"), data_format=("channels_first",))}
    return Case(arguments, [shape(rng, 4)])
