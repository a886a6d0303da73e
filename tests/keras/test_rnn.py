"""Recurrent layers beyond the parity table (``draws_recurrent.py``): custom cells, states, dropout, free time, how the loop is built, errors."""

import numpy as np
import pytest

import kerogen as kg
from kerogen import layers, ops
from kerogen.runtime.errors import ArgumentError, KerogenError, ShapeError, StateError, UnsupportedOpError
from tests.compare import assert_close
from tests.oracle import oracle

keras = oracle("keras")


def values_like(weights, rng):
    return [rng.standard_normal(tuple(w.shape)) * 0.5 for w in weights]


def same_weights(ours, theirs, rng):
    values = values_like(theirs.weights, rng)
    ours.set_weights(values), theirs.set_weights(values)


def leaves(x):
    return [v for part in x for v in leaves(part)] if isinstance(x, (list, tuple)) else [x]


def assert_same(ours, theirs, tolerance=1e-5):
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        assert_close(np.asarray(a), np.asarray(b), tolerance)


def jitted(theirs):
    """A built Keras layer or model as one compiled function: several times faster than op by op."""
    import jax

    return jax.jit(lambda x, **kwargs: theirs(x, **kwargs))


def minimal_cell(k):
    """Keras' own example of a cell, with another output size than its state's."""

    class MinimalCell(k.layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units, self.state_size, self.output_size = units, [units, 1], units + 1

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="uniform", name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), initializer="uniform", name="recurrent_kernel")

        def call(self, inputs, states):
            h, count = states
            new = k.ops.tanh(k.ops.matmul(inputs, self.kernel) + k.ops.matmul(h, self.recurrent_kernel)) + 0.1 * count
            return k.ops.concatenate([new, count], axis=-1), [new, count + 1]

    return MinimalCell


@pytest.mark.parametrize("options", [{}, {"return_sequences": True, "return_state": True}, {"go_backwards": True, "return_state": True},
                                     {"unroll": True, "return_state": True}], ids=str)
def test_custom_cell(options, rng):
    x = rng.standard_normal((3, 7, 4)).astype(np.float32)
    ours, theirs = [k.layers.RNN(minimal_cell(k)(5), **options) for k in (kg, keras)]
    ours.build(x.shape), theirs.build(x.shape)
    same_weights(ours, theirs, rng)
    assert_same(ours(x), jitted(theirs)(x))
    mask = rng.random((3, 7)) < 0.6
    ours.zero_output_for_mask = theirs.zero_output_for_mask = True
    if "unroll" not in options:
        assert_same(ours(x, mask=mask), jitted(theirs)(x, mask=mask))
    ours.zero_output_for_mask = theirs.zero_output_for_mask = False
    if "unroll" in options:
        assert_same(ours(x, mask=mask), theirs(x, mask=mask))
    else:
        with pytest.raises(ShapeError, match="set zero_output_for_mask=True"):
            ours(x, mask=mask)


def test_a_cell_need_not_be_a_layer(rng):
    class Sum:
        state_size = 3

        def call(self, inputs, states):
            s = states[0] + inputs
            return s * 2, s

    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    y, s = layers.RNN(Sum(), return_sequences=True, return_state=True)(x)
    assert_close(y, 2 * np.cumsum(x, 1), 1e-6)
    assert_close(s, x.sum(1), 1e-6)


def test_custom_cells_stack_with_kerogens(rng):
    x = rng.standard_normal((3, 6, 4)).astype(np.float32)
    ours, theirs = [k.layers.RNN([k.layers.GRUCell(3), minimal_cell(k)(5), k.layers.LSTMCell(2)], return_state=True) for k in (kg, keras)]
    ours.build(x.shape), theirs.build(x.shape)
    same_weights(ours, theirs, rng)
    assert_same(ours(x), jitted(theirs)(x))


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_stateful(kind, rng):
    def make(k):
        return k.Sequential([k.layers.Input(batch_shape=(3, None, 4)), getattr(k.layers, kind)(5, stateful=True, name="r"), k.layers.Dense(2)])

    ours, theirs = make(kg), make(keras)
    same_weights(ours, theirs, rng)
    assert len(ours.weights) == len(theirs.weights), "states are no weights"
    xs = [rng.standard_normal((3, t, 4)).astype(np.float32) for t in (4, 1, 6)]
    first = None
    for x in xs:
        a = ours.predict(x, verbose=0)
        assert_same(a, theirs(x))  # not its predict: below JAX that loses the states
        first = a if first is None else first
    ours.get_layer("r").reset_state()
    assert_close(ours.predict(xs[0], verbose=0), first, 0)
    assert (ours.predict(xs[0], verbose=0) != first).any()
    with pytest.raises(ShapeError, match="where 3 is expected"):
        ours.predict(xs[0][:2], verbose=0)


def test_stateful_needs_a_batch_size_and_eager_calls_have_one(rng):
    with pytest.raises(ShapeError, match="batch size must be known"):
        layers.LSTM(3, stateful=True)(layers.Input((4, 2)))
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)
    ours, theirs = [k.layers.Bidirectional(k.layers.GRU(3, stateful=True, return_sequences=True)) for k in (kg, keras)]
    assert ours.states is None
    ours(x), theirs(x)
    same_weights(ours, theirs, rng)
    ours.reset_state(), theirs.reset_state()
    for _ in range(3):
        assert_same(ours(x), theirs(x))
    assert len(ours.states) == 2
    alone = layers.GRU(3, stateful=True)
    alone.build((2, 4, 3))
    with pytest.raises(ShapeError, match="built for a batch of 2"):
        alone(np.ones((3, 4, 3), np.float32))
    with pytest.raises(StateError, match="isn't stateful"):
        layers.Bidirectional(layers.GRU(3)).reset_state()


def test_encoder_and_decoder_with_symbolic_initial_states(rng):
    def make(k):
        a, b = k.Input((None, 3)), k.Input((None, 2))
        _, h, c = k.layers.LSTM(4, return_state=True)(a)
        y = k.layers.LSTM(4, return_sequences=True)(b, initial_state=[h, c])
        z = k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True), merge_mode="sum")(y, initial_state=[h, c, c, h])
        return k.Model([a, b], k.layers.Dense(3)(z))

    ours, theirs = make(kg), make(keras)
    same_weights(ours, theirs, rng)
    x = [rng.standard_normal(s).astype(np.float32) for s in ((5, 6, 3), (5, 4, 2))]
    y = rng.standard_normal((5, 4, 3)).astype(np.float32)
    assert_same(ours.predict(x, verbose=0), theirs.predict(x, verbose=0))
    losses = []
    for k, m in ((kg, ours), (keras, theirs)):
        m.compile(k.optimizers.Adam(0.01), "mse")
        losses.append([float(m.train_on_batch(x, y)) for _ in range(4)])
    assert_close(losses[0], losses[1], 1e-4)


def test_free_time_axis_serves_every_length(rng):
    ours, theirs = [k.Sequential([k.layers.Input((None, 3)), k.layers.GRU(4, return_sequences=True), k.layers.LSTM(5)]) for k in (kg, keras)]
    same_weights(ours, theirs, rng)
    for batch, steps in ((2, 1), (3, 9), (1, 30)):
        x = rng.standard_normal((batch, steps, 3)).astype(np.float32)
        assert_same(ours(x), jitted(theirs)(x))
    assert ours.output_shape == (None, 5)


def test_input_projection_is_one_product_before_the_loop():
    from kerogen.compiler.ops.contract import DotGeneral
    from kerogen.compiler.ops.control import Scan
    from kerogen.frontends.keras.trace import ArgSpec, Traced
    from kerogen.runtime.dim import Dim

    for layer, inside in ((layers.LSTM(5), 1), (layers.GRU(5), 1), (layers.GRU(5, reset_after=False), 2), (layers.SimpleRNN(5), 1)):
        traced = Traced(lambda x, layer=layer: layer(x), (ArgSpec(("batch", 7, 3), "float32", "x"),), "rnn")
        nodes = traced.graph({"batch": Dim.free("batch", 7)}).nodes
        (scan,) = [n for n in nodes if isinstance(n.op, Scan)]
        assert sum(isinstance(n.op, DotGeneral) for n in nodes) == 1, "the input's product, over all steps"
        assert sum(isinstance(n.op, DotGeneral) for n in scan.op.body.graph.nodes) == inside
        assert len(scan.op.body.graph.outputs) == scan.op.carries, "the last output is a state; none is stacked"


def test_time_distributed_needs_no_loop(rng):
    from kerogen.compiler.ops.control import Scan
    from kerogen.frontends.keras.trace import ArgSpec, Traced
    from kerogen.runtime.dim import Dim

    layer = layers.TimeDistributed(kg.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(2)]))
    traced = Traced(lambda x: layer(x), (ArgSpec(("batch", 3, 6, 5, 2), "float32", "x"),), "time")
    assert not any(isinstance(n.op, Scan) for n in traced.graph({"batch": Dim.free("batch", 7)}).nodes)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.3, 0.5)], ids=str)
def test_dropout_with_given_masks_is_keras(kind, rates, rng):
    """Masks are random, so both libraries get the same ones; how they are used is compared."""
    x = rng.standard_normal((3, 5, 4)).astype(np.float32)
    options = [{}, {"reset_after": False}] if kind == "GRU" else [{}]
    for more in options:
        ours, theirs = [getattr(k.layers, kind)(6, dropout=rates[0], recurrent_dropout=rates[1], return_sequences=True, **more) for k in (kg, keras)]
        ours.build(x.shape), theirs.build(x.shape)
        same_weights(ours, theirs, rng)
        count = getattr(theirs.cell, "dropout_mask_count", None)
        assert ours.cell.dropout_mask_count == count

        def draw(rate, size, count=count):
            masks = [(rng.random((3, size)) >= rate).astype(np.float32) / (1 - rate) for _ in range(count or 1)]
            return masks if count else masks[0]

        given = [draw(rates[0], 4), draw(rates[1], 6) if rates[1] else None]
        for cell in (ours.cell, theirs.cell):
            cell.get_dropout_mask = lambda x, given=given: given[0]
            cell.get_recurrent_dropout_mask = lambda x, given=given: given[1]
        import jax

        assert_same(ours(x, training=True), jax.jit(lambda x, theirs=theirs: theirs(x, training=True))(x))


def test_dropout_masks_stay_over_time_and_change_between_calls(rng):
    def layer(**rates):
        made = layers.SimpleRNN(40, activation="linear", use_bias=False, return_sequences=True, seed=3, **rates)
        made(np.ones((20, 9, 40), np.float32))
        made.set_weights([np.eye(40), np.zeros((40, 40))])
        return made

    x = np.ones((20, 9, 40), np.float32)
    made = layer(dropout=0.25)
    a, b = np.asarray(made(x, training=True)), np.asarray(made(x, training=True))
    assert (a == a[:, :1]).all(), "one mask for all steps"
    assert set(np.unique(a).round(5)) == {0.0, np.float32(1 / 0.75).round(5)}
    assert 0.18 < (a[:, 0] == 0).mean() < 0.32
    assert (a != b).any() and (np.asarray(made(x)) == 1).all()
    state = layer(recurrent_dropout=0.25)
    state.set_weights([np.zeros((40, 40)), np.eye(40)])
    y = np.asarray(layers.RNN(state.cell, return_sequences=True)(x, initial_state=[np.ones((20, 40), np.float32)], training=True))
    alive = y[:, 0] != 0
    assert 0.68 < alive.mean() < 0.82
    assert_close(y[:, -1][alive], np.full(alive.sum(), (1 / 0.75) ** 9, np.float32), 1e-4)
    assert (y[:, 1:][np.broadcast_to(~alive[:, None], y[:, 1:].shape)] == 0).all()


def test_dropout_in_stacked_and_bidirectional_layers_trains(rng):
    x, y = rng.standard_normal((6, 5, 3)).astype(np.float32), rng.standard_normal((6, 2)).astype(np.float32)
    model = kg.Sequential([layers.Input((5, 3)),
                           layers.Bidirectional(layers.LSTM(4, dropout=0.2, recurrent_dropout=0.3, return_sequences=True)),
                           layers.RNN([layers.GRUCell(4, dropout=0.5), layers.SimpleRNNCell(3, dropout=0.1, recurrent_dropout=0.1)]), layers.Dense(2)])
    model.compile("adam", "mse")
    before = [v.numpy() for v in model.variables if v.name == "seed_generator_state"]
    history = model.fit(x, y, epochs=2, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    after = [v.numpy() for v in model.variables if v.name == "seed_generator_state"]
    assert all((a[0] == b[0]) and a[1] > b[1] for a, b in zip(after, before)), "every cell drew masks"
    assert (model.predict(x, verbose=0) == model.predict(x, verbose=0)).all()


def test_random_numbers_and_losses_inside_a_custom_cell(rng):
    """What a step assigns (the seed's counter) is carried; losses of all steps are summed."""

    class Noisy(layers.Layer):
        def __init__(self):
            super().__init__()
            self.state_size, self.seed = 3, kg.random.SeedGenerator(5)

        def call(self, inputs, states):
            self.add_loss(ops.sum(ops.square(inputs)))
            return inputs + kg.random.uniform(inputs.shape, seed=self.seed), states

    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    cell = Noisy()
    layer = layers.RNN(cell, return_sequences=True)
    y = np.asarray(layer(x)) - x
    assert len(np.unique(y.round(5))) == y.size, "every step has numbers of its own"
    assert cell.seed.state.numpy().tolist() == [5, 6]
    assert_close(np.asarray(layer.losses[0]), np.square(x).sum(), 1e-5)


def test_weights_argument_and_names_of_bidirectional(rng):
    first = layers.Bidirectional(layers.LSTM(3, name="inner"))
    x = rng.standard_normal((2, 4, 5)).astype(np.float32)
    y = first(x)
    again = layers.Bidirectional(layers.LSTM(3, name="inner"), weights=first.get_weights())
    assert_close(again(x), y, 0)
    assert (first.forward_layer.name, first.backward_layer.name) == ("forward_inner", "backward_inner")
    with pytest.raises(ArgumentError, match="merge_mode is one of"):
        layers.Bidirectional(layers.LSTM(3), merge_mode="max")
    with pytest.raises(ArgumentError, match="one must go forwards"):
        layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3))
    with pytest.raises(ArgumentError, match="same return_sequences"):
        layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3, go_backwards=True, return_sequences=True))
    with pytest.raises(ArgumentError, match="works on RNN, LSTM, GRU"):
        layers.Bidirectional(layers.Dense(3))


def test_mixed_precision_keeps_variables_wide(rng):
    layer = layers.LSTM(5, dtype="mixed_bfloat16", return_sequences=True)
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    y = layer(x)
    assert str(y.dtype) == "bfloat16" and layer.weights[0].dtype == "float32"
    exact = layers.LSTM(5, return_sequences=True)
    exact(x)
    exact.set_weights(layer.get_weights())
    assert_close(np.asarray(y, np.float32), np.asarray(exact(x)), 3e-2)


def test_mask_of_embedding_reaches_loss_through_recurrent_layers(rng):
    def make(k):
        return k.Sequential([k.layers.Input((7,), dtype="int32"), k.layers.Embedding(9, 4, mask_zero=True),
                             k.layers.Bidirectional(k.layers.GRU(3, return_sequences=True)), k.layers.LSTM(4, return_sequences=True), k.layers.Dense(2)])

    ours, theirs = make(kg), make(keras)
    same_weights(ours, theirs, rng)
    ids = rng.integers(1, 9, (5, 7)).astype(np.int32)
    ids[:, 5:] = 0
    ids[2, :3] = 0
    y = rng.standard_normal((5, 7, 2)).astype(np.float32)
    losses = []
    for k, m in ((kg, ours), (keras, theirs)):
        m.compile(k.optimizers.SGD(0.1), "mse")
        losses.append([float(m.train_on_batch(ids, y)) for _ in range(3)])
    assert_close(losses[0], losses[1], 1e-5)


@pytest.mark.parametrize("make,error,words", [
    (lambda: layers.RNN(layers.Dense(3)), ArgumentError, "has no `state_size`"),
    (lambda: layers.RNN([layers.GRUCell(3), object()]), ArgumentError, "has no `call`"),
    (lambda: layers.LSTM(0), ArgumentError, "units must be a positive integer"),
    (lambda: layers.GRU(3, use_cudnn="yes"), ArgumentError, "use_cudnn"),
    (lambda: layers.LSTM(3, use_cudnn=True), UnsupportedOpError, "cuDNN"),
    (lambda: layers.LSTM(3, dropout="much"), ArgumentError, "dropout must be a number"),
    (lambda: layers.LSTM(3)(layers.Input((4,))), ShapeError, "expected rank 3"),
    (lambda: layers.LSTM(3)(layers.Input((4, None))), ArgumentError, "must have a known size"),
    (lambda: layers.LSTM(3, unroll=True)(layers.Input((None, 4))), ShapeError, "unroll=True needs a known number"),
    (lambda: layers.LSTM(3)(np.ones((2, 4, 5), np.float32), initial_state=[np.ones((2, 3), np.float32)]), ArgumentError, "must have 2 tensors"),
    (lambda: layers.GRU(3)(np.ones((2, 4, 5), np.float32), initial_state=[np.ones((2, 4), np.float32)]), ShapeError, "initial state 0 has shape"),
    (lambda: layers.GRU(3)(np.ones((2, 4, 5), np.float32), mask=np.ones((2, 3), bool)), ShapeError, "the mask has shape"),
    (lambda: layers.TimeDistributed(layers.Dense(3))(np.ones((2, 4), np.float32)), ShapeError, "at least 3 axes"),
    (lambda: layers.ConvLSTM2D(3, 2, strides=2, dilation_rate=2), ArgumentError, "can't both exceed 1"),
    (lambda: layers.ConvLSTM2D(3, 2)(layers.Input((3, None, 4, 2))), ArgumentError, "must be known"),
])
def test_errors(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_cell_that_breaks_its_promises_is_told(rng):
    class Cell(layers.Layer):
        state_size = 3

        def __init__(self, step):
            super().__init__()
            self.step = step

        def call(self, inputs, states):
            return self.step(inputs, states)

    x = np.ones((2, 4, 3), np.float32)
    for step, words in ((lambda x, s: x, "must return a pair"), (lambda x, s: (x, [x, x]), "takes 1 states and returns 2"),
                        (lambda x, s: (x, ops.concatenate([x, x])), r"state 0: it is float32\[batch, 3\] before and float32\[2\*batch, 3\] after"),
                        (lambda x, s: (x, ops.cast(x, "int32")), "must keep its type")):
        with pytest.raises(KerogenError, match=words):
            layers.RNN(Cell(step))(x)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_masked_steps_that_are_written_out_repeat_the_output_before(kind, sequences, rng):
    x, mask = rng.standard_normal((3, 5, 4)).astype(np.float32), rng.random((3, 5)) < 0.5
    mask[0, 0], mask[1, -1], mask[2] = False, False, False
    ours, theirs = [getattr(k.layers, kind)(2, unroll=True, return_sequences=sequences, return_state=True) for k in (kg, keras)]
    ours.build(x.shape), theirs.build(x.shape)
    same_weights(ours, theirs, rng)
    first = [rng.standard_normal((3, 2)).astype(np.float32) for _ in range(2 if kind == "LSTM" else 1)]
    for states in (None, first):
        assert_same(ours(x, mask=mask, initial_state=states), theirs(x, mask=mask, initial_state=states))
    ours.zero_output_for_mask = True  # Keras' JAX backend forgets it here; its others give zeros, as the argument says
    y = np.asarray(ours(x, mask=mask)[0])
    assert not y[~mask].any() if sequences else not y[~mask[:, -1]].any()
