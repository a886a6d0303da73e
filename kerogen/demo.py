"""``kerogen demo``: trains a CNN on real scans of handwritten digits, saves it, compiles it, and classifies one scan."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from . import Input, Sequential, layers
from . import compile as compile_model
from .datasets import digits
from .utils import set_random_seed

EPOCHS = 8
BATCH = 32
SHADES = " ░▒▓█"
ASCII_SHADES = " .:*#"


def images(scans: np.ndarray) -> np.ndarray:
    """Scans (n, 8, 8) of 0..16 as the model's input: float32 (n, 8, 8, 1) of 0..1."""
    return (scans.astype(np.float32) / 16)[..., np.newaxis]


def with_shifts(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images (n, 8, 8, 1) and, after them, each moved by one pixel up, down, left and right: five times the data."""
    room = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moved = [room[:, 1 + down : 9 + down, 1 + right : 9 + right] for down, right in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
    return np.concatenate(moved), np.tile(y, len(moved))


def digits_cnn() -> Any:
    """The model: 38 282 parameters, probabilities of the ten digits out."""
    model = Sequential([
        Input((8, 8, 1)),
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Dropout(0.25),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(seed: int = 0, epochs: int = EPOCHS, verbose: int | str = "auto") -> tuple[Any, float]:
    """A model trained on four fifths of the scans, and its accuracy on the fifth that it never saw. ``seed`` is that of the
    training (first weights, order, dropout); the split is always the same."""
    (scans, labels), (test_scans, test_labels) = digits.load_data()
    test = images(test_scans), test_labels
    set_random_seed(seed)
    model = digits_cnn()
    x, y = with_shifts(images(scans), labels)
    model.fit(x, y, batch_size=BATCH, epochs=epochs, validation_data=test, verbose=verbose)
    accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
    return model, float(accuracy)


def drawing(scan: np.ndarray, shades: str = SHADES) -> str:
    """A scan (8, 8) of 0..16 as eight lines of text, two characters a pixel (which makes it about square)."""
    steps = np.rint(np.clip(scan, 0, 16) / 16 * (len(shades) - 1)).astype(int)
    return "\n".join("".join(shades[step] * 2 for step in row) for row in steps)


def _shades() -> str:
    """Block characters, where the terminal's encoding has them."""
    try:
        SHADES.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII_SHADES
    return SHADES


def seconds_per_call(function: Any, argument: np.ndarray, calls: int = 200) -> float:
    """The median over ``calls`` calls, after a few that aren't counted."""
    times = []
    for i in range(calls + 10):
        start = perf_counter()
        function(argument)
        if i >= 10:
            times.append(perf_counter() - start)
    return median(times)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of first weights, order and dropout (default 0)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"rounds over the training set (default {EPOCHS})")
    parser.add_argument("--save", type=Path, default=Path("digits.keras"), help="where the model goes (default digits.keras)")


def run(arguments: argparse.Namespace) -> int:
    (scans, _), (test_scans, test_labels) = digits.load_data()
    print(f"Training a CNN on {len(scans)} scans of handwritten digits, each also shifted by a pixel in four directions.")
    start = perf_counter()
    model, accuracy = train(arguments.seed, arguments.epochs)
    print(f"Trained in {perf_counter() - start:.1f} s. Accuracy on the {len(test_scans)} scans it never saw: {accuracy:.1%}")

    model.save(arguments.save)
    print(f"Saved {arguments.save}, which Keras loads too.")

    start = perf_counter()
    classify = compile_model(model)
    scan = images(test_scans[:1])
    probabilities = np.asarray(classify(scan))[0]
    first = perf_counter() - start
    guess = int(np.argmax(probabilities))
    print(f"\nOne scan of a {test_labels[0]}:\n")
    shades = _shades()
    print(drawing(test_scans[0], shades))
    print(f"\nThe compiled model says {guess}, with probability {probabilities[guess]:.3f}.")
    unit = "µs" if shades is SHADES else "us"
    print(f"{seconds_per_call(classify, scan) * 1e6:.0f} {unit} per inference. Compiling took {first:.2f} s, the first call included.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="kerogen demo", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
