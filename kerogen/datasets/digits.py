"""1797 scans of handwritten digits, 8x8 pixels each (source and licence: NOTICE.txt beside this file)."""

from __future__ import annotations

from importlib.resources import files
from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = tuple[np.ndarray, np.ndarray]

__all__ = ["load_data"]


def load_data(test_split: float = 0.2, seed: int = 0) -> tuple[Arrays, Arrays]:
    """``(x_train, y_train), (x_test, y_test)``, the return value of ``keras.datasets.mnist.load_data``.

    Images are uint8 of 0..16 (not 255), shape (n, 8, 8); labels are uint8 of 0..9, shape (n,). The split is stratified:
    ``test_split`` (0 <= test_split < 1) of each class, rounded, goes to the test set, drawn with ``seed``; both parts are shuffled.
    """
    if not 0 <= test_split < 1:
        raise ValueError(f"test_split is the share of the scans to hold out, 0 <= test_split < 1, but is {test_split}")
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    held_out = np.zeros(len(labels), bool)
    for digit in range(10):
        scans = order[labels[order] == digit]
        held_out[scans[: round(len(scans) * test_split)]] = True
    train, test = order[~held_out[order]], order[held_out[order]]
    return (images[train], labels[train]), (images[test], labels[test])
