"""Callbacks: Keras 3's names, arguments and behaviour."""

from __future__ import annotations

import csv
import math
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ...runtime.errors import ArgumentError
from .callback import Callback, CallbackList, History, ProgbarLogger
from .progress import print_msg
from .variable import Variable

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TerminateOnNaN",
]


class LambdaCallback(Callback):
    """Hooks given as functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(
        self,
        on_epoch_begin=None,
        on_epoch_end=None,
        on_train_begin=None,
        on_train_end=None,
        on_train_batch_begin=None,
        on_train_batch_end=None,
        **kwargs: Callable,
    ):
        super().__init__()
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
            **kwargs,
        }
        for name, fn in hooks.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise ArgumentError(
                    f"LambdaCallback: there is no hook {name!r}; hooks are {', '.join(n for n in vars(Callback) if n.startswith('on_'))}"
                )
            if fn is not None:
                setattr(self, name, fn)


class _Monitor(Callback):
    """Watches one log: ``mode`` "min", "max", or "auto" from its name."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ArgumentError(f"{type(self).__name__}: mode is 'auto', 'min' or 'max', not {mode!r}")
        if mode == "auto":
            name = monitor.removeprefix("val_")
            up = (
                name.endswith(("acc", "accuracy", "auc"))
                or name.startswith("fmeasure")
                or name
                in ("precision", "recall", "f1_score", "fbeta_score", "cosine_similarity", "true_positives", "true_negatives")
            )
            mode = "max" if up else "min"
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.worst = -math.inf if mode == "max" else math.inf

    def improved(self, value: float, reference: float) -> bool:
        return value - self.min_delta > reference if self.mode == "max" else value + self.min_delta < reference

    def read(self, logs: dict | None) -> float | None:
        logs = logs or {}
        value = logs.get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__}: there is no log {self.monitor!r}; there are {', '.join(sorted(logs)) or 'none'}",
                stacklevel=3,
            )
        return value


class EarlyStopping(_Monitor):
    """Stops ``fit`` when the log hasn't improved by ``min_delta`` for ``patience`` epochs; may restore the best weights."""

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best: float | None = None
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs=None):
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best, self.best_weights = None, None

    def on_epoch_end(self, epoch, logs=None):
        value = self.read(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.best is None or self.improved(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.improved(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.stopped_epoch > 0 and self.verbose > 0:
            print_msg(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print_msg(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
    """Saves the model (or its weights) each epoch or every ``save_freq`` batches; ``filepath`` may hold ``{epoch}`` and logs."""

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
    ):
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ArgumentError(f"ModelCheckpoint: save_freq is 'epoch' or a number of batches, not {save_freq!r}")
        wanted = ".weights.h5" if save_weights_only else ".keras"
        if not self.filepath.endswith(wanted):
            raise ArgumentError(
                f"ModelCheckpoint: with save_weights_only={save_weights_only} the file's name must end in {wanted!r}; got {self.filepath!r}"
            )
        self.verbose, self.save_best_only, self.save_weights_only, self.save_freq = (
            verbose,
            save_best_only,
            save_weights_only,
            save_freq,
        )
        self.best = initial_value_threshold if initial_value_threshold is not None else self.worst
        self._epoch, self._batches = 0, 0
        if save_freq != "epoch":  # only then is a batch hook in place, and only then does a step pay for one
            self.on_train_batch_end = self._count

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def _count(self, batch, logs=None):
        self._batches += 1
        if self._batches % self.save_freq == 0:
            self._save(self._epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch":
            self._save(epoch, logs)

    def _save(self, epoch: int, logs: dict | None) -> None:
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except KeyError as e:
            raise ArgumentError(f"ModelCheckpoint: {self.filepath!r} needs the log {e}, there are {sorted(logs or {})}") from None
        if self.save_best_only:
            value = self.read(logs)
            if value is None:
                return
            if not self.improved(value, self.best):
                if self.verbose:
                    print_msg(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {self.best:.5f}")
                return
            if self.verbose:
                print_msg(
                    f"\nEpoch {epoch + 1}: {self.monitor} improved from {self.best:.5f} to {value:.5f}, saving model to {path}"
                )
            self.best = value
        elif self.verbose:
            print_msg(f"\nEpoch {epoch + 1}: saving model to {path}")
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)


def _rate(model: Any) -> float:
    return float(np.asarray(model.optimizer.learning_rate))


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by ``factor`` when the log hasn't improved for ``patience`` epochs."""

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=0.0001,
        cooldown=0,
        min_lr=0.0,
        **kwargs,
    ):
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ArgumentError(f"ReduceLROnPlateau: factor must be < 1, got {factor}")
        if kwargs:
            raise ArgumentError(f"ReduceLROnPlateau: unknown argument(s) {', '.join(kwargs)}")
        self.factor, self.patience, self.verbose, self.cooldown, self.min_lr = factor, patience, verbose, cooldown, min_lr
        self.on_train_begin()

    def on_train_begin(self, logs=None):
        self.best, self.wait, self.cooldown_counter = self.worst, 0, 0

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = _rate(self.model)
        value = self.read(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.wait = self.cooldown_counter - 1, 0
        if self.improved(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            old = _rate(self.model)
            if self.wait >= self.patience and old > np.float32(self.min_lr):
                new = max(old * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = new
                if self.verbose > 0:
                    print_msg(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {new}.")
                self.cooldown_counter, self.wait = self.cooldown, 0


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch to ``schedule(epoch, learning_rate)`` (or ``schedule(epoch)``)."""

    def __init__(self, schedule: Callable, verbose: int = 0):
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch, logs=None):
        if not isinstance(self.model.optimizer._learning_rate, Variable):
            raise ArgumentError(
                "LearningRateScheduler: the optimizer's learning rate is a schedule already; make it with a float"
            )
        try:
            rate = self.schedule(epoch, _rate(self.model))
        except TypeError:  # the older form of the function
            rate = self.schedule(epoch)
        if not isinstance(rate, (float, np.floating)):
            raise ArgumentError(f"LearningRateScheduler: the schedule must return a float, got {rate!r}")
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose > 0:
            print_msg(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {float(rate)}.")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = _rate(self.model)


class CSVLogger(Callback):
    """One line of logs for each epoch."""

    def __init__(self, filename, separator=",", append=False) -> None:
        super().__init__()
        self.filename, self.sep, self.append = os.fspath(filename), separator, append
        self._file: Any = None
        self._keys: list[str] | None = None

    def on_train_begin(self, logs=None):
        header = not (self.append and os.path.exists(self.filename) and os.path.getsize(self.filename))
        self._header, self._keys = header, None
        self._file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self._keys is None:
            self._keys = sorted(logs)
            if not any(k.startswith("val_") for k in self._keys):  # validation may start in a later epoch
                self._keys += [f"val_{k}" for k in self._keys]
            if self._header:
                csv.writer(self._file, delimiter=self.sep).writerow(["epoch", *self._keys])
        csv.writer(self._file, delimiter=self.sep).writerow([epoch, *[logs.get(k, "NA") for k in self._keys]])
        self._file.flush()

    def on_train_end(self, logs=None):
        if self._file is not None:
            self._file.close()
            self._file = None


class TerminateOnNaN(Callback):
    """Stops training when the loss is not finite (with ``raise_error``: by an exception)."""

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def on_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            if self.raise_error:
                raise FloatingPointError(f"NaN or Inf loss encountered at batch {batch}. Terminating training.")
            print_msg(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True


class SwapEMAWeights(Callback):
    """Evaluates with the averages of an optimizer that has ``use_ema=True``: swapped in before ``evaluate`` (or at each epoch's
    end) and out again.
    """

    def __init__(self, swap_on_epoch: bool = False):
        super().__init__()
        self.swap_on_epoch, self._swapped = swap_on_epoch, False

    def _swap(self) -> None:
        optimizer = self.model.optimizer
        if not getattr(optimizer, "use_ema", False):
            raise ArgumentError("SwapEMAWeights needs an optimizer with use_ema=True")
        if not optimizer.built:
            return
        for v in self.model.trainable_variables:
            average = optimizer._averages[optimizer._get_variable_index(v)]
            mine = v.numpy()
            v.assign(average.numpy())
            average.assign(mine)
        self._swapped = not self._swapped

    def on_epoch_begin(self, epoch, logs=None):
        if self.swap_on_epoch and self._swapped:
            self._swap()

    def on_epoch_end(self, epoch, logs=None):
        if self.swap_on_epoch and not self._swapped:
            self._swap()
            if epoch == self.params["epochs"] - 1:  # what fit puts into the weights at its end are the averages, which stand there already
                optimizer = self.model.optimizer
                for v in self.model.trainable_variables:
                    optimizer._averages[optimizer._get_variable_index(v)].assign(v.numpy())

    def on_test_begin(self, logs=None):
        if not self._swapped:
            self._swap()

    def on_test_end(self, logs=None):
        if self._swapped:
            self._swap()

    on_predict_begin, on_predict_end = on_test_begin, on_test_end
