"""The demonstration: the data it prepares, what it draws, what it reaches, and the command that newcomers type first."""

from __future__ import annotations

import re
import subprocess
import sys
from time import perf_counter

import numpy as np

from kerogen import demo
from kerogen.datasets import digits
from tests.oracle import oracle


def test_shifts_move_each_image_by_one_pixel(rng):
    x, y = rng.random((6, 8, 8, 1), np.float32), rng.integers(0, 10, 6)
    moved, labels = demo.with_shifts(x, y)
    assert moved.shape == (30, 8, 8, 1)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(labels, list(y) * 5)
    np.testing.assert_array_equal(moved[:6], x)
    inside = slice(1, -1)
    found = set()
    for k in range(1, 5):
        part = moved[6 * k : 6 * (k + 1)]
        for axis in (1, 2):
            for step in (1, -1):
                if np.array_equal(part[:, inside, inside], np.roll(x, step, axis)[:, inside, inside]):
                    found.add((axis, step))
        # What comes in at the edge is empty, what leaves is gone.
        assert [not part[:, 0].any(), not part[:, -1].any(), not part[:, :, 0].any(), not part[:, :, -1].any()].count(True) == 1
    assert found == {(1, 1), (1, -1), (2, 1), (2, -1)}


def test_drawing():
    scan = np.zeros((8, 8), np.uint8)
    scan[0], scan[7, 7] = [0, 1, 4, 6, 8, 12, 15, 16], 16
    lines = demo.drawing(scan).split("\n")
    assert len(lines) == 8
    assert lines[0] == "    ░░▒▒▒▒▓▓████"
    assert lines[7] == " " * 14 + "██"
    assert demo.drawing(scan, demo.ASCII_SHADES).split("\n")[0] == "    ..::::**####"


def test_five_trainings_reach_the_accuracy():
    """The mean over five seeds, each in less than 30 s."""
    accuracies = []
    for seed in range(5):
        start = perf_counter()
        _, accuracy = demo.train(seed, verbose=0)
        assert perf_counter() - start < 30
        accuracies.append(accuracy)
    assert len(set(accuracies)) > 1  # the seed matters
    assert np.mean(accuracies) >= 0.985, accuracies


def test_the_command(tmp_path):
    """Prints progress and the accuracy, saves a file that real Keras loads and agrees with, and draws what it classified."""
    done = subprocess.run(
        [sys.executable, "-m", "kerogen", "demo", "--save", str(tmp_path / "m.keras")],
        capture_output=True, text=True, encoding="utf-8", env=_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert "Epoch 8/8" in out
    accuracy = float(re.search(r"never saw: ([\d.]+)%", out)[1]) / 100
    assert accuracy >= 0.98
    (_, _), (scans, labels) = digits.load_data()
    assert f"One scan of a {labels[0]}:\n\n{demo.drawing(scans[0])}\n" in out
    assert re.search(r"\d µs per inference", out)
    guess, probability = re.search(r"says (\d), with probability (\d\.\d+)", out).groups()

    keras = oracle("keras")
    expected = np.asarray(keras.models.load_model(tmp_path / "m.keras").predict(demo.images(scans), verbose=0))
    assert abs(np.mean(expected.argmax(1) == labels) - accuracy) < 1e-3
    assert int(guess) == expected[0].argmax()
    assert abs(float(probability) - expected[0].max()) < 1e-3


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONIOENCODING": "utf-8"}
