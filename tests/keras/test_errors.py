"""What a user does wrong, and what is said: the layer, the loss or the file by name, the sizes seen, and what to do."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers, ops
from kerogen.runtime.errors import ArgumentError, KerogenError, ShapeError, UnknownNameError


def ones(*shape):
    return np.ones(shape, np.float32)


CONSTRUCTORS = [
    (lambda: layers.Dense(4, activation="rellu", name="head"), UnknownNameError, r"Dense 'head': unknown activation 'rellu'; did you mean 'relu'"),
    (lambda: layers.Activation("threshold", name="cut"), ArgumentError, r"activation 'threshold' needs threshold and default_value"),
    (lambda: layers.Dense(3, kernel_regularizer="l3", name="zz"), UnknownNameError, "Dense 'zz': unknown regularizer 'l3'"),
    (lambda: layers.Dense("a", name="q"), ArgumentError, "Dense 'q': units must be a positive integer, got 'a'"),
    (lambda: layers.Dense(), ArgumentError, "Dense: missing a required argument: 'units'; its arguments are units"),
    (lambda: layers.Dense(4, unit=3, name="q"), ArgumentError, "Dense 'q' got unknown arguments unit"),
    (lambda: layers.RepeatVector(-1), ArgumentError, "RepeatVector: n must be a positive integer, got -1"),
    (lambda: layers.ZeroPadding2D(-1, name="z"), ArgumentError, "ZeroPadding2D 'z': padding must be widths of at least 0, got -1"),
    (lambda: layers.UpSampling2D(0), ArgumentError, r"UpSampling2D: size \(0, 0\) must be positive"),
    (lambda: layers.UpSampling2D(interpolation="area"), ArgumentError, "UpSampling2D: interpolation is one of nearest, bilinear"),
    (lambda: layers.MaxPooling2D(-1), ArgumentError, "MaxPooling2D: pool_size"),
    (lambda: layers.MultiHeadAttention(2, 0, name="m"), ArgumentError, "MultiHeadAttention 'm': key_dim must be a positive integer, got 0"),
    (lambda: layers.GroupQueryAttention(2, 3, 2), ArgumentError, "num_query_heads=3 is no multiple of num_key_value_heads=2"),
    (lambda: layers.Conv2DTranspose(2, 3, strides=2, output_padding=2), ArgumentError, r"Conv2DTranspose: output_padding \(2, 2\).*less than strides \(2, 2\)"),
    (lambda: layers.EinsumDense("ab,bc", 3), ArgumentError, "EinsumDense: equation='ab,bc' is none of the forms"),
    (lambda: layers.Conv2D(4, 3, data_format="channels", name="c"), ArgumentError, "Conv2D 'c': data_format"),
    (lambda: layers.GroupNormalization(groups=0), ArgumentError, "GroupNormalization: groups must be a positive integer, got 0"),
    (lambda: layers.AdaptiveMaxPooling1D(0), ArgumentError, "AdaptiveMaxPooling1D: output_size must be positive integers, got 0"),
    (lambda: kg.optimizers.Adam(0.1, clipnorm=-1), ArgumentError, "Adam: clipnorm must be a positive number, got -1"),
]


@pytest.mark.parametrize("number", range(len(CONSTRUCTORS)))
def test_constructors(number):
    call, error, text = CONSTRUCTORS[number]
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, KerogenError)


CALLS = [
    (lambda: layers.Dot(axes=5, name="d")([ones(2, 3), ones(2, 3)]), ArgumentError, r"Dot 'd': axes=5 can't be summed over.*\(None, 3\).*\[1, 1\]"),
    (lambda: layers.Dot(axes=0)([ones(2, 3), ones(2, 3)]), ArgumentError, "axes=0 can't be summed over"),
    (lambda: layers.LayerNormalization(axis=[5], name="n")(ones(2, 3)), ArgumentError, r"LayerNormalization 'n': axis=\[5\] doesn't fit.*\(None, 3\)"),
    (lambda: layers.LayerNormalization(axis=[1, -1])(ones(2, 3)), ArgumentError, "each named once"),
    (lambda: layers.BatchNormalization(axis=9, name="b")(ones(2, 3)), ArgumentError, r"BatchNormalization 'b': axis 9 is out of range.*\(None, 3\)"),
    (lambda: layers.GroupNormalization(4, name="g")(ones(2, 3)), ArgumentError, "GroupNormalization 'g': the input's 3 channels are no multiple of groups=4"),
    (lambda: layers.PReLU(shared_axes=[5], name="p")(ones(2, 3)), ArgumentError, r"PReLU 'p': shared_axes=\[5\]"),
    (lambda: layers.Attention(name="a")(ones(2, 3, 4)), ArgumentError, r"Attention 'a' is called on a list \[query, value\]"),
    (lambda: layers.Attention(name="a")([ones(2, 3, 4), ones(2, 3, 5)]), ShapeError, "Attention 'a': query and key must have as many features"),
    (lambda: layers.MultiHeadAttention(2, 3, name="m")(ones(2, 3, 4), ones(2, 3)), ShapeError, r"MultiHeadAttention 'm': query and value need.*\(None, 3\)"),
    (lambda: layers.EinsumDense("ab,bc->ac", (3, 4), name="e")(ones(2, 3)), ShapeError, r"EinsumDense 'e'.*output_shape needs 1 sizes.*\(3, 4\)"),
    (lambda: layers.SpectralNormalization(layers.ReLU(name="r"), name="s")(ones(2, 3)), ArgumentError, "SpectralNormalization 's'.*ReLU 'r' has no kernel"),
    (lambda: layers.Conv2DTranspose(4, 3, name="t")(ones(2, 5, 3)), ShapeError, "Conv2DTranspose 't'"),
    (lambda: layers.Softmax(axis=4, name="x")(ones(2, 3)), ShapeError, r"Softmax 'x'.*\(None, 3\).*axes \(4,\) are out of range"),
    (lambda: ops.pad(ones(3, 3), ((-1, 0), (0, 0))), ArgumentError, "pad_width.*negative width"),
    (lambda: ops.conv_transpose(ones(1, 5, 3), ones(2, 4, 5)), ShapeError, r"ops.conv_transpose: the input has 3 channels.*is for 5"),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_calls(number):
    call, error, text = CALLS[number]
    with pytest.raises(error, match=text):
        call()


def test_a_layer_that_is_missing():
    with pytest.raises(UnknownNameError, match="kerogen has no layer 'MultiHeadAttenton'; did you mean MultiHeadAttention"):
        layers.MultiHeadAttenton  # noqa: B018
    with pytest.raises(AttributeError, match="kerogen has no layer 'RandomFlip'; write it as a Layer subclass"):
        layers.RandomFlip  # noqa: B018
    assert not hasattr(layers, "RandomFlip")


@pytest.mark.parametrize("loss", ["mse", "mae", "binary_crossentropy", "huber", "kl_divergence", kg.losses.MeanSquaredError(name="mine")])
def test_labels_of_another_width_name_the_loss(loss):
    model = kg.Sequential([layers.Input((5,)), layers.Dense(4, activation="softmax", name="tag")])
    model.compile("sgd", loss)
    name = loss if isinstance(loss, str) else loss.name
    with pytest.raises(ShapeError, match=rf"output 'tag': loss '{name}': labels of shape \(None, 3\) don't fit predictions of shape \(None, 4\)"):
        model.fit(ones(6, 5), ones(6, 3), verbose=0)


def test_names_are_checked_by_compile():
    model = kg.Sequential([layers.Input((5,)), layers.Dense(4)])
    with pytest.raises(UnknownNameError, match="unknown loss 'msee'; did you mean 'mse'"):
        model.compile("sgd", "msee")
    with pytest.raises(UnknownNameError, match="unknown metric 'acuracy'"):
        model.compile("sgd", "mse", metrics=["acuracy"])


def test_a_killed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "m.bin"
    program = textwrap.dedent("""
        import os, signal, sys
        from kerogen.frontends.keras import atomic_file
        os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing is named yet
        atomic_file.write(sys.argv[1], b"new" * 1000)
    """)
    target.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", program, str(target)], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.bin"]
