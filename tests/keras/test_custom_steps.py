"""Models with a ``train_step``, ``test_step`` or ``predict_step`` of their own, and ``value_and_grad`` with respect to variables."""

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers, ops
from kerogen.runtime.errors import ArgumentError, GradientError
from tests.compare import assert_close, assert_norm_close
from tests.oracle import oracle

keras = oracle("keras")


def data(n=21, seed=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 6)).astype(np.float32), rng.standard_normal((n, 2)).astype(np.float32)


class Own(kg.Model):
    """The default step written out, its loss scaled and a log added."""

    traced = 0

    def __init__(self, units=(7, 2)):
        super().__init__()
        self.stack = [layers.Dense(u, activation="tanh" if i == 0 else None) for i, u in enumerate(units)]
        self.norm = layers.BatchNormalization()

    def call(self, x, training=False):
        for layer in self.stack[:-1]:
            x = self.norm(layer(x), training=training)
        return self.stack[-1](x)

    def train_step(self, data):
        type(self).traced += 1
        x, y = data

        def loss_fn(x, y):
            y_pred = self(x, training=True)
            return 0.5 * self.compute_loss(x=x, y=y, y_pred=y_pred), y_pred

        (loss, y_pred), grads = kg.value_and_grad(loss_fn, variables=self.trainable_variables, has_aux=True)(x, y)
        self.optimizer.apply(grads, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {"norm": ops.sqrt(sum(ops.sum(ops.square(g)) for g in grads)), **self.get_metrics_result()}


def test_an_own_step_trains_like_keras_with_half_the_loss():
    x, y = data()
    theirs = keras.Sequential([keras.Input((6,)), keras.layers.Dense(7, activation="tanh"), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    theirs.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", loss_weights=[0.5])
    ours = Own()
    ours(x[:1])
    rng = np.random.default_rng(0)
    values = {v.path.split("/", 1)[-1]: np.abs(rng.standard_normal(v.shape)) + 0.2 for v in theirs.weights}
    del values
    for a, b in zip((ours.stack[0], ours.norm, ours.stack[1]), theirs.layers):
        given = [np.abs(rng.standard_normal(w.shape)) + 0.2 for w in b.weights]
        a.set_weights(given), b.set_weights(given)
    Own.traced = 0
    ours.compile(kg.optimizers.SGD(0.1, momentum=0.9), "mse")
    a = ours.fit(x, y, batch_size=7, epochs=3, shuffle=False, verbose=0)
    b = theirs.fit(x, y, batch_size=7, epochs=3, shuffle=False, verbose=0)
    assert Own.traced == 1, "the step was traced more than once"
    assert_close(a.history["loss"], b.history["loss"], 1e-5, check_dtype=False)
    assert sorted(a.history) == ["loss", "norm"] and all(v > 0 for v in a.history["norm"])
    for p, q in zip((ours.stack[0], ours.norm, ours.stack[1]), theirs.layers):
        for v, w in zip(p.get_weights(), q.get_weights()):
            assert_norm_close(v, np.asarray(w), 1e-4, 1e-2)


def test_a_model_that_fit_builds_has_its_variables_in_an_own_step():
    x, y = data()
    model = Own()
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=7, epochs=1, verbose=0)
    assert len(model.trainable_variables) == 6
    # One update of the moving mean for each of three batches, though the model was traced to be built first.
    h = np.tanh(x @ model.stack[0].get_weights()[0])
    assert 0 < np.abs(model.norm.moving_mean.numpy()).max() < np.abs(h).max() * (1 - 0.99**3) * 1.5


def test_two_optimizers_in_one_step_by_hand():
    """Two players: each moves its own variable against the other's current one, the second after the first has moved."""

    class Players(kg.Model):
        def __init__(self):
            super().__init__()
            self.a = self.add_weight((3,), initializer=kg.initializers.Constant(0.5), name="a")
            self.b = self.add_weight((3,), initializer=kg.initializers.Constant(-0.25), name="b")
            self.built = True

        def train_step(self, data):
            (x,) = data
            first, da = kg.value_and_grad(lambda: ops.mean(ops.square(x * self.a + self.b)), variables=[self.a])()
            self.optimizer.apply(da, [self.a])
            second, db = kg.value_and_grad(lambda: -ops.mean(x * self.a * self.b), variables=[self.b])()
            self.other.apply(db, [self.b])
            return {"first": first, "second": second}

    model = Players()
    model.compile(kg.optimizers.SGD(0.3))
    model.other = kg.optimizers.SGD(0.2)
    x = np.random.default_rng(5).standard_normal((8, 3)).astype(np.float32)
    history = model.fit(x, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    a, b, logs = np.full(3, 0.5), np.full(3, -0.25), {}
    for _ in range(2):
        for part in (x[:4], x[4:]):
            logs["first"] = np.mean((part * a + b) ** 2)
            a = a - 0.3 * (2 * (part * a + b) * part / part.size).sum(0)
            logs["second"] = -np.mean(part * a * b)
            b = b + 0.2 * (part * a / part.size).sum(0)
    assert_close(model.a.numpy(), a.astype(np.float32), 1e-5)
    assert_close(model.b.numpy(), b.astype(np.float32), 1e-5)
    for name, value in logs.items():
        assert history[name][-1] == pytest.approx(value, rel=1e-4)


def test_own_test_and_predict_steps():
    class Odd(kg.Sequential):
        def test_step(self, data):
            x, y = data
            return {"worst": ops.max(ops.absolute(self(x, training=False) - y))}

        def predict_step(self, data):
            return ops.round(self(data[0], training=False))

    x, y = data()
    model = Odd([layers.Input((6,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    want = x @ model.get_weights()[0] + model.get_weights()[1]
    assert model.evaluate(x, y, batch_size=21, verbose=0) == pytest.approx(np.abs(want - y).max(), rel=1e-5)
    assert_close(model.predict(x, verbose=0), np.round(want), 1e-5)


def test_a_super_call_keeps_the_default_step():
    class Logged(kg.Sequential):
        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "twice": 2 * logs["loss"]}

    x, y = data()
    model = Logged([layers.Input((6,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    history = model.fit(x, y, epochs=2, verbose=0).history
    assert_close(history["twice"], 2 * np.asarray(history["loss"]), 1e-6)


def test_derivatives_with_respect_to_arguments_and_variables():
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal((4,)).astype(np.float32)
    v = kg.Variable(w)
    value, ((dx, dy), (dv,)) = kg.value_and_grad(lambda a, b: ops.sum(ops.sin(a * v) * b), (0, 1), variables=[v])(x, x)
    want, (jx, jy, jv) = jax.value_and_grad(lambda a, b, w: jnp.sum(jnp.sin(a * w) * b), (0, 1, 2))(x, x, w)
    for a, b in ((value, want), (dx, jx), (dy, jy), (dv, jv)):
        assert_close(np.asarray(a), np.asarray(b), 1e-5)

    @kg.compile
    def twice(x):  # the variable was assigned before its second derivative is taken
        _, (first,) = kg.value_and_grad(lambda: ops.sum(v * v * x), variables=[v])()
        v.assign(v - 0.5 * first)
        _, (second,) = kg.value_and_grad(lambda: ops.sum(v * v * x), variables=[v])()
        return first, second

    first, second = twice(x[0])
    assert_close(first, 2 * w * x[0], 1e-5)
    assert_close(second, 2 * (w - w * x[0]) * x[0], 1e-5)
    assert_close(v.numpy(), w - w * x[0], 1e-5)


def test_mistakes_in_own_steps_are_named():
    class Silent(kg.Sequential):
        def train_step(self, data):
            super().train_step(data)

    x, y = data()
    model = Silent([layers.Input((6,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="Silent.train_step must return a dictionary of logs.*None"):
        model.fit(x, y, verbose=0)
    with pytest.raises(ArgumentError, match="holds 3, which is no Variable"):
        kg.value_and_grad(lambda x: ops.sum(x), variables=[3])(x)
    with pytest.raises(GradientError, match="must return one number"):
        kg.value_and_grad(lambda x: x, variables=[kg.Variable(1.0)])(x)
