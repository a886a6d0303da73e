"""Layers against real Keras, in random configurations: ``python -m tests.keras.parity --seeds N [--layers Conv2D,LSTM]``.

The table is made of the ``draws_*.py`` files beside this one. Each has functions that draw a configuration from a seeded generator:

    @layer("Conv1D")
    def conv_1d(rng):
        return Case(dict(filters=size(rng), kernel_size=pick(rng, 1, 2, 3)), [(2, size(rng, 5, 9), 3)])

``check`` compares one case with Keras: names, shapes and order of weights, configs, output shapes, files both ways, results for inference and
training, gradients of inputs and of weights, states moved by training, masks taken and given, and five training steps. Weights and statistics are
random. The mistakes a case finds are collected, so that one run tells all of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.compare import assert_close, assert_norm_close


@dataclass
class Case:
    """One configuration. ``shapes``: of the inputs, batch first; ``dtypes``: "float32" where not given.

    ``make(k)`` makes the layer with ``k`` = kerogen or keras (by default the class of the table's name with ``arguments``);
    ``call(layer, inputs)`` calls it on symbolic or real tensors (by default on the one input, or the list).
    ``high``: integers are drawn below it. ``masked``: inputs pass a Masking layer, a third of their steps masked.
    ``random``: training draws random numbers, so only inference is compared. ``config``: whether configs are equal to Keras' (False where
    Keras' own config holds objects). ``tolerance`` for results, 10 times that for gradients.
    """

    arguments: dict = field(default_factory=dict)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    dtypes: list[str] | None = None
    make: Callable[[Any], Any] | None = None
    call: Callable[[Any, list], Any] | None = None
    high: int = 5
    masked: bool = False
    random: bool = False
    config: bool = True
    tolerance: float = 1e-5
    name: str = ""

    def layer(self, k: Any) -> Any:
        return self.make(k) if self.make is not None else getattr(k.layers, self.name)(**self.arguments)

    def apply(self, layer: Any, inputs: list) -> Any:
        if self.call is not None:
            return self.call(layer, inputs)
        return layer(inputs[0] if len(inputs) == 1 else list(inputs))

    def dtype(self, i: int) -> str:
        return self.dtypes[i] if self.dtypes else "float32"

    def inputs(self, rng: np.random.Generator) -> list[np.ndarray]:
        out = []
        for i, shape in enumerate(self.shapes):
            dtype = self.dtype(i)
            if dtype == "bool":
                x: np.ndarray = rng.random(shape) < 0.7
                x[..., 0] = True  # a row that attends to nothing has no defined result
            elif dtype.startswith("int"):
                x = rng.integers(0, self.high, shape).astype(dtype)
            else:
                x = rng.standard_normal(shape).astype(dtype)
                if self.masked and x.ndim > 2:
                    gone = rng.random(shape[:2]) < 0.35
                    gone[:, 0] = False
                    x[gone] = 0
            out.append(x)
        return out

    def __str__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return f"{self.name}({arguments}) on {self.shapes}{' masked' if self.masked else ''}"


DRAWS: dict[str, Callable[[np.random.Generator], Case]] = {}


def layer(*names: str) -> Callable:
    """Adds a function that draws cases to the table; with several names it is called with the name as its second argument."""

    def add(draw: Callable) -> Callable:
        for n in names:
            DRAWS[n] = draw if len(names) == 1 else (lambda rng, n=n: draw(rng, n))
        return draw

    return add


def pick(rng: np.random.Generator, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def size(rng: np.random.Generator, low: int = 1, high: int = 7) -> int:
    """A size in [low, high]."""
    return int(rng.integers(low, high + 1))


def chance(rng: np.random.Generator, p: float = 0.5) -> bool:
    return bool(rng.random() < p)


def some(rng: np.random.Generator, **options: tuple) -> dict:
    """Arguments: each left out half of the time, else one of its options."""
    return {k: pick(rng, *v) for k, v in options.items() if chance(rng)}


def load_table() -> dict[str, Callable]:
    import tests.keras as package

    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("draws_"):
            importlib.import_module(f"tests.keras.{module.name}")
    return DRAWS


def draw(name: str, seed: int) -> tuple[Case, np.random.Generator]:
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    case = load_table()[name](rng)
    case.name = case.name or name
    return case, rng


# The comparison -----------------------------------------------------------------------------------------------------------------------------------------


def random_values(weights: list, rng: np.random.Generator) -> list[np.ndarray]:
    """Random weights and statistics: no zeros and ones that hide a wrong term; variances positive."""
    out = []
    for v in weights:
        shape = tuple(v.shape)
        if "variance" in v.name:
            out.append(np.abs(rng.standard_normal(shape)) + 0.3)
        elif np.issubdtype(np.dtype(str(v.dtype)), np.integer) or str(v.dtype) == "bool":
            out.append(np.asarray(v))
        else:
            out.append(rng.standard_normal(shape) * (0.7 if len(shape) < 2 else 1.0 / max(1.0, np.sqrt(np.prod(shape[:-1])))))
    return out


def plain(config: Any) -> Any:
    return json.loads(json.dumps(config, default=lambda x: x.get_config() if hasattr(x, "get_config") else str(x)))


def leaves(x: Any) -> list:
    if isinstance(x, dict):
        return [v for k in sorted(x) for v in leaves(x[k])]
    return [v for part in x for v in leaves(part)] if isinstance(x, (list, tuple)) else [x]


class Comparison:
    """One case, in a functional model of each library; what differs is collected in ``mistakes``."""

    def __init__(self, case: Case, rng: np.random.Generator, keras: Any, kerogen: Any, steps: bool = True):
        self.case, self.rng, self.keras, self.kg, self.steps = case, rng, keras, kerogen, steps
        self.mistakes: list[str] = []
        self.folder = tempfile.TemporaryDirectory()

    def part(self, what: str, fn: Callable) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return fn()
        except Exception as e:  # noqa: BLE001  any error is a mistake to report, and the other parts are compared all the same
            text = str(e) if isinstance(e, AssertionError) else "".join(traceback.format_exception(e)[-6:])
            self.mistakes.append(f"{what}: {text}")
            return None

    def model(self, k: Any) -> Any:
        inputs = [k.Input(s[1:], dtype=self.case.dtype(i), name=f"in{i}") for i, s in enumerate(self.case.shapes)]
        hidden = [k.layers.Masking(0.0)(x) if self.case.masked and len(x.shape) > 2 and x.dtype == "float32" else x for x in inputs]
        made = self.case.layer(k)
        out = self.case.apply(made, hidden)
        return k.Model(inputs, out), made

    def run(self) -> list[str]:
        self.theirs, self.their_layer = self.model(self.keras)  # a case that Keras refuses is a mistake of the table
        built = self.part("building", lambda: self.model(self.kg))
        if built is None:
            return self.mistakes
        self.ours, self.our_layer = built
        self.part("weights", self.weights)
        self.part("config", self.config)
        if self.case.call is None:
            self.part("compute_output_shape", self.output_shape)
        self.arrays = self.case.inputs(self.rng)
        self.part("files", self.files)
        if self.mistakes:
            return self.mistakes
        self.part("results", self.results)
        if self.case.masked:
            self.part("masks", self.masks)
        if self.steps and not self.case.random:
            self.part("five steps", self.five_steps)
        return self.mistakes

    def weights(self) -> None:
        assert [w.name for w in self.ours.weights] == [w.name for w in self.theirs.weights]
        assert [tuple(w.shape) for w in self.ours.weights] == [tuple(w.shape) for w in self.theirs.weights]
        ours, theirs = [[w.path.split("/")[1:] for w in m.trainable_weights] for m in (self.ours, self.theirs)]
        assert ours == theirs, f"trainable: {ours}, Keras has {theirs}"
        for a, b in zip(self.ours.outputs, self.theirs.outputs, strict=True):
            assert same_shape(a.shape, b.shape) and a.shape[0] is None, f"symbolic result of shape {a.shape}, Keras has {tuple(b.shape)}"
        assert [t.dtype for t in self.ours.outputs] == [str(t.dtype) for t in self.theirs.outputs], "dtypes of symbolic results"
        self.values = random_values(self.theirs.weights, self.rng)
        self.theirs.set_weights(self.values)

    def config(self) -> None:
        ours, theirs = plain(self.our_layer.get_config()), plain(self.their_layer.get_config())
        for config in (ours, theirs):
            config["name"] = ""
        if self.case.config:
            assert ours == theirs, f"config {ours}\n  Keras: {theirs}"
        again = type(self.our_layer).from_config(self.our_layer.get_config())
        config = {**plain(again.get_config()), "name": ""}
        assert config == ours, "from_config(get_config()) has another config"

    def output_shape(self) -> None:
        """Of a layer that isn't built, which stays so."""
        shapes = [(None, *s[1:]) for s in self.case.shapes]
        given: Any = shapes if len(shapes) > 1 else shapes[0]
        fresh = self.case.layer(self.kg)
        for a, b in zip(shapes_in(fresh.compute_output_shape(given)), shapes_in(self.their_layer.compute_output_shape(given)), strict=True):
            assert same_shape(a, b), f"{a}, Keras has {b}"
        assert not fresh.weights or fresh.built, "asking for the shape made weights"

    def files(self) -> None:
        """Keras' file loads here; what that model saves loads in Keras, with the same weights and architecture."""
        first, second = os.path.join(self.folder.name, "keras.keras"), os.path.join(self.folder.name, "kerogen.keras")
        self.theirs.save(first)
        self.ours = self.kg.models.load_model(first)
        for a, b in zip(self.ours.get_weights(), self.theirs.get_weights(), strict=True):
            assert_close(a, b, 0, what="weights loaded from Keras' file")
        self.ours.save(second)
        back = self.keras.models.load_model(second, compile=False)
        for a, b in zip(back.get_weights(), self.theirs.get_weights(), strict=True):
            assert_close(np.asarray(a), np.asarray(b), 0, what="weights that Keras loads from our file")
        assert plain(back.get_config()) == plain(self.theirs.get_config()), "Keras reads another architecture from our file"

    def results(self) -> None:
        """Inference; and in training mode results, gradients of sum(result * c) for random c, and the states that moved."""
        import jax
        import jax.numpy as jnp

        kg, ours, theirs = self.kg, self.ours, self.theirs
        tolerance = self.case.tolerance
        floats = [i for i, a in enumerate(self.arrays) if a.dtype.kind == "f"]
        fixed = {i: a for i, a in enumerate(self.arrays) if i not in floats}
        free = [self.arrays[i] for i in floats]
        training = not self.case.random
        shapes = [tuple(int(n) for n in t.shape) for t in leaves(jax.eval_shape(
            lambda tv, ntv, xs: theirs.stateless_call(tv, ntv, xs, training=False)[0], *self.state(), self.arrays))]
        cs = [self.rng.standard_normal(s).astype(np.float32) for s in shapes]

        def their_loss(tv, ntv, given):
            given = iter(given)
            xs = [fixed[i] if i in fixed else next(given) for i in range(len(self.arrays))]
            out, moved = theirs.stateless_call(tv, ntv, xs if len(xs) > 1 else xs[0], training=training)
            total = sum(jnp.sum(o.astype("float32") * c) for o, c in zip(leaves(out), cs))
            return total, (out, moved)

        @jax.jit
        def their_results(tv, ntv, given, xs):
            inference = theirs.stateless_call(tv, ntv, xs if len(xs) > 1 else xs[0], training=False)[0]
            (_, (out, moved)), grads = jax.value_and_grad(their_loss, (0, 2), has_aux=True)(tv, ntv, given)
            return inference, out, moved, grads

        inference, out, moved, (weight_grads, input_grads) = their_results(*self.state(), free, self.arrays)

        def our_loss(*given):
            it = iter(given)
            xs = [fixed[i] if i in fixed else next(it) for i in range(len(self.arrays))]
            out = ours(xs if len(xs) > 1 else xs[0], training=training)
            total = 0.0
            for o, c in zip(leaves(out), cs, strict=True):
                total = total + kg.ops.sum(kg.ops.cast(o, "float32") * c)
            return total, out

        assert_all(ours(self.arrays if len(self.arrays) > 1 else self.arrays[0]), inference, tolerance, "inference")
        derive = kg.value_and_grad(our_loss, tuple(range(len(free))), variables=ours.trainable_variables, has_aux=True)
        (_, mine), (by_input, by_weight) = derive(*free)
        assert_all(mine, out, tolerance, "result in training mode" if training else "result")
        for i, a, b in zip(floats, leaves(by_input), input_grads, strict=True):
            assert_close(a, np.asarray(b), 10 * tolerance, what=f"gradient of input {i}")
        for v, a, b in zip(ours.trainable_variables, by_weight, weight_grads, strict=True):
            assert_close(a, np.asarray(b), 10 * tolerance, what=f"gradient of {v.path}")
        if training:
            for v, b in zip(ours.non_trainable_variables, moved, strict=True):
                if v.name == "seed_generator_state":
                    continue  # seeds are drawn by each library and no part of files
                assert_close(v.numpy(), np.asarray(b), tolerance, what=f"{v.path} after training", check_dtype=False)

    def state(self) -> tuple[list, list]:
        return [v.value for v in self.theirs.trainable_variables], [v.value for v in self.theirs.non_trainable_variables]

    def masks(self) -> None:
        ours, theirs = [probed(k, m) for k, m in ((self.kg, self.ours), (self.keras, self.theirs))]
        given = self.arrays if len(self.arrays) > 1 else self.arrays[0]
        assert_all(ours(given), theirs(given), 0, "mask of the result (1: kept, 0: masked, -1: no mask)")

    def five_steps(self) -> None:
        if not self.theirs.trainable_weights:
            return
        targets = [self.rng.standard_normal(tuple(np.shape(o))).astype(np.float32) for o in leaves(
            self.ours(self.arrays if len(self.arrays) > 1 else self.arrays[0]))]
        self.theirs.set_weights(self.values), self.ours.set_weights(self.values)
        losses = []
        for k, m in ((self.kg, self.ours), (self.keras, self.theirs)):
            m.compile(k.optimizers.SGD(0.05, momentum=0.9), "mse" if len(targets) == 1 else ["mse"] * len(targets))
            x, y = [a if len(a) > 1 else a[0] for a in (self.arrays, targets)]
            losses.append([float(m.train_on_batch(x, y, return_dict=True)["loss"]) for _ in range(5)])
        assert_close(losses[0], losses[1], 10 * self.case.tolerance, what="losses of five steps")
        for v, a, b in zip(self.theirs.weights, self.ours.get_weights(), self.theirs.get_weights(), strict=True):
            if a.dtype.kind == "f":
                assert_norm_close(a, np.asarray(b), 1e-4, 0.05 * np.sqrt(a.size), what=f"{v.path} after five steps")


def shapes_in(x: Any) -> list[tuple]:
    """The shapes in a structure of them."""
    if isinstance(x, (list, tuple)) and all(d is None or isinstance(d, int) for d in x):
        return [tuple(x)]
    return [s for part in x for s in shapes_in(part)]


def same_shape(ours: Any, theirs: Any) -> bool:
    """Keras' rules forget some sizes that are known."""
    return len(ours) == len(theirs) and all(n == m or m is None for n, m in zip(ours, theirs))


def assert_all(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        assert_close(np.asarray(a), np.asarray(b), tolerance, what=what)


def probed(k: Any, model: Any) -> Any:
    """A model that gives the masks of another's results as numbers."""

    class Probe(k.layers.Layer):
        def call(self, x: Any, mask: Any = None) -> Any:
            return k.ops.cast(k.ops.full_like(x[:1], -1.0), "float32") if mask is None else k.ops.cast(mask, "float32")

        def compute_mask(self, x: Any, mask: Any = None) -> Any:
            return None

    return k.Model(model.inputs, [Probe()(t) for t in model.outputs])


def check(name: str, seed: int, steps: bool = True) -> tuple[Case, list[str]]:
    """The case drawn for the layer ``name`` with ``seed``, and what is wrong with it."""
    import keras

    import kerogen

    case, rng = draw(name, seed)
    keras.utils.clear_session(free_memory=False), kerogen.utils.clear_session()
    keras.utils.set_random_seed(seed)
    return case, Comparison(case, rng, keras, kerogen, steps).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.keras.parity", description="Random configurations of layers against real Keras.")
    parser.add_argument("--seeds", type=int, default=4, help="configurations of each layer")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--layers", help="names, separated by commas; all unless given")
    arguments = parser.parse_args()
    os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    wrong = 0
    names = arguments.layers.split(",") if arguments.layers else sorted(load_table())
    for name in names:
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            case, mistakes = check(name, seed)
            if mistakes:
                wrong += 1
                print(f"seed {seed}: {case}", *[f"    {m}" for m in mistakes], sep="\n", flush=True)
    print(f"{len(names) * arguments.seeds} configurations of {len(names)} layers, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    from tests.keras import parity  # the table's files import this module by its full name: there must be one table

    sys.exit(parity.main())
