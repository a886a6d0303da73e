"""Data for ``fit``, ``evaluate`` and ``predict``: arrays, structures of arrays, generators, and objects with ``__getitem__`` and
``__len__``, as
batches ``(x, y, sample_weight)`` of NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...runtime.errors import ArgumentError, ShapeError
from .structure import flatten, is_nested, map_structure

Batch = tuple[Any, Any, Any]


def as_input_array(a: Any) -> np.ndarray:
    """A contiguous array that models take: float64 becomes float32, int64 int32 (JAX' and Keras' rule), other types stay."""
    if hasattr(a, "detach"):
        a = a.detach().cpu()
    a = a.to_numpy() if hasattr(a, "to_numpy") else np.asarray(a)
    if a.dtype.kind not in "biuf" and a.dtype.name not in ("bfloat16", "float16"):
        raise ArgumentError(
            f"data of dtype {a.dtype} can't be used; give numbers (an array of dtype object often holds rows of unequal lengths)"
        )
    if a.dtype == np.float64:
        a = a.astype(np.float32)
    elif a.dtype == np.int64:
        if a.size and (a.max() > np.iinfo(np.int32).max or a.min() < np.iinfo(np.int32).min):
            raise ArgumentError("int64 data doesn't fit int32, the integer type that models compute in")
        a = a.astype(np.int32)
    return np.ascontiguousarray(a) if a.ndim else a


def _is_array(x: Any) -> bool:
    return hasattr(x, "__array__") or hasattr(x, "to_numpy")


def as_arrays(x: Any) -> Any:
    """A structure of arrays. A list of numbers (or of lists of numbers) is one array, a list of arrays is several."""
    if x is None:
        return None
    if isinstance(x, (list, tuple)) and x and not any(_is_array(v) or isinstance(v, Mapping) for v in flatten_shallow(x)):
        return as_input_array(x)
    if is_nested(x):
        return map_structure(lambda v: None if v is None else as_arrays(v), x)
    return as_input_array(x)


def flatten_shallow(x: Any) -> list:
    return [w for v in x for w in (v if isinstance(v, (list, tuple)) else [v])]


def unpack(batch: Any) -> Batch:
    """``x``, ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)`` as a triple."""
    if isinstance(batch, list):
        batch = tuple(batch) if len(batch) in (2, 3) else (batch,)
    if not isinstance(batch, tuple):
        return batch, None, None
    if not 1 <= len(batch) <= 3:
        raise ArgumentError(f"a batch is x, (x, y) or (x, y, sample_weight); got a tuple of {len(batch)}")
    x, y, w = (*batch, None, None)[:3]
    return x, y, w


def class_weights(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """The weight of each sample by its class (an int, or the largest entry of a one-hot row); classes not named have weight 1."""
    flat = flatten(y)
    if len(flat) != 1:
        raise ArgumentError(f"class_weight works for models with one output; the labels have {len(flat)} arrays")
    labels = np.asarray(flat[0])
    if labels.ndim > 1:
        labels = labels.argmax(-1) if labels.shape[-1] > 1 else labels.reshape(labels.shape[:-1])
    labels = np.rint(labels).astype(np.int64)
    weights = np.ones(labels.shape, np.float32)
    for c, w in class_weight.items():
        weights[labels == c] = w
    return weights


def _samples(what: str, arrays: list[np.ndarray]) -> int:
    sizes = {a.shape[0] if a.ndim else None for a in arrays}
    if len(sizes) != 1 or None in sizes:
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise ShapeError(f"{what}: every array needs the same number of samples along its first axis; the shapes are {shapes}")
    return next(iter(sizes))


class ArrayData:
    """Arrays cut into batches, in a new random order each epoch if ``shuffle`` (from NumPy's global generator, as Keras)."""

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        class_weight: Mapping[int, float] | None = None,
        partial: int | None = None,
    ):
        self.data = (as_arrays(x), as_arrays(y), as_arrays(sample_weight))
        if class_weight is not None:
            self.data = (*self.data[:2], class_weights(self.data[1], class_weight))
        self.samples = _samples("data", [a for part in self.data for a in flatten(part) if a is not None])
        self.batch_size = 32 if batch_size is None else batch_size
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, (int, np.integer)) or self.batch_size < 1:
            raise ArgumentError(f"batch_size must be an int > 0, got {batch_size!r}")
        self.shuffle = shuffle
        self.num_batches: int | None = -(-self.samples // self.batch_size)

    def batches(self) -> Iterator[Batch]:
        n, size = self.samples, int(self.batch_size)
        if self.shuffle == "batch":
            starts = np.random.permutation(self.num_batches) * size
            for s in starts:
                yield self._cut(slice(s, s + size))
            return
        order = np.random.permutation(n) if self.shuffle else None
        for s in range(0, n, size):
            yield self._cut(slice(s, s + size) if order is None else order[s : s + size])

    def _cut(self, which: Any) -> Batch:
        x, y, w = [None if part is None else map_structure(lambda a: None if a is None else a[which], part) for part in self.data]
        return x, y, w

    def on_epoch_end(self) -> None:
        pass


class IndexedData:
    """An object with ``__len__`` and ``__getitem__`` that gives batches (``PyDataset``); its ``on_epoch_begin``/``on_epoch_end``
    are called.
    """

    def __init__(self, source: Any, shuffle: bool = False, class_weight: Mapping[int, float] | None = None):
        self.source, self.shuffle, self.class_weight = source, shuffle, class_weight
        self.num_batches: int | None = getattr(source, "num_batches", None) or len(source)

    def batches(self) -> Iterator[Batch]:
        if hasattr(self.source, "on_epoch_begin"):
            self.source.on_epoch_begin()
        order = np.random.permutation(self.num_batches) if self.shuffle else range(self.num_batches)
        for i in order:
            yield _standardize(self.source[int(i)], self.class_weight)

    def on_epoch_end(self) -> None:
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()
        self.num_batches = getattr(self.source, "num_batches", None) or len(self.source)


class IterableData:
    """A generator (read once), or an iterable that starts anew each epoch (a DataLoader, a dataset)."""

    def __init__(self, source: Any, class_weight: Mapping[int, float] | None = None):
        self.source, self.class_weight = source, class_weight
        self.restarts = not isinstance(source, Iterator)
        try:
            self.num_batches: int | None = len(source)
        except TypeError:
            self.num_batches = None

    def batches(self) -> Iterator[Batch]:
        for batch in self.source:
            yield _standardize(batch, self.class_weight)

    def on_epoch_end(self) -> None:
        pass


def _standardize(batch: Any, class_weight: Mapping[int, float] | None) -> Batch:
    x, y, w = [as_arrays(part) for part in unpack(batch)]
    if class_weight is not None:
        if w is not None:
            raise ArgumentError("class_weight and sample weights can't both be given")
        w = class_weights(y, class_weight)
    _samples("a batch", [a for part in (x, y, w) for a in flatten(part) if a is not None])
    return x, y, w


class PyDataset:
    """Base class for data given batch by batch: define ``__getitem__(index)`` and ``__len__`` (or ``num_batches``).

    ``workers``, ``use_multiprocessing`` and ``max_queue_size`` are accepted; batches are made in the training thread.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    @property
    def num_batches(self) -> int | None:
        return len(self)

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__()")

    def on_epoch_begin(self) -> None:
        pass

    def on_epoch_end(self) -> None:
        pass


def make(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    shuffle: Any = False,
    class_weight: Mapping[int, float] | None = None,
) -> Any:
    """The adapter for what the user passed as ``x``."""
    if x is None:
        raise ArgumentError("no data: x is None")
    if class_weight is not None and sample_weight is not None:
        raise ArgumentError("class_weight and sample_weight can't both be given")
    indexed = isinstance(x, PyDataset) or (
        hasattr(x, "__getitem__")
        and hasattr(x, "__len__")
        and not _is_array(x)
        and not isinstance(x, (list, tuple, Mapping, str, bytes))
        and not hasattr(x, "__iter__")
    )
    iterable = not _is_array(x) and not isinstance(x, (list, tuple, Mapping, str, bytes)) and hasattr(x, "__iter__")
    if indexed or iterable:
        if y is not None or sample_weight is not None:
            raise ArgumentError(f"x is a {type(x).__name__}, which gives the labels itself: y and sample_weight must be None")
        return IndexedData(x, bool(shuffle), class_weight) if indexed else IterableData(x, class_weight)
    return ArrayData(x, y, sample_weight, batch_size, shuffle, class_weight)


def split(x: Any, y: Any, sample_weight: Any, fraction: float) -> tuple[Batch, Batch]:
    """The data without its last ``fraction``, and that part (taken before shuffling)."""
    if not 0 < fraction < 1:
        raise ArgumentError(f"validation_split must lie between 0 and 1, got {fraction}")
    parts = []
    for what, part in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        if part is not None and not is_nested(part) and not _is_array(part):
            raise ArgumentError(f"validation_split needs arrays; {what} is a {type(part).__name__}: give validation_data instead")
        parts.append(as_arrays(part))
    n = _samples("data", [a for part in parts for a in flatten(part) if a is not None])
    at = int(n * (1.0 - fraction))
    if at == 0 or at == n:
        raise ArgumentError(f"validation_split={fraction} of {n} samples leaves an empty part")

    def rows(which: slice) -> Batch:
        x, y, weight = (None if part is None else map_structure(lambda a: None if a is None else a[which], part) for part in parts)
        return x, y, weight

    return rows(slice(0, at)), rows(slice(at, n))
