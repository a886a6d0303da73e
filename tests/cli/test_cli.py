"""The command line: what it prints, what it returns, and that a user's mistake is one message and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from kerogen.cli import OK, UNSUPPORTED, USAGE, WRONG, main
from tests.onnx import models
from tests.oracle import oracle


@pytest.fixture
def mlp(tmp_path, rng):
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.mlp(rng).SerializeToString())
    return path


@pytest.fixture
def odd(tmp_path):
    path = tmp_path / "odd.onnx"
    path.write_bytes(
        models.onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
        odd (float[n] x) => (float[n] y) { a = com.acme.Warp(x) b = Exp(a) y = NonMaxSuppression(b, x) }""").SerializeToString()
    )
    return path


def run(capsys, *args):
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_import(capsys, mlp):
    code, out, err = run(capsys, "import", mlp)
    assert code == OK and err == ""
    assert "mlp  ONNX opset 17" in out and "input   x  float32 [batch, 23]" in out and "free dimensions: batch" in out
    code, out, _ = run(capsys, "import", mlp, "--json", "--shape", "x=4,23")
    report = json.loads(out)
    assert (
        report["ok"]
        and report["free_dims"] == []
        and report["inputs"] == ["x  float32 [4, 23]"]
        and report["operators"]["Gemm"] == 2
    )
    assert run(capsys, "import", mlp, "--quiet") == (OK, "", "")


def test_check_lists_everything(capsys, odd):
    code, out, err = run(capsys, "check", odd)
    assert code == UNSUPPORTED and out == ""
    assert (
        "2 of 3 nodes can't be compiled" in err and "com.acme.Warp" in err and "NonMaxSuppression" in err and "exit code 3" in err
    )
    code, out, err = run(capsys, "check", odd, "--json")
    assert (
        code == UNSUPPORTED and err == "" and [i["operator"] for i in json.loads(out)["issues"]] == ["Warp", "NonMaxSuppression"]
    )
    for command in ("run", "bench"):
        code, out, err = run(capsys, command, odd)
        assert code == UNSUPPORTED and "com.acme.Warp" in err and "Traceback" not in err


def test_check_against_onnxruntime(capsys, mlp):
    oracle("onnxruntime")
    code, out, _ = run(capsys, "check", mlp, "--against", "onnxruntime", "--shape", "x=3,23")
    assert code == OK and "2 of 2 outputs within" in out
    code, out, _ = run(capsys, "check", mlp, "--against", "onnxruntime", "--rtol", "0", "--atol", "0", "--json")
    assert code == WRONG and not json.loads(out)["ok"], "two implementations don't agree to the bit"


def test_run(capsys, mlp, tmp_path, rng):
    x = rng.standard_normal((5, 23)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "in.npz", x=x)
    wanted = oracle("onnxruntime").InferenceSession(str(mlp)).run(None, {"x": x})
    for given in (["--input", f"x={tmp_path / 'x.npy'}"], ["--inputs", tmp_path / "in.npz"]):
        code, out, err = run(capsys, "run", mlp, *given, "--output", tmp_path / "out.npz")
        assert code == OK and err == "" and "y  float32[5, 5]" in out and "first run" in out
        with np.load(tmp_path / "out.npz") as f:
            assert f.files == ["y", "h2"]
            for name, w in zip(f.files, wanted):
                np.testing.assert_allclose(f[name], w, rtol=1e-4, atol=1e-5)


def test_run_on_random_inputs_is_reproducible(capsys, mlp, tmp_path):
    results = []
    for seed in (3, 3, 4):
        code, _, _ = run(capsys, "run", mlp, "--seed", seed, "--output", tmp_path / "o.npz", "--quiet", "--shape", "x=2,23")
        with np.load(tmp_path / "o.npz") as f:
            results.append(f["y"])
    assert results[0].shape == (2, 5) and (results[0] == results[1]).all() and (results[0] != results[2]).any()


def test_bench(capsys, mlp):
    oracle("onnxruntime")
    code, out, _ = run(
        capsys, "bench", mlp, "--against", "onnxruntime", "--rounds", "3", "--threads", "1", "--json", "--shape", "x=2,23"
    )
    report = json.loads(out)
    assert (
        code == OK
        and report["ok"]
        and report["threads"] == 1
        and report["rounds"] == 3
        and report["inputs"] == {"x": "float32[2, 23]"}
    )
    ours, theirs = report["rows"]
    assert ours["name"].startswith("kerogen") and theirs["name"].startswith("onnxruntime")
    for row in report["rows"]:
        assert 0 < row["best"] <= row["p5"] <= row["median"] <= row["p95"]
        # 2 samples, one multiply-add is two operations; activations and biases count as well
        assert row["gflops"] * row["median"] * 1e6 > 2 * 2 * (23 * 17 + 17 * 31 + 31 * 5)
    middle, low, high = theirs["ratio"]
    assert low <= middle <= high and 0 < theirs["difference"] < 1e-4
    code, out, _ = run(capsys, "bench", mlp, "--rounds", "2")
    assert code == OK and "2 alternated rounds" in out and "highest" in out


@pytest.mark.parametrize(
    "args, words",
    [
        (["import", "missing.onnx"], "no such file"),
        (["import", "README.md"], "looks at .onnx files"),
        (["run", "x.pb"], "reads .onnx and .keras"),
        (["import", "{}", "--shape", "x"], "write NAME=N,N"),
        (["import", "{}", "--shape", "z=1,2"], "no input 'z'"),
        (["import", "{}", "--shape", "x=2,24"], r"input 'x' is \[batch, 23\], not \[2, 24\]"),
        (["run", "{}", "--shape", "x=2,-3"], "neither a size nor the name"),
        (["run", "{}", "--input", "x"], "write NAME=FILE.npy"),
        (["run", "{}", "--input", "x=nothing.npy"], "no .npy file"),
        (["bench", "{}", "--against", "tpu"], "no peer 'tpu'; known: onnxruntime"),
        (["bench", "{}", "--threads", "0"], "threads"),
        (["bench", "{}", "--rounds", "0"], "rounds=0 must be positive"),
    ],
)
def test_mistakes(capsys, mlp, args, words):
    args = [str(mlp) if a == "{}" else a for a in args]
    code, out, err = run(capsys, *args)
    assert code == USAGE and out == "" and err.startswith("kerogen: ") and "Traceback" not in err
    import re

    assert re.search(words, err), err
    code, out, err = run(capsys, *args, "--json")
    assert code == USAGE and err == "" and json.loads(out)["ok"] is False


def test_wrong_input_types_and_damaged_archives(capsys, mlp, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 23)))
    code, _, err = run(capsys, "run", mlp, "--input", f"x={tmp_path / 'x.npy'}")
    assert code == USAGE and "float32" in err and "float64" in err
    np.save(tmp_path / "p.npy", np.array([{}], object), allow_pickle=True)
    code, _, err = run(capsys, "run", mlp, "--input", f"x={tmp_path / 'p.npy'}")
    assert code == USAGE and "no .npy file" in err, "a pickle is not read"
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    code, _, err = run(capsys, "run", mlp, "--inputs", tmp_path / "bad.npz")
    assert code == USAGE and "no .npz file" in err
    code, _, err = run(capsys, "run", mlp, "--inputs", tmp_path / "x.npy")
    assert code == USAGE and "--input NAME=FILE.npy" in err


def test_info_and_cache(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KEROGEN_NUM_THREADS", "1")
    monkeypatch.setenv("KEROGEN_CACHE_DIR", str(tmp_path))  # other tests fill the session's cache meanwhile
    code, out, _ = run(capsys, "info", "--json")
    report = json.loads(out)
    assert (
        code == OK and report["packages"]["numpy"] == np.__version__ and report["variables"]["KEROGEN_NUM_THREADS"]["value"] == 1
    )
    code, out, _ = run(capsys, "info")
    assert "KEROGEN_CACHE_DIR" in out
    code, out, _ = run(capsys, "cache", "--clear", "--json")
    assert code == OK and json.loads(out)["bytes"] == 0


def test_usage_errors_end_with_2(capsys):
    for args in (["bogus"], ["import"], [], ["import", "m.onnx", "--nonsense"]):
        with pytest.raises(SystemExit) as e:
            main(args)
        assert e.value.code == USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_as_a_process(mlp):
    """python -m kerogen, and a reader that goes away early."""
    done = subprocess.run([sys.executable, "-m", "kerogen", "import", str(mlp)], capture_output=True, text=True, timeout=60)
    assert done.returncode == OK and "opset 17" in done.stdout
    assert subprocess.run(
        [sys.executable, "-m", "kerogen", "--version"], capture_output=True, text=True, timeout=60
    ).stdout.startswith("kerogen ")
