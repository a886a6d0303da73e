"""Training against real Keras: same start, same batches, same steps. Loops, data of every kind, callbacks."""

import signal

import numpy as np
import pytest

import kerogen as kg
from kerogen import callbacks, layers
from kerogen.frontends.keras.data_adapter import PyDataset
from kerogen.frontends.keras.progress import Progbar
from kerogen.runtime.errors import ArgumentError, ShapeError, StateError
from tests.compare import assert_close, assert_norm_close
from tests.oracle import oracle

keras = oracle("keras")


def dense_pair(units=(9, 4), features=6, activation="relu", last=None, regularizer=None):
    def make(k):
        n = len(units)
        return k.Sequential(
            [k.layers.Input((features,)) if hasattr(k.layers, "Input") else k.Input((features,))]
            + [
                k.layers.Dense(u, activation=activation if i < n - 1 else last, kernel_regularizer=regularizer)
                for i, u in enumerate(units)
            ]
        )

    ours, theirs = make(kg), make(keras)
    randomise(ours, theirs)
    return ours, theirs


def randomise(ours, theirs, seed=0):
    rng = np.random.default_rng(seed)
    values = [
        np.abs(rng.standard_normal(v.shape)) + 0.5
        if "variance" in v.path or "gamma" in v.path
        else 0.4 * rng.standard_normal(v.shape)
        for v in theirs.weights
    ]
    ours.set_weights(values)
    theirs.set_weights(values)


def same_weights(ours, theirs, rate):
    for v, a, b in zip(theirs.weights, ours.get_weights(), theirs.get_weights()):
        assert_norm_close(a, b, 1e-4, rate * np.sqrt(b.size), what=v.path)


def data(n, features=6, classes=4, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, features)).astype(np.float32), rng.integers(0, classes, n)


OPTIMIZERS = [
    ("SGD", {"learning_rate": 0.1}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"learning_rate": 0.01}),
    ("Adam", {"learning_rate": 0.01, "amsgrad": True, "global_clipnorm": 0.8}),
    ("RMSprop", {"learning_rate": 0.01}),
]


@pytest.mark.parametrize("name,kwargs", OPTIMIZERS)
def test_five_steps_of_an_mlp(name, kwargs):
    ours, theirs = dense_pair((9, 7, 4), last="softmax", regularizer="l2")
    for model, k in ((ours, kg), (theirs, keras)):
        model.compile(getattr(k.optimizers, name)(**kwargs), "sparse_categorical_crossentropy", metrics=["accuracy"])
    for step in range(5):
        x, y = data(7 if step < 4 else 3, seed=step)
        a, b = ours.train_on_batch(x, y, return_dict=True), theirs.train_on_batch(x, y, return_dict=True)
        assert_close(a["loss"], b["loss"], 1e-5, check_dtype=False)
        assert a["accuracy"] == pytest.approx(b["accuracy"])
    same_weights(ours, theirs, kwargs["learning_rate"])
    for a, b in zip(ours.optimizer.variables, theirs.optimizer.variables):
        assert_norm_close(a.numpy(), np.asarray(b), 1e-4, 1e-4, check_dtype=False)


@pytest.mark.parametrize("name,kwargs", OPTIMIZERS[:4])
def test_five_steps_of_a_cnn_with_batch_normalisation(name, kwargs):
    # No bias before a batch normalisation: its gradient is zero but for rounding, which Adam would blow up to full steps.
    def make(k):
        return k.Sequential(
            [
                k.Input((9, 7, 2)),
                k.layers.Conv2D(5, 3, padding="same", use_bias=False),
                k.layers.BatchNormalization(),
                k.layers.Activation("relu"),
                k.layers.MaxPooling2D(2),
                k.layers.Conv2D(3, 2, strides=2),
                k.layers.Flatten(),
                k.layers.Dense(4),
            ]
        )

    ours, theirs = make(kg), make(keras)
    randomise(ours, theirs)
    for model, k in ((ours, kg), (theirs, keras)):
        model.compile(getattr(k.optimizers, name)(**kwargs), k.losses.SparseCategoricalCrossentropy(from_logits=True))
    for step in range(5):
        rng = np.random.default_rng(step)
        x, y = rng.standard_normal((7, 9, 7, 2)).astype(np.float32), rng.integers(0, 4, 7)
        assert_close(ours.train_on_batch(x, y), float(theirs.train_on_batch(x, y)), 1e-5, check_dtype=False)
    same_weights(ours, theirs, kwargs["learning_rate"])
    assert_close(ours.evaluate(x, y, verbose=0), float(theirs.evaluate(x, y, verbose=0)), 1e-4, check_dtype=False)


def test_fit_is_keras_fit_with_validation_and_partial_batches():
    ours, theirs = dense_pair(last="softmax")
    x, y = data(37)
    for model in (ours, theirs):
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
    w = np.random.default_rng(2).random(37).astype(np.float32)
    a = ours.fit(x, y, batch_size=8, epochs=3, shuffle=False, validation_split=0.2, sample_weight=w, verbose=0)
    b = theirs.fit(x, y, batch_size=8, epochs=3, shuffle=False, validation_split=0.2, sample_weight=w, verbose=0)
    assert list(a.history) == list(b.history) and a.epoch == b.epoch
    for name in b.history:
        assert_close(a.history[name], b.history[name], 1e-5, check_dtype=False, what=name)
    same_weights(ours, theirs, 1e-3)
    assert ours.evaluate(x, y, verbose=0) == pytest.approx(theirs.evaluate(x, y, verbose=0), rel=1e-4)
    assert_close(ours.predict(x, batch_size=8, verbose=0), theirs.predict(x, batch_size=8, verbose=0), 1e-4)


def test_one_executable_for_each_step_whatever_the_batch(monkeypatch):
    from kerogen.frontends.keras import train_step

    made = []
    real = train_step.compile_function
    monkeypatch.setattr(train_step, "compile_function", lambda *a, **k: made.append(k["name"]) or real(*a, **k))
    model = kg.Sequential([layers.Dense(5, activation="relu"), layers.Dropout(0.2), layers.Dense(4)])  # built by the first step
    model.compile("sgd", kg.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x, y = data(37)
    model.fit(x, y, batch_size=8, epochs=3, verbose=0, validation_data=(x[:9], y[:9]))
    model.fit(x, y, batch_size=5, epochs=1, verbose=0)
    model.optimizer.learning_rate = 0.5
    for n in (1, 2, 3, 11):
        model.train_on_batch(x[:n], y[:n])
        model.predict(x[:n], verbose=0)
    assert sorted(m.rsplit("_", 1)[1] for m in made) == ["predict", "test", "train"]


def test_class_weights_and_one_hot_labels():
    ours, theirs = dense_pair(last="softmax")
    x, y = data(15)
    y = np.eye(4, dtype=np.float32)[y]
    for model in (ours, theirs):
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    args = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0, "class_weight": {0: 2.0, 1: 0.5, 2: 1.0, 3: 0.1}}
    a, b = ours.fit(x, y, **args), theirs.fit(x, y, **args)
    assert_close(a.history["loss"], b.history["loss"], 1e-5, check_dtype=False)
    same_weights(ours, theirs, 0.01)


def two_headed(k):
    a, b = k.Input((3,), name="a"), k.Input((4,), name="b")
    h = k.layers.Concatenate()([k.layers.Dense(5, activation="tanh")(a), k.layers.Dense(5)(b)])
    return k.Model([a, b], [k.layers.Dense(2, name="point")(h), k.layers.Dense(3, activation="softmax", name="kind")(h)])


@pytest.mark.parametrize("style", ["lists", "dicts"])
def test_several_inputs_and_outputs(style):
    ours, theirs = two_headed(kg), two_headed(keras)
    randomise(ours, theirs)
    rng = np.random.default_rng(4)
    x = [rng.standard_normal((13, 3)).astype(np.float32), rng.standard_normal((13, 4)).astype(np.float32)]
    y = [rng.standard_normal((13, 2)).astype(np.float32), rng.integers(0, 3, 13)]
    loss, weights, metrics = ["mse", "sparse_categorical_crossentropy"], [1.0, 0.3], [["mae"], ["accuracy"]]
    if style == "dicts":
        names = ["point", "kind"]
        x = dict(zip("ab", x))
        loss, weights, metrics = dict(zip(names, loss)), dict(zip(names, weights)), dict(zip(names, metrics))
    for model in (ours, theirs):
        model.compile("sgd", loss, loss_weights=weights, metrics=metrics)
    a = ours.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    b = theirs.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    assert sorted(a.history) == sorted(b.history)
    for name in b.history:
        assert_close(a.history[name], b.history[name], 1e-5, check_dtype=False, what=name)
    same_weights(ours, theirs, 0.01)
    for p, q in zip(ours.predict(x, verbose=0), theirs.predict(x, verbose=0)):
        assert_close(p, q, 1e-5)
    assert ours.evaluate(x, y, verbose=0) == pytest.approx(theirs.evaluate(x, y, verbose=0), rel=1e-4)


class Batches(PyDataset):
    def __init__(self, x, y, size):
        super().__init__()
        self.x, self.y, self.size, self.ended = x, y, size, 0

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, i):
        return self.x[i * self.size : (i + 1) * self.size], self.y[i * self.size : (i + 1) * self.size]

    def on_epoch_end(self):
        self.ended += 1


def test_generators_and_datasets_give_what_arrays_give():
    x, y = data(22)
    results = []
    for kind in ("arrays", "dataset", "generator", "iterable"):
        model, _ = dense_pair(last="softmax")
        model.compile("sgd", "sparse_categorical_crossentropy")
        batches = Batches(x, y, 5)
        if kind == "arrays":
            h = model.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
        elif kind == "dataset":
            h = model.fit(batches, epochs=2, shuffle=False, verbose=0)
            assert batches.ended == 2
        elif kind == "generator":
            h = model.fit(forever(batches), epochs=2, steps_per_epoch=5, verbose=0)
        else:
            h = model.fit(_Iterable(batches), epochs=2, verbose=0)
        results.append(h.history["loss"])
        assert_close(model.predict(x, verbose=0)[:5], model.predict(_Inputs(batches), verbose=0)[:5], 1e-6)
    for r in results[1:]:
        assert r == results[0]


def forever(batches):
    while True:
        yield from (batches[i] for i in range(len(batches)))


class _Iterable:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter([self.batches[i] for i in range(len(self.batches))])


class _Inputs(_Iterable):
    def __iter__(self):
        return iter([self.batches[i][0] for i in range(len(self.batches))])


def test_shuffling_permutes_whole_samples_differently_each_epoch():
    seen = []

    class Watch(kg.Model):
        def __init__(self):
            super().__init__()
            self.d = layers.Dense(1, use_bias=False)

        def call(self, x):
            return self.d(x)

    model = Watch()
    x = np.arange(10, dtype=np.float32)[:, None]
    model.compile(kg.optimizers.SGD(0.0), "mse")
    from kerogen.frontends.keras import data_adapter

    adapter = data_adapter.make(x, 2 * x, batch_size=4, shuffle=True)
    for _ in range(2):
        batches = list(adapter.batches())
        assert [len(b[0]) for b in batches] == [4, 4, 2]
        assert all(np.array_equal(2 * b[0], b[1]) for b in batches)
        seen.append(np.concatenate([b[0] for b in batches]).ravel())
        assert sorted(seen[-1]) == list(range(10))
    assert not np.array_equal(*seen)


def test_early_stopping_restores_and_checkpoints_keep_the_best(tmp_path):
    model, _ = dense_pair(last="softmax")
    x, y = data(40)
    vx, vy = data(20, seed=5)
    model.compile(kg.optimizers.SGD(1.5), "sparse_categorical_crossentropy")
    best = str(tmp_path / "best.keras")
    stop = callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    h = model.fit(
        x,
        y,
        epochs=40,
        batch_size=8,
        verbose=0,
        validation_data=(vx, vy),
        callbacks=[stop, callbacks.ModelCheckpoint(best, save_best_only=True), callbacks.CSVLogger(tmp_path / "log.csv")],
    )
    losses = h.history["val_loss"]
    assert len(losses) < 40 and int(np.argmin(losses)) == len(losses) - 4
    assert model.evaluate(vx, vy, verbose=0) == pytest.approx(min(losses), rel=1e-5)
    assert kg.load_model(best).evaluate(vx, vy, verbose=0) == pytest.approx(min(losses), rel=1e-5)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,val_loss" and len(lines) == len(losses) + 1
    assert float(lines[3].split(",")[2]) == losses[2]


def test_learning_rates_by_epoch_and_on_a_plateau():
    model, theirs = dense_pair(last="softmax")
    x, y = data(16)
    histories = []
    for m, k in ((model, kg), (theirs, keras)):
        m.compile("sgd", "sparse_categorical_crossentropy")
        calls = [
            k.callbacks.LearningRateScheduler(lambda epoch, rate: float(rate * 0.5) if epoch else float(rate)),
            k.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=10.0, factor=0.1),
        ]
        histories.append(m.fit(x, y, epochs=4, batch_size=16, shuffle=False, verbose=0, callbacks=calls).history)
    assert_close(histories[0]["learning_rate"], histories[1]["learning_rate"], 1e-6, check_dtype=False)
    assert_close(histories[0]["loss"], histories[1]["loss"], 1e-5, check_dtype=False)


def test_hooks_are_called_in_order_with_floats():
    log = []

    class Spy(callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda *a, **k: log.append((name, *[v for v in a if isinstance(v, int)])) or _floats_only(a)
            return super().__getattribute__(name)

        def on_train_batch_end(self, batch, logs=None): ...
        def on_train_batch_begin(self, batch, logs=None): ...
        def on_test_batch_end(self, batch, logs=None): ...

    def _floats_only(args):
        for a in args:
            if isinstance(a, dict):
                assert all(type(v) is float for v in a.values())

    model, _ = dense_pair(last="softmax")
    x, y = data(6)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=4, epochs=1, verbose=0, callbacks=[Spy()], validation_data=(x, y))
    names = [e[0] for e in log]
    assert names == [
        "on_train_begin",
        "on_epoch_begin",
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_train_batch_begin",
        "on_train_batch_end",
        "on_test_begin",
        "on_test_batch_end",
        "on_test_batch_end",
        "on_test_end",
        "on_epoch_end",
        "on_train_end",
    ]


def test_stopping_from_a_callback_and_from_the_keyboard_leaves_a_usable_model():
    model, _ = dense_pair(last="softmax")
    x, y = data(64)
    model.compile("sgd", "sparse_categorical_crossentropy")
    steps = []

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            self.model.stop_training = batch == 2

    model.fit(x, y, batch_size=8, epochs=5, verbose=0, callbacks=[Stop()])
    assert steps == [0, 1, 2]

    class Interrupt(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                signal.raise_signal(signal.SIGINT)

    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, epochs=5, verbose=0, callbacks=[Interrupt()])
    after = model.get_weights()
    assert not np.array_equal(before[0], after[0]) and all(np.isfinite(a).all() for a in after)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == 3 + 2 + 8


def test_nan_terminates():
    model, _ = dense_pair()
    x, _ = data(8)
    model.compile("sgd", "mse")
    y = np.full((8, 4), np.nan, np.float32)
    h = model.fit(x, y, batch_size=2, epochs=3, verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert len(h.history["loss"]) == 1 and int(model.optimizer.iterations) == 1


def test_the_progress_bar_reads_like_keras(capsys):
    model, _ = dense_pair(last="softmax")
    x, y = data(21)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=3, epochs=2, validation_data=(x, y))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2" and lines[2] == "Epoch 2/2" and len(lines) == 4
    import re

    number = r"\d+\.\d{4}"
    assert re.fullmatch(
        rf"7/7 ━{{20}} \d+s \d+[mu]?s/step - accuracy: {number} - loss: {number} - val_accuracy: {number} - val_loss: {number}",
        lines[3],
    )
    model.fit(x, y, batch_size=3, epochs=1, verbose=2)
    assert re.fullmatch(rf"7/7 - \d+s - \d+[mu]?s/step - accuracy: {number} - loss: {number}", capsys.readouterr().out.strip())
    bar = Progbar(100, interval=0.0)
    bar.update(50, [("loss", 2.0)])
    bar.update(100, [("loss", 4.0)], finalize=True)
    assert "loss: 4.0000" in capsys.readouterr().out


def test_a_loss_of_ones_own_and_a_model_that_computes_it():
    from kerogen import ops

    def scaled(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), axis=-1) * 3.0

    ours, theirs = dense_pair()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 6)).astype(np.float32), rng.standard_normal((7, 4)).astype(np.float32)
    ours.compile("sgd", scaled)
    theirs.compile("sgd", lambda t, p: keras.ops.mean(keras.ops.abs(t - p), axis=-1) * 3.0)
    for _ in range(3):
        assert ours.train_on_batch(x, y) == pytest.approx(float(theirs.train_on_batch(x, y)), rel=1e-5)
    same_weights(ours, theirs, 0.01)


def test_freezing_a_layer_leaves_its_weights_alone():
    model, _ = dense_pair()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 6)).astype(np.float32), rng.standard_normal((7, 4)).astype(np.float32)
    model.compile("sgd", "mse")
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.train_on_batch(x, y)
    after = model.get_weights()
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before[2], after[2])


def test_mistakes_are_named():
    model, _ = dense_pair(last="softmax")
    x, y = data(7)
    with pytest.raises(StateError, match="compile"):
        model.fit(x, y)
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ShapeError, match=r"\(7, 6\).*\(5,\)"):
        model.fit(x, y[:5], verbose=0)
    with pytest.raises(ArgumentError, match="batch_size"):
        model.fit(x, y, batch_size=0, verbose=0)
    with pytest.raises(ArgumentError, match="validation_split"):
        model.fit(iter([(x, y)]), validation_split=0.5, verbose=0)
    with pytest.raises(ArgumentError, match="labels"):
        model.fit(x, verbose=0)
    with pytest.raises(ShapeError, match="5"):
        model.fit(x[:, :5], y, verbose=0)
    with pytest.raises(ArgumentError, match="no hook"):
        callbacks.LambdaCallback(on_epoch_finish=print)
    with pytest.raises(ArgumentError, match="3 is no Callback"):
        model.fit(x, y, callbacks=[3], verbose=0)
    model.fit(x, y, verbose=0, epochs=1)  # and the model still trains


def test_every_hook_gets_its_logs_as_a_dict():
    def calls(k):
        seen: list = []
        model = k.Sequential([k.layers.Input((3,)), k.layers.Dense(2)])
        model.compile("sgd", "mse")
        hooks = {f"on_{kind}_{end}": (lambda logs, n=f"{kind}_{end}": seen.append((n, sorted(logs))))
                 for kind in ("train", "test") for end in ("begin", "end")}
        hooks |= {f"on_{what}_{end}": (lambda i, logs, n=f"{what}_{end}": seen.append((n, i, sorted(logs))))
                  for what in ("epoch", "train_batch", "test_batch") for end in ("begin", "end")}
        x, y = np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
        model.fit(x, y, validation_data=(x, y), epochs=2, batch_size=3, verbose=0, callbacks=[k.callbacks.LambdaCallback(**hooks)])
        return seen

    assert calls(kg) == calls(keras)


@pytest.mark.parametrize("on_epoch", [False, True])
def test_swapped_averages_end_as_in_keras(on_epoch, rng):
    x, y = rng.standard_normal((7, 3)).astype(np.float32), rng.standard_normal((7, 2)).astype(np.float32)
    weights, found = [rng.standard_normal(s) for s in ((3, 2), (2,))], []
    for k in (kg, keras):
        model = k.Sequential([k.layers.Input((3,)), k.layers.Dense(2)])
        model.set_weights(weights)
        model.compile(k.optimizers.SGD(0.2, use_ema=True, ema_momentum=0.8), "mse")
        history = model.fit(x, y, validation_data=(x, y), epochs=3, batch_size=3, shuffle=False, verbose=0,
                            callbacks=[k.callbacks.SwapEMAWeights(swap_on_epoch=on_epoch)]).history
        found.append((model.get_weights(), history["val_loss"]))
    (ours, our_loss), (theirs, their_loss) = found
    for a, b in zip(ours, theirs):
        assert_close(a, np.asarray(b))
    assert_close(np.array(our_loss), np.array(their_loss))
