"""Optimizers and schedules against real Keras: same gradients, several steps, values and slots in the order in which Keras saves them."""

import numpy as np
import pytest

from kerogen.frontends.keras import optimizers, schedules
from kerogen.frontends.keras.trace import ArgSpec, compile_function
from kerogen.frontends.keras.variable import Variable
from kerogen.runtime.errors import ArgumentError, ShapeError, StateError, UnknownNameError
from tests.oracle import oracle

keras = oracle("keras")

SHAPES = [(5, 3), (3,), (1,), (2, 3, 5), ()]
CASES = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.8, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "beta_1": 0.7}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adagrad", {}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Lion", {}),
    ("Lamb", {}),
    ("Adafactor", {}),
    ("Adafactor", {"beta_2_decay": -0.6, "clip_threshold": 0.4, "relative_step": False}),
    ("Ftrl", {}),
    (
        "Ftrl",
        {
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.05,
            "beta": 0.2,
        },
    ),
    ("SGD", {"clipnorm": 0.5}),
    ("SGD", {"clipvalue": 0.3, "momentum": 0.9}),
    ("Adam", {"global_clipnorm": 0.7}),
    ("SGD", {"weight_decay": 0.03}),
    ("Adam", {"use_ema": True, "ema_momentum": 0.8}),
    ("Adam", {"use_ema": True, "ema_overwrite_frequency": 2}),
    ("Adam", {"gradient_accumulation_steps": 3}),
    ("SGD", {"gradient_accumulation_steps": 2, "momentum": 0.9, "clipnorm": 1.0}),
    ("SGD", {"loss_scale_factor": 8.0}),
]


def pair(name, kwargs, rng, rate=0.05):
    start = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
    kwargs = {"learning_rate": rate, **kwargs}
    ours, theirs = getattr(optimizers, name)(**kwargs), getattr(keras.optimizers, name)(**kwargs)
    mine = [Variable(a, name=f"v{i}") for i, a in enumerate(start)]
    other = [keras.Variable(a, name=f"v{i}") for i, a in enumerate(start)]
    return ours, theirs, mine, other


def compare(a, b, rate=0.05):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    assert np.linalg.norm(a - b) <= 5e-6 * (np.linalg.norm(b) + rate * np.sqrt(max(a.size, 1))), (a, b)


@pytest.mark.parametrize("name,kwargs", CASES)
def test_seven_steps(name, kwargs):
    rng = np.random.default_rng(5)
    ours, theirs, mine, other = pair(name, kwargs, rng)
    for _ in range(7):
        grads = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
        ours.apply(grads, mine)
        theirs.apply([keras.ops.convert_to_tensor(g) for g in grads], other)
        for a, b in zip(mine, other):
            compare(a.numpy(), b.numpy())
    assert len(ours.variables) == len(theirs.variables)
    for a, b in zip(ours.variables, theirs.variables):
        compare(a.numpy(), b.numpy())
    ours.finalize_variable_values(mine)
    theirs.finalize_variable_values(other)
    for a, b in zip(mine, other):
        compare(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    "name,kwargs", [("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {"global_clipnorm": 1.0}), ("Nadam", {})]
)
def test_inside_a_compiled_function_it_is_the_same(name, kwargs):
    rng = np.random.default_rng(6)
    ours, _, mine, _ = pair(name, kwargs, rng)
    eager = getattr(optimizers, name)(learning_rate=0.05, **kwargs)
    copies = [Variable(v.numpy(), name=f"c{i}") for i, v in enumerate(mine)]

    def step(*grads):
        ours.apply(list(grads), mine)
        return grads[0] * 2.0

    exe = compile_function(step, tuple(ArgSpec(s, "float32", f"g{i}") for i, s in enumerate(SHAPES)), name="step")
    for _ in range(3):
        grads = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
        exe(*grads)
        eager.apply(grads, copies)
    assert int(ours.iterations) == 3
    for a, b in zip([*mine, *ours.variables], [*copies, *eager.variables]):
        compare(a.numpy(), b.numpy())


SCHEDULES = [
    ("ExponentialDecay", (0.1, 7, 0.8)),
    ("ExponentialDecay", (0.1, 7, 0.8, True)),
    ("InverseTimeDecay", (0.1, 7, 0.5)),
    ("InverseTimeDecay", (0.1, 7, 0.5, True)),
    ("PiecewiseConstantDecay", ([3, 8, 15], [1.0, 0.5, 0.2, 0.1])),
    ("PolynomialDecay", (0.1, 13, 0.01, 2.0)),
    ("PolynomialDecay", (0.1, 5, 0.01, 0.5, True)),
    ("CosineDecay", (0.1, 15, 0.1)),
    ("CosineDecay", (0.01, 15, 0.0, "CosineDecay", 0.2, 6)),
    ("CosineDecayRestarts", (0.1, 4)),
    ("CosineDecayRestarts", (0.1, 5, 1.0, 0.7, 0.1)),
]


@pytest.mark.parametrize("name,args", SCHEDULES)
def test_schedules(name, args):
    ours, theirs = getattr(schedules, name)(*args), getattr(keras.optimizers.schedules, name)(*args)
    for step in (0, 1, 3, 4, 5, 8, 11, 14, 15, 16, 29, 60):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), rel=2e-5, abs=2e-8), step
    assert ours.get_config() == theirs.get_config()


def test_an_optimizer_with_a_schedule_follows_it_and_keeps_no_rate_variable():
    rng = np.random.default_rng(7)
    rate = ("ExponentialDecay", (0.1, 2, 0.5))
    ours = optimizers.SGD(getattr(schedules, rate[0])(*rate[1]), momentum=0.9)
    theirs = keras.optimizers.SGD(getattr(keras.optimizers.schedules, rate[0])(*rate[1]), momentum=0.9)
    _, _, mine, other = pair("SGD", {}, rng)
    for _ in range(5):
        grads = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
        ours.apply(grads, mine)
        theirs.apply([keras.ops.convert_to_tensor(g) for g in grads], other)
    assert len(ours.variables) == len(theirs.variables)
    for a, b in zip([*mine, *ours.variables], [*other, *theirs.variables]):
        compare(a.numpy(), b.numpy())
    with pytest.raises(StateError, match="schedule"):
        ours.learning_rate = 0.3


def test_excluded_variables_do_not_decay():
    for exclude in ({"var_names": ["v1"]},):
        rng = np.random.default_rng(8)
        ours, theirs, mine, other = pair("AdamW", {"weight_decay": 0.2}, rng)
        ours.exclude_from_weight_decay(**exclude)
        theirs.exclude_from_weight_decay(**exclude)
        grads = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
        ours.apply(grads, mine)
        theirs.apply([keras.ops.convert_to_tensor(g) for g in grads], other)
        for a, b in zip(mine, other):
            compare(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", sorted(optimizers.CLASSES))
def test_configurations(name):
    ours, theirs = (
        getattr(optimizers, name)(learning_rate=0.25, clipnorm=2.0),
        getattr(keras.optimizers, name)(learning_rate=0.25, clipnorm=2.0),
    )
    assert list(ours.get_config().items()) == list(theirs.get_config().items()) or {**ours.get_config(), "name": 0} == {
        **theirs.get_config(),
        "name": 0,
    }
    assert type(ours).from_config(ours.get_config()).get_config() == ours.get_config()


def test_errors_say_what_to_do():
    v = Variable(np.ones(3, np.float32), name="w")
    with pytest.raises(UnknownNameError, match="adam"):
        optimizers.get("addam")
    with pytest.raises(ArgumentError, match="only one of"):
        optimizers.SGD(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ArgumentError, match="learning_rat"):
        optimizers.SGD(learning_rat=0.1)
    with pytest.raises(ShapeError, match="2 gradients for 1"):
        optimizers.SGD().apply([np.ones(3, np.float32)] * 2, [v])
    opt = optimizers.SGD()
    opt.apply([np.ones(3, np.float32)], [v])
    with pytest.raises(StateError, match="other"):
        opt.apply([np.ones(3, np.float32)], [Variable(np.ones(3, np.float32), name="other")])
    opt.learning_rate = 0.5
    assert float(opt.learning_rate) == 0.5 and opt.get_config()["learning_rate"] == 0.5
