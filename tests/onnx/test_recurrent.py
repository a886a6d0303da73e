"""RNN, LSTM and GRU against ONNX Runtime in random configurations; Scan, Loop and If against it or onnx's reference."""

import numpy as np
import pytest

from kerogen.frontends.onnx import load
from kerogen.runtime.errors import ModelFormatError, UnsupportedOpError
from tests.compare import assert_close
from tests.oracle import oracle

onnx = oracle("onnx")
ort = oracle("onnxruntime")
helper, TensorProto = onnx.helper, onnx.TensorProto
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64, np.dtype(np.int32): TensorProto.INT32,
         np.dtype(bool): TensorProto.BOOL}


def info(name, array, shape=None):
    return helper.make_tensor_value_info(name, TYPES[array.dtype], array.shape if shape is None else shape)


def model_of(nodes, inputs, outputs, constants=None, shapes=None, opset=17):
    graph = helper.make_graph(
        nodes, "g", [info(k, a, (shapes or {}).get(k)) for k, a in inputs.items()],
        [helper.make_tensor_value_info(k, t, None) for k, t in outputs.items()],
        [onnx.numpy_helper.from_array(a, k) for k, a in (constants or {}).items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ort_results(model, inputs):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, inputs)


def results(model, inputs):
    out = load(model)(*inputs.values())
    return [np.asarray(o) for o in (out if isinstance(out, (list, tuple)) else [out])]


def check(model, inputs, tolerance=1e-5):
    for a, b in zip(results(model, inputs), ort_results(model, inputs), strict=True):
        assert_close(a, b, tolerance)


ACTIVATIONS = [("Relu", None, None), ("Tanh", None, None), ("Sigmoid", None, None), ("Affine", 0.7, 0.1), ("LeakyRelu", 0.2, None),
               ("ThresholdedRelu", 0.3, None), ("ScaledTanh", 0.8, 1.2), ("HardSigmoid", 0.3, 0.4), ("Elu", 0.6, None), ("Softsign", None, None),
               ("Softplus", None, None)]


def recurrent(op, seed):
    rng = np.random.default_rng([seed, len(op)])
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    steps, batch, features, hidden = [int(rng.integers(1, n)) for n in (8, 5, 7, 9)]
    direction = ("forward", "reverse", "bidirectional")[seed % 3]
    d = 2 if direction == "bidirectional" else 1

    def draw(*shape):
        return (rng.standard_normal(shape) * 0.6).astype(np.float32)

    constants = {"w": draw(d, gates * hidden, features), "r": draw(d, gates * hidden, hidden)}
    inputs = {"x": draw(steps, batch, features)}
    names = ["x", "w", "r", "", "", "", "", ""]
    if rng.random() < 0.7:
        constants["b"], names[3] = draw(d, 2 * gates * hidden), "b"
    if rng.random() < 0.5:
        inputs["lengths"], names[4] = rng.integers(0 if op != "LSTM" else 1, steps + 1, batch).astype(np.int32), "lengths"
        inputs["lengths"][0] = steps
    if rng.random() < 0.5:
        inputs["h"], names[5] = draw(d, batch, hidden), "h"
        if op == "LSTM":
            inputs["c"], names[6] = draw(d, batch, hidden), "c"
    attributes = {"hidden_size": hidden, "direction": direction}
    if op == "LSTM" and rng.random() < 0.4:
        constants["p"], names[7] = draw(d, 3 * hidden), "p"
    if op == "LSTM" and rng.random() < 0.3:
        attributes["input_forget"] = 1
    if op == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if rng.random() < 0.3:
        attributes["clip"] = 0.5
    if rng.random() < 0.5:
        picked = [ACTIVATIONS[int(i)] for i in rng.integers(0, len(ACTIVATIONS), d * {"RNN": 1, "GRU": 2, "LSTM": 3}[op])]
        attributes["activations"] = [p[0] for p in picked]
        for key, column in (("activation_alpha", 1), ("activation_beta", 2)):
            given = [p[column] for p in picked if p[column] is not None]
            if given:
                attributes[key] = given
    while not names[-1]:
        names.pop()
    outputs = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    return helper.make_node(op, names, outputs, **attributes), inputs, constants, outputs


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_recurrent(op, seed):
    node, inputs, constants, outputs = recurrent(op, seed)
    check(model_of([node], inputs, dict.fromkeys(outputs, TensorProto.FLOAT), constants), inputs, 2e-5)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_batch_first_is_the_other_layout_transposed(op):
    node, inputs, constants, outputs = recurrent(op, 2)
    plain = results(model_of([node], inputs, dict.fromkeys(outputs, TensorProto.FLOAT), constants), inputs)
    node.attribute.append(helper.make_attribute("layout", 1))
    swapped = {k: np.ascontiguousarray(np.swapaxes(a, 0, 1)) if a.ndim == 3 else a for k, a in inputs.items()}
    got = results(model_of([node], swapped, dict.fromkeys(outputs, TensorProto.FLOAT), constants), swapped)
    assert_close(got[0], plain[0].transpose(2, 0, 1, 3), 1e-6)
    for a, b in zip(got[1:], plain[1:], strict=True):
        assert_close(a, b.transpose(1, 0, 2), 1e-6)


def test_free_batch_and_time(rng):
    node, inputs, constants, outputs = recurrent("LSTM", 5)
    features = inputs["x"].shape[2]
    del node.input[3:]
    inputs, constants = {"x": inputs["x"]}, {k: constants[k] for k in ("w", "r")}
    del node.attribute[:]
    hidden = constants["r"].shape[2]
    node.attribute.extend([helper.make_attribute("hidden_size", hidden), helper.make_attribute("direction", "bidirectional")])
    model = model_of([node], inputs, dict.fromkeys(outputs, TensorProto.FLOAT), constants, {"x": ("time", "batch", features)})
    ours = load(model)
    for steps, batch in ((3, 2), (9, 1), (1, 4), (20, 3)):
        x = rng.standard_normal((steps, batch, features)).astype(np.float32)
        for a, b in zip(ours(x), ort_results(model, {"x": x}), strict=True):
            assert_close(np.asarray(a), b, 1e-5)


def body(nodes, inputs, outputs, constants=None):
    return helper.make_graph(nodes, "body", [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
                             [helper.make_tensor_value_info(n, t, s) for n, t, s in outputs],
                             [onnx.numpy_helper.from_array(a, k) for k, a in (constants or {}).items()])


FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def counted(condition_nodes, condition, nodes, carried, stacked=()):
    """A Loop over v with the body's inputs i, go, v."""
    return body([*condition_nodes, *nodes], [("i", INT, []), ("go", BOOL, []), ("v", FLOAT, [4])],
                [(condition, BOOL, []), (carried, FLOAT, [4]), *[(s, FLOAT, None) for s in stacked]])


def test_loop_of_a_known_length_stacks(rng):
    nodes = [helper.make_node("Cast", ["i"], ["f"], to=FLOAT), helper.make_node("Mul", ["v", "w"], ["scaled"]), helper.make_node("Add", ["scaled", "f"], ["new"])]
    loop = helper.make_node("Loop", ["n", "yes", "x"], ["last", "all", "counts"],
                            body=counted([helper.make_node("Identity", ["go"], ["on"])], "on", nodes, "new", ("new", "f")))
    inputs = {"x": rng.standard_normal(4).astype(np.float32), "w": rng.standard_normal(4).astype(np.float32)}
    constants = {"n": np.array(5, np.int64), "yes": np.array(True)}
    check(model_of([loop], inputs, {"last": FLOAT, "all": FLOAT, "counts": FLOAT}, constants), inputs)


def test_loop_that_ends_by_data(rng):
    """Both the count and a condition computed in the body."""
    condition = [helper.make_node("ReduceSum", ["v"], ["sum"], keepdims=0), helper.make_node("Less", ["sum", "limit"], ["on"])]
    loop = helper.make_node("Loop", ["n", "start", "x"], ["last"], body=counted(condition, "on", [helper.make_node("Mul", ["v", "two"], ["new"])], "new"))
    constants = {"two": np.array(2, np.float32), "limit": np.array(20, np.float32)}
    x = rng.uniform(0.5, 1, 4).astype(np.float32)
    for n in (0, 2, 50):
        for start in (True, False):
            inputs = {"x": x, "n": np.array(n, np.int64), "start": np.array(start)}
            check(model_of([loop], inputs, {"last": FLOAT}, constants), inputs)
    endless = helper.make_node("Loop", ["", "", "x"], ["last"], body=counted(condition, "on", [helper.make_node("Mul", ["v", "two"], ["new"])], "new"))
    check(model_of([endless], {"x": x}, {"last": FLOAT}, constants), {"x": x})


def test_loop_whose_value_grows_is_written_out(rng):
    graph = body([helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Concat", ["v", "x"], ["new"], axis=0)],
                 [("i", INT, []), ("go", BOOL, []), ("v", FLOAT, None)], [("on", BOOL, []), ("new", FLOAT, None)])
    inputs = {"x": rng.standard_normal(3).astype(np.float32)}
    check(model_of([helper.make_node("Loop", ["n", "", "x"], ["last"], body=graph)], inputs, {"last": FLOAT}, {"n": np.array(4, np.int64)}), inputs)


def test_stacking_a_number_of_values_that_depends_on_data_is_refused(rng):
    condition = [helper.make_node("ReduceSum", ["v"], ["sum"], keepdims=0), helper.make_node("Less", ["sum", "limit"], ["on"])]
    loop = helper.make_node("Loop", ["n", "", "x"], ["last", "all"], body=counted(condition, "on", [helper.make_node("Add", ["v", "v"], ["new"])], "new", ["new"]))
    inputs = {"x": rng.standard_normal(4).astype(np.float32)}
    constants = {"n": np.array(5, np.int64), "limit": np.array(20, np.float32)}
    with pytest.raises(UnsupportedOpError, match="the number of steps depends on data"):
        load(model_of([loop], inputs, {"last": FLOAT, "all": FLOAT}, constants))(*inputs.values())


@pytest.mark.parametrize("seed", range(4))
def test_scan_axes_and_directions(seed, rng):
    draw = np.random.default_rng(seed)
    axes, directions = [int(draw.integers(3)), int(draw.integers(-2, 1))], draw.integers(0, 2, 2).tolist()
    out_axis, out_direction = int(draw.integers(3)), int(draw.integers(2))
    shapes = [[3, 4], [2]]
    a, b = [np.insert(s, axis % (len(s) + 1), 5) for s, axis in zip(shapes, axes)]
    graph = body([helper.make_node("MatMul", ["h", "p"], ["m"]), helper.make_node("Mul", ["m", "c"], ["n"]), helper.make_node("Add", ["n", "w"], ["new"]),
                  helper.make_node("MatMul", ["new", "p"], ["y"])],
                 [("h", FLOAT, [2, 3]), ("p", FLOAT, [3, 4]), ("q", FLOAT, [2])], [("new", FLOAT, [2, 3]), ("y", FLOAT, [2, 4]), ("q2", FLOAT, [2])])
    del graph.node[:]
    graph.node.extend([helper.make_node("ReduceSum", ["p"], ["ps"], keepdims=0), helper.make_node("Mul", ["h", "ps"], ["m"]),
                       helper.make_node("Mul", ["m", "w"], ["new"]), helper.make_node("MatMul", ["new", "p"], ["y"]), helper.make_node("Exp", ["q"], ["q2"])])
    node = helper.make_node("Scan", ["h0", "a", "b"], ["last", "ys", "qs"], body=graph, num_scan_inputs=2, scan_input_axes=axes,
                            scan_input_directions=directions, scan_output_axes=[out_axis, 0], scan_output_directions=[out_direction, 1 - out_direction])
    inputs = {"h0": rng.standard_normal((2, 3)).astype(np.float32), "a": rng.standard_normal(a).astype(np.float32) * 0.3,
              "b": rng.standard_normal(b).astype(np.float32), "w": rng.standard_normal((2, 3)).astype(np.float32)}
    check(model_of([node], inputs, {"last": FLOAT, "ys": FLOAT, "qs": FLOAT}), inputs)


def test_if_computes_one_branch_and_captures(rng):
    then = body([helper.make_node("Exp", ["x"], ["a"]), helper.make_node("ReduceSum", ["a"], ["s"], keepdims=0)], [], [("a", FLOAT, [4]), ("s", FLOAT, [])])
    other = body([helper.make_node("Mul", ["x", "w"], ["b"]), helper.make_node("ReduceMax", ["b"], ["t"], keepdims=0)], [], [("b", FLOAT, [4]), ("t", FLOAT, [])])
    nodes = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), helper.make_node("Greater", ["sum", "zero"], ["go"]),
             helper.make_node("If", ["go"], ["y", "z"], then_branch=then, else_branch=other)]
    w = rng.standard_normal(4).astype(np.float32)
    for sign in (1, -1):
        inputs = {"x": sign * np.abs(rng.standard_normal(4)).astype(np.float32), "w": w}
        check(model_of(nodes, inputs, {"y": FLOAT, "z": FLOAT}, {"zero": np.array(0, np.float32)}), inputs)


def test_a_loop_in_a_scan(rng):
    inner = counted([helper.make_node("Identity", ["go"], ["on"])], "on",
                    [helper.make_node("Mul", ["v", "x_t"], ["m"]), helper.make_node("Tanh", ["m"], ["new"])], "new")
    graph = body([helper.make_node("Loop", ["n", "", "h"], ["h2"], body=inner), helper.make_node("Add", ["h2", "x_t"], ["y"])],
                 [("h", FLOAT, [4]), ("x_t", FLOAT, [4])], [("h2", FLOAT, [4]), ("y", FLOAT, [4])])
    node = helper.make_node("Scan", ["h0", "x"], ["last", "ys"], body=graph, num_scan_inputs=1)
    inputs = {"h0": rng.standard_normal(4).astype(np.float32), "x": rng.standard_normal((6, 4)).astype(np.float32)}
    check(model_of([node], inputs, {"last": FLOAT, "ys": FLOAT}, {"n": np.array(3, np.int64)}), inputs)


@pytest.mark.parametrize("change,words", [
    (dict(direction="sideways"), "direction"), (dict(activations=["Tanh"]), "has 1 activations"),
    (dict(activations=["Sigmoid", "Tanh", "Wave"]), "'Wave'"), (dict(hidden_size=3), "W must be"),
])
def test_wrong_attributes_are_told(change, words):
    node, inputs, constants, outputs = recurrent("LSTM", 0)
    keep = [a for a in node.attribute if a.name not in change and a.name not in ("activations", "activation_alpha", "activation_beta")]
    del node.attribute[:]
    node.attribute.extend([*keep, *[helper.make_attribute(k, v) for k, v in change.items()]])
    with pytest.raises((ModelFormatError, UnsupportedOpError), match=words):
        load(model_of([node], inputs, dict.fromkeys(outputs, FLOAT), constants))(*inputs.values())
