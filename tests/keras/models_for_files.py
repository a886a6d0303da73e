"""Writes .keras files with real Keras, in a process of its own: ``python models_for_files.py FOLDER``. Weights and statistics are random.

Beside each file lie the inputs (batch 7) and Keras' predictions for batch 7 and batch 1, as .npz.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"

import keras
import numpy as np
from keras import layers


def mlp():
    model = keras.Sequential(
        [
            keras.Input((13,)),
            layers.Dense(17, activation="relu", kernel_regularizer="l2"),
            layers.Dense(11, activation="tanh"),
            layers.Dense(5, activation="softmax", name="classes"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, lambda rng, n: rng.standard_normal((n, 13)), lambda rng, n: rng.integers(0, 5, n)


def cnn():
    model = keras.Sequential(
        [
            keras.Input((9, 11, 3)),
            layers.Conv2D(7, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(5, (2, 3), strides=2),
            layers.BatchNormalization(scale=False),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3),
            layers.Dense(4),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, lambda rng, n: rng.standard_normal((n, 9, 11, 3)), lambda rng, n: rng.integers(0, 4, n)


def functional():
    a, b = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    shared = layers.Dense(8, activation="relu", name="shared")
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(3, name="inside"), layers.LayerNormalization()], name="inner")
    y = layers.Concatenate()([shared(a), shared(b), inner(shared(a)) * 2.0 + 1.0])
    y = layers.Add()([layers.Dense(4)(y), layers.Dense(4)(a)])
    model = keras.Model([a, b], [y, layers.Dense(1, name="score")(y)])
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        ["mse", keras.losses.Huber()],
        loss_weights=[1.0, 0.5],
        metrics=[["mae"], None],
    )
    return (
        model,
        lambda rng, n: [rng.standard_normal((n, 6)), rng.standard_normal((n, 6))],
        lambda rng, n: [rng.standard_normal((n, 4)), rng.standard_normal((n, 1))],
    )


def many():
    """Twelve layers of one class: their variables' indices, and their groups' numbers, have two digits."""
    model = keras.Sequential([keras.Input((5,))] + [layers.Dense(5 + i % 3, activation="elu") for i in range(12)])
    model.compile("adam", "mse")
    return model, lambda rng, n: rng.standard_normal((n, 5)), lambda rng, n: rng.standard_normal((n, 7))


MODELS = {f.__name__: f for f in (mlp, cnn, functional, many)}


def f32(x):
    return [v.astype(np.float32) if v.dtype == np.float64 else v for v in x] if isinstance(x, list) else f32([x])[0]


def randomise(model, rng):
    for v in model.weights:
        a = rng.standard_normal(v.shape) * 0.5
        v.assign(np.abs(a) + 0.3 if "variance" in v.path or "gamma" in v.path else a)


def main(folder):
    for name, make in MODELS.items():
        rng = np.random.default_rng(len(name))
        model, inputs, labels = make()
        randomise(model, rng)
        x, y = f32(inputs(rng, 21)), f32(labels(rng, 21))
        model.fit(x, y, batch_size=7, epochs=1, verbose=0)  # gives the optimizer its state
        x = f32(inputs(rng, 7))
        as_list = x if isinstance(x, list) else [x]
        out7 = model.predict(x, verbose=0)
        out1 = model.predict([v[:1] for v in as_list] if isinstance(x, list) else x[:1], verbose=0)
        arrays = {f"x{i}": v for i, v in enumerate(as_list)}
        for n, out in ((7, out7), (1, out1)):
            arrays |= {f"out{n}_{i}": v for i, v in enumerate(out if isinstance(out, list) else [out])}
        model.save(os.path.join(folder, f"{name}.keras"))
        model.save_weights(os.path.join(folder, f"{name}.weights.h5"))
        np.savez(os.path.join(folder, f"{name}.npz"), **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
