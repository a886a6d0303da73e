"""The hooks of training, and the list that calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...runtime.errors import ArgumentError
from .progress import Progbar, print_msg
from .structure import flatten

_BATCH_HOOKS = ("on_train_batch_end", "on_test_batch_end", "on_predict_batch_end")


class Callback:
    """Base class: override the hooks you need. ``logs`` hold floats: those of the epoch so far. ``self.model`` is the model."""

    def __init__(self) -> None:
        self.params: dict[str, Any] | None = None
        self._model: Any = None

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def set_model(self, model: Any) -> None:
        self._model = model

    @property
    def model(self) -> Any:
        return self._model

    def on_batch_begin(self, batch, logs=None):
        """Alias of on_train_batch_begin."""

    def on_batch_end(self, batch, logs=None):
        """Alias of on_train_batch_end."""

    def on_epoch_begin(self, epoch, logs=None):
        """Before an epoch of ``fit``; ``epoch`` counts from 0."""

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch of ``fit``, with training and (prefix ``val_``) validation results."""

    def on_train_batch_begin(self, batch, logs=None):
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch, logs=None):
        """Before a batch of ``evaluate``, and of validation in ``fit``."""

    def on_test_batch_end(self, batch, logs=None):
        """After a batch of ``evaluate``, and of validation in ``fit``."""

    def on_predict_batch_begin(self, batch, logs=None):
        """Before a batch of ``predict``."""

    def on_predict_batch_end(self, batch, logs=None):
        """After a batch of ``predict``; ``logs["outputs"]`` has its result."""

    def on_train_begin(self, logs=None):
        """Before ``fit``."""

    def on_train_end(self, logs=None):
        """After ``fit``."""

    def on_test_begin(self, logs=None):
        """Before ``evaluate`` or validation."""

    def on_test_end(self, logs=None):
        """After ``evaluate`` or validation."""

    def on_predict_begin(self, logs=None):
        """Before ``predict``."""

    def on_predict_end(self, logs=None):
        """After ``predict``."""


def _overrides(callback: Callback, hook: str) -> bool:
    names = (
        (hook, "on_batch_end")
        if hook == "on_train_batch_end"
        else (hook, "on_batch_begin")
        if hook == "on_train_batch_begin"
        else (hook,)
    )
    return any(getattr(type(callback), n) is not getattr(Callback, n) or n in vars(callback) for n in names)


class History(Callback):
    """``history``: for each log the list of its values by epoch; ``epoch``: their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs=None):
        self.epoch = []

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for k, v in (logs or {}).items():
            self.history.setdefault(k, []).append(v)


class ProgbarLogger(Callback):
    """Prints the progress bar. It reads the logs only when it is about to show them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.target, self.verbose, self.epochs = 0, None, 1, 1
        self.progbar: Progbar | None = None
        self._in_fit = False

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        verbose = params.get("verbose", 1)
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.epochs, self.target = params.get("epochs", 1), params.get("steps")

    def _start(self) -> None:
        self.seen = 0
        self.progbar = Progbar(self.target, verbose=self.verbose, stateless_metrics=())

    def on_train_begin(self, logs=None):
        self._in_fit = True

    def on_test_begin(self, logs=None):
        if not self._in_fit:
            self._start()

    def on_predict_begin(self, logs=None):
        self._start()

    def on_epoch_begin(self, epoch, logs=None):
        self._start()
        if self.verbose and self.epochs > 1:
            print_msg(f"Epoch {epoch + 1}/{self.epochs}")

    def show(self, hook: str, batch: int, logs: Callable[[], Mapping[str, float]]) -> None:
        """As the batch hooks, with a function that reads the logs: called only if the bar is due."""
        if self.progbar is None or (hook == "on_test_batch_end" and self._in_fit):
            return
        self.seen = batch + 1
        if self.progbar.due():
            self.progbar.update(self.seen, [] if hook == "on_predict_batch_end" else list(logs().items()), finalize=False)

    def _finish(self, logs: Mapping[str, float] | None) -> None:
        if self.progbar is None:
            return
        if self.target is None:
            self.target = self.progbar.target = self.seen
        self.progbar.update(self.target, list((logs or {}).items()), finalize=True)

    def on_epoch_end(self, epoch, logs=None):
        self._finish(logs)

    def on_train_end(self, logs=None):
        self._in_fit = False

    def on_test_end(self, logs=None):
        if not self._in_fit:
            self._finish(logs)

    def on_predict_end(self, logs=None):
        self._finish(None)


class CallbackList(Callback):
    """Calls every callback's hook. Per batch only those that override it are called, so a step costs nothing where nobody
    listens.
    """

    def __init__(
        self, callbacks: Any = None, add_history: bool = False, add_progbar: bool = False, model: Any = None, **params: Any
    ):
        super().__init__()
        self.callbacks: list[Callback] = list(flatten(callbacks)) if callbacks else []
        for c in self.callbacks:
            if not isinstance(c, Callback):
                raise ArgumentError(f"callbacks: {c!r} is no Callback; give instances of kerogen.callbacks.Callback or of its subclasses")
        self._progbar = next((c for c in self.callbacks if isinstance(c, ProgbarLogger)), None)
        self._history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if self._history is None and add_history:
            self._history = History()
            self.callbacks.append(self._history)
        if self._progbar is None and add_progbar:
            self._progbar = ProgbarLogger()
            self.callbacks.append(self._progbar)
        self._listeners = {hook: [c for c in self.callbacks if _overrides(c, hook)] for hook in _BATCH_HOOKS}
        self._beginners = {
            hook: [c for c in self.callbacks if _overrides(c, hook)]
            for hook in ("on_train_batch_begin", "on_test_batch_begin", "on_predict_batch_begin")
        }
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def append(self, callback: Callback) -> None:
        self.__init__([*self.callbacks, callback], model=self._model, **(self.params or {}))  # type: ignore[misc]

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params
        if params:
            for c in self.callbacks:
                c.set_params(params)

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        if self._history is not None:
            model.history = self._history
        for c in self.callbacks:
            c.set_model(model)

    def batch_begin(self, hook: str, batch: int) -> None:
        for c in self._beginners[hook]:
            getattr(c, hook)(batch, {})

    def batch_end(self, hook: str, batch: int, logs: Callable[[], Mapping[str, Any]]) -> None:
        """``logs`` reads the results; it is called only if somebody wants them."""
        if self._progbar is not None:
            self._progbar.show(hook, batch, logs)
        listeners = self._listeners[hook]
        if listeners:
            read = logs()
            for c in listeners:
                getattr(c, hook)(batch, read)


def _forward(hook: str) -> Callable:
    """``hook`` of every callback. ``logs`` is always given, by place and as a dict: ``lambda logs: ...`` is a hook, as in Keras."""

    def at_place(self: CallbackList, place: int, logs: Mapping[str, Any] | None = None) -> None:
        for c in self.callbacks:
            getattr(c, hook)(place, {} if logs is None else logs)

    def at_end(self: CallbackList, logs: Mapping[str, Any] | None = None) -> None:
        for c in self.callbacks:
            getattr(c, hook)({} if logs is None else logs)

    call: Callable = at_place if "epoch" in hook or "batch" in hook else at_end
    call.__name__ = hook
    return call


for _hook in [n for n in vars(Callback) if n.startswith("on_")]:
    setattr(CallbackList, _hook, _forward(_hook))
