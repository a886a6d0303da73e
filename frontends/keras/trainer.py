"""``compile``, ``fit``, ``evaluate``, ``predict``: the part of a model that trains. A mixin of ``Model``.

The loop in Python only cuts batches and calls one executable per step; the logs are outputs of that call, read when somebody
looks at them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...compiler.ir import location
from ...runtime.errors import ArgumentError, KerogenError, StateError
from . import data_adapter, train_step
from . import optimizers as optimizers_module
from .callback import CallbackList, History
from .compile_arguments import CompileLoss, CompileMetrics
from .metric import Mean, Metric
from .structure import flatten, map_structure
from .tracking import changes


def _floats(logs: dict[str, Any]) -> dict[str, Any]:
    """Logs as Python floats, in Keras' order (by name)."""
    return {k: float(v) if np.ndim(v) == 0 else np.asarray(v) for k, v in sorted(logs.items())}


class _Epochs:
    """An adapter's batches, epoch by epoch; with ``steps`` an epoch is that many batches, whatever the length of the data."""

    def __init__(self, data: Any, steps: int | None):
        self.data, self.steps = data, steps
        self._rest: Iterator | None = None
        self.exhausted = False

    @property
    def num_batches(self) -> int | None:
        return self.steps if self.steps is not None else self.data.num_batches

    def __iter__(self) -> Iterator:
        if self.steps is None:
            yield from self.data.batches()
            self.data.on_epoch_end()
            return
        fresh = False
        done = 0
        while done < self.steps:
            if self._rest is None:
                self._rest, fresh = self.data.batches(), True
            batch = next(self._rest, None)
            if batch is not None:
                fresh = False
                done += 1
                yield batch
                continue
            self._rest = None
            self.data.on_epoch_end()
            if fresh or not getattr(self.data, "restarts", True):
                self.exhausted = True
                warnings.warn(
                    f"the data ended after {done} of {self.steps} batches; give a generator that yields steps_per_epoch * epochs batches",
                    stacklevel=2,
                )
                return


class Trainer:
    """See the module. Attributes after ``compile``: ``optimizer``, ``loss``, ``metrics``, ``history`` (after ``fit``),
    ``stop_training``.
    """

    # Of the layer that a model is besides.
    name: str
    losses: list
    trainable_variables: list

    compiled = False
    optimizer: Any = None
    loss: Any = None
    history: Any = None
    stop_training = False
    run_eagerly = False
    jit_compile = True
    steps_per_execution = 1
    _compile_loss: CompileLoss | None = None
    _compile_metrics: CompileMetrics | None = None
    _compile_arguments: dict[str, Any] | None = None
    _loss_tracker: Any = None
    _step_executables: dict | None = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: Any = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Set what to train with. Steps are always compiled: ``run_eagerly`` and ``jit_compile`` are accepted and change nothing.

        ``loss``, ``metrics``, ``loss_weights``: one for all outputs, a list in their order, or a dictionary by output name.
        """
        if isinstance(steps_per_execution, bool) or not isinstance(steps_per_execution, int) or steps_per_execution < 1:
            raise ArgumentError(f"steps_per_execution must be an int > 0, got {steps_per_execution!r}")
        optimizer = optimizers_module.get(optimizer)
        names = getattr(self, "output_names", None)
        self._compile_metrics = (
            CompileMetrics(metrics, weighted_metrics, names) if metrics is not None or weighted_metrics is not None else None
        )
        self._compile_loss = CompileLoss(loss, loss_weights, names) if loss is not None else None
        self.optimizer, self.loss = optimizer, loss
        self.run_eagerly, self.steps_per_execution = run_eagerly, steps_per_execution
        self.stop_training = False
        self._loss_tracker = Mean(name="loss")
        self._compile_arguments = {
            "optimizer": optimizer,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": not run_eagerly,
        }
        self._step_executables = {}
        self.compiled = True

    def get_compile_config(self) -> dict | None:
        if not self.compiled:
            return None
        from .serialization import serialize_keras_object

        try:
            return serialize_keras_object(self._compile_arguments)
        except KerogenError as e:
            warnings.warn(f"the arguments of compile() aren't saved: {e}", stacklevel=2)
            return None

    def compile_from_config(self, config: dict) -> None:
        """Compile as ``get_compile_config`` described, and build the optimizer if the model is built."""
        from .serialization import deserialize_keras_object

        known = {
            "optimizer",
            "loss",
            "loss_weights",
            "metrics",
            "weighted_metrics",
            "run_eagerly",
            "steps_per_execution",
            "jit_compile",
        }
        self.compile(**{k: deserialize_keras_object(v) for k, v in config.items() if k in known})
        if self.optimizer is not None and getattr(self, "built", False) and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    # -- loss and metrics

    @property
    def metrics(self) -> list:
        """The loss' mean, then those of ``compile``, then those that the layers have."""
        own: list[Any] = []
        if self.compiled:
            own.append(self._loss_tracker)
            if self._compile_metrics is not None:
                own.append(self._compile_metrics)
            if self._compile_loss is not None:
                own.extend(self._compile_loss.metrics)
        return own + self._layer_metrics()

    def _layer_metrics(self) -> list[Metric]:
        found: list[Metric] = []
        flatten_layers = getattr(self, "_flatten_layers", None)
        for layer in flatten_layers() if flatten_layers is not None else [self]:
            for m in vars(layer).values():
                if isinstance(m, Metric) and m is not self._loss_tracker and not any(m is f for f in found):
                    found.append(m)
        return found

    @property
    def metrics_names(self) -> list[str]:
        return [m.name for m in self.metrics]

    def reset_metrics(self) -> None:
        for m in self.metrics:
            for metric in m.metrics if isinstance(m, CompileMetrics) else [m]:
                metric.reset_state()

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The total loss, a scalar: of the outputs and of the layers (regularizers, ``add_loss``). Override it for a loss of your
        own.
        """
        from . import ops

        total = None
        if self._compile_loss is not None:
            if y is None:
                raise ArgumentError(f"{self.name}: compile() was given a loss, so the data needs labels: y is None")
            total = self._compile_loss(y, y_pred, sample_weight)
        for extra in self.losses:
            extra = ops.cast(ops.convert_to_tensor(extra), "float32")
            extra = ops.sum(extra) if len(extra.shape) else extra
            total = extra if total is None else total + extra
        if total is None:
            raise StateError(f"{self.name}: there is no loss to minimise; give compile(loss=...)")
        return total

    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Any:
        from . import ops

        with location.scope("loss"):
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
            return ops.convert_to_tensor(loss) if len(loss.shape) == 0 else ops.sum(loss)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Updates the metrics and gives their results. Override it to add your own."""
        with location.scope("metrics"):
            if self._compile_metrics is not None and y is not None:
                self._compile_metrics.update_state(y, y_pred, sample_weight)
            return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for m in self.metrics:
            value = m.result()
            results.update(value if isinstance(value, dict) else {m.name: value})
        return results

    # -- steps: override them, with ``kerogen.value_and_grad`` and ``optimizer.apply``. They are traced once and run as one executable each.

    def train_step(self, data: tuple) -> dict[str, Any]:
        """One training step on ``data`` = (x,), (x, y) or (x, y, sample_weight) of traced tensors; returns the logs, name -> number."""
        return train_step.train_step(self, data)

    def test_step(self, data: tuple) -> dict[str, Any]:
        """One step of ``evaluate``; returns the logs."""
        return train_step.test_step(self, data)

    def predict_step(self, data: tuple) -> Any:
        """One step of ``predict`` on (x,); returns the outputs."""
        return self(train_step.unpack(data)[0], training=False)  # type: ignore[operator]

    def _require_compiled(self, what: str) -> None:
        if not self.compiled:
            raise StateError(f"{self.name}: call model.compile(optimizer, loss) before {what}()")

    def _executable_for(self, kind: str, make: Callable, parts: tuple) -> Callable:
        """The executable of this kind for data of these shapes."""
        if self._step_executables is None:
            self._step_executables = {}
        key = (kind, train_step.signature(parts), self.optimizer.version if kind == "train" else 0)
        found = self._step_executables.get((*key, changes()))
        if found is None:
            fresh = [a for a in (self._compile_loss, self._compile_metrics) if a is not None and not a.built]
            try:
                found = make(self, parts)
            except BaseException:
                for a in fresh:  # built from data that didn't fit: the next call starts anew
                    a.reset()
                raise
            self._step_executables[(*key, changes())] = found  # tracing may have built layers, which counts as a change
        return found

    def _run_step(self, steps: dict, kind: str, make: Callable, batch: tuple) -> Any:
        """One step. ``steps`` remembers the executables of this epoch by signature alone, without asking what is trainable."""
        key = train_step.signature(batch)
        exe = steps.get(key)
        if exe is None:
            self._check_inputs_given(batch[0])
            exe = steps[key] = self._executable_for(kind, make, batch)
        return exe(*[a for part in batch if part is not None for a in flatten(part)])

    def _check_inputs_given(self, x: Any) -> None:
        inputs = getattr(self, "inputs", None)
        if inputs and isinstance(x, (list, tuple)) and len(flatten(x)) != len(flatten(inputs)):
            raise ArgumentError(f"{self.name} has {len(flatten(inputs))} input(s), got {len(flatten(x))} arrays")

    # -- loops

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: Any = True,
        class_weight: dict | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> History:
        """Train for ``epochs``. ``x``: arrays, a structure of arrays, a generator or an object with ``__getitem__`` and
        ``__len__``.

        Stops at once, with a usable model, on Ctrl-C. Returns the ``History``, whose ``history`` maps each log to its values by
        epoch.
        """
        self._require_compiled("fit")
        if self.optimizer is None:
            raise StateError(f"{self.name}: compile() was given no optimizer")
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = data_adapter.split(x, y, sample_weight, validation_split)
        epoch_data = _Epochs(data_adapter.make(x, y, sample_weight, batch_size, shuffle, class_weight), steps_per_epoch)
        validation = None
        if validation_data is not None:
            if isinstance(validation_data, tuple):
                vx, vy, vw = data_adapter.unpack(validation_data)
                validation = data_adapter.make(vx, vy, vw, validation_batch_size or batch_size)
            else:
                validation = data_adapter.make(validation_data)
            validation = _Epochs(validation, validation_steps)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks,
                add_history=True,
                add_progbar=verbose != 0,
                model=self,
                verbose=verbose,
                epochs=epochs,
                steps=epoch_data.num_batches,
            )
        self.stop_training = False
        logs: dict[str, Any] = {}
        finished = False
        callbacks.on_train_begin()
        try:
            for epoch in range(initial_epoch, epochs):
                self.reset_metrics()
                callbacks.on_epoch_begin(epoch)
                result = self._run_epoch(epoch_data, callbacks, "train", train_step.train_executable)
                if result is None:
                    if epoch == initial_epoch:
                        raise ArgumentError("the data has no batches")
                    warnings.warn(f"the data ended in epoch {epoch + 1}: training stops", stacklevel=2)
                    break
                logs = _floats(result)
                if validation is not None and _validates(epoch, validation_freq):
                    logs.update({f"val_{k}": v for k, v in self._evaluate(validation, callbacks).items()})
                    logs = dict(sorted(logs.items()))
                callbacks.on_epoch_end(epoch, logs)
                if self.stop_training or epoch_data.exhausted:
                    break
            finished = True
        finally:
            if epochs > initial_epoch:
                self.optimizer.finalize_variable_values(self.trainable_variables)
            if finished:
                callbacks.on_train_end(logs)
        return self.history

    def _run_epoch(self, data: _Epochs, callbacks: CallbackList, kind: str, make: Callable) -> dict[str, Any] | None:
        """All batches of an epoch; the last step's logs (of the whole epoch: metrics accumulate), or None without any batch."""
        begin, end = (
            ("on_train_batch_begin", "on_train_batch_end") if kind == "train" else ("on_test_batch_begin", "on_test_batch_end")
        )
        steps: dict = {}
        result: dict[str, Any] | None = None
        number, group = -1, self.steps_per_execution
        last = (data.num_batches or 0) - 1
        for number, batch in enumerate(data):
            if number % group == 0:
                callbacks.batch_begin(begin, number)
            result = current = self._run_step(steps, kind, make, batch)
            if (number + 1) % group == 0 or number == last:
                callbacks.batch_end(end, number, lambda logs=current: _floats(logs))
            if self.stop_training and kind == "train":
                break
        return result

    def _evaluate(self, data: _Epochs, callbacks: CallbackList) -> dict[str, Any]:
        self.reset_metrics()
        callbacks.on_test_begin()
        result = self._run_epoch(data, callbacks, "test", train_step.test_executable)
        if result is None:
            raise ArgumentError("the data to evaluate has no batches")
        logs = _floats(result)
        callbacks.on_test_end(logs)
        return logs

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Loss and metrics on the data: a dictionary, or a list in the order of ``metrics_names`` (one number if there is only
        the loss).
        """
        self._require_compiled("evaluate")
        if kwargs:
            raise ArgumentError(f"evaluate: unknown argument(s) {', '.join(kwargs)}")
        data = _Epochs(data_adapter.make(x, y, sample_weight, batch_size), steps)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks, add_progbar=verbose != 0, model=self, verbose=verbose, epochs=1, steps=data.num_batches
            )
        logs = self._evaluate(data, callbacks)
        return logs if return_dict else self._in_order(logs)

    def _in_order(self, logs: dict[str, Any]) -> Any:
        names: list[str] = []
        for m in self.metrics:
            names += [s.name for s in m.metrics] if isinstance(m, CompileMetrics) else [m.name]
        values = [logs[n] for n in names if n in logs] + [logs[k] for k in sorted(logs) if k not in names]
        return values[0] if len(values) == 1 else values

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: Any = "auto", steps: int | None = None, callbacks: Any = None
    ) -> Any:
        """The model's outputs for all samples, as NumPy arrays in the structure that the model returns."""
        data = _Epochs(data_adapter.make(x, None, None, batch_size), steps)
        if not isinstance(callbacks, CallbackList):
            callbacks = CallbackList(
                callbacks, add_progbar=verbose != 0, model=self, verbose=verbose, epochs=1, steps=data.num_batches
            )
        callbacks.on_predict_begin()
        outputs: list[Any] = []
        steps_of: dict = {}
        for number, (xs, _, _) in enumerate(data):
            callbacks.batch_begin("on_predict_batch_begin", number)
            out = self._run_step(steps_of, "predict", train_step.predict_executable, (xs, None, None))
            outputs.append(out)
            callbacks.batch_end("on_predict_batch_end", number, lambda o=out: {"outputs": o})
        callbacks.on_predict_end()
        if not outputs:
            raise ArgumentError("the data to predict has no batches")
        return outputs[0] if len(outputs) == 1 else map_structure(lambda *parts: np.concatenate(parts), *outputs)

    # -- single batches

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: dict | None = None, return_dict: bool = False
    ) -> Any:
        """One training step; the metrics of this batch."""
        self._require_compiled("train_on_batch")
        if self.optimizer is None:
            raise StateError(f"{self.name}: compile() was given no optimizer")
        if class_weight is not None:
            if sample_weight is not None:
                raise ArgumentError("class_weight and sample_weight can't both be given")
            sample_weight = data_adapter.class_weights(y, class_weight)
        return self._on_batch("train", train_step.train_executable, x, y, sample_weight, return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """The metrics of this batch, without training."""
        self._require_compiled("test_on_batch")
        return self._on_batch("test", train_step.test_executable, x, y, sample_weight, return_dict)

    def _on_batch(self, kind: str, make: Callable, x: Any, y: Any, sample_weight: Any, return_dict: bool) -> Any:
        batch = data_adapter._standardize((x, y, sample_weight), None)
        self.reset_metrics()
        logs = _floats(self._run_step({}, kind, make, batch))
        return logs if return_dict else self._in_order(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """The model's outputs for one batch, as NumPy arrays."""
        return self._run_step({}, "predict", train_step.predict_executable, (data_adapter.as_arrays(x), None, None))


def _validates(epoch: int, validation_freq: Any) -> bool:
    if isinstance(validation_freq, int):
        return (epoch + 1) % validation_freq == 0
    if isinstance(validation_freq, (list, tuple, set)):
        return epoch + 1 in validation_freq
    raise ArgumentError(f"validation_freq is an int or a list of epochs, not {validation_freq!r}")
