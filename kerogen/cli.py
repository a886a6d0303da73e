"""``kerogen``: the command line. Every command takes --json and --quiet.

Exit codes: 0 ok, 1 wrong result (or a fault of kerogen's), 2 usage or a damaged file, 3 a model that can't be compiled.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from ._version import __version__
from .runtime.errors import ArgumentError, InternalError, KerogenError, ModelFormatError, UnsupportedOpError

OK, WRONG, USAGE, UNSUPPORTED = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if args.command is _demo:
        args.rest = rest  # the demo has arguments of its own
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return args.command(args)
    except KerogenError as e:
        code = UNSUPPORTED if isinstance(e, UnsupportedOpError) else WRONG if isinstance(e, InternalError) else USAGE
        if args.json:
            print(json.dumps({"ok": False, "error": type(e).__name__, "message": str(e)}, indent=2))
        else:
            print(f"kerogen: {e}", file=sys.stderr)
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        return OK


def _parser() -> argparse.ArgumentParser:
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("--json", action="store_true", help="print one JSON object")
    both.add_argument("--quiet", action="store_true", help="print nothing but errors and what was asked for")
    parser = argparse.ArgumentParser(
        prog="kerogen",
        description="A compiler for Keras and ONNX models.",
        epilog="exit codes: 0 ok, 1 wrong result, 2 usage or damaged file, 3 model can't be compiled",
    )
    parser.add_argument("--version", action="version", version=f"kerogen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[both])
        sub.set_defaults(command=run)
        return sub

    def model(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("model", type=Path, help="a .onnx or .keras file")
        sub.add_argument(
            "--shape",
            action="append",
            default=[],
            metavar="NAME=N,N,...",
            help="the whole shape of an input (free dimensions are 1 otherwise)",
        )

    model(command("import", _import, "read an ONNX model and say what it is and whether it compiles"))
    sub = command("check", _check, "list everything that keeps a model from compiling; --against compares results")
    model(sub)
    sub.add_argument("--against", metavar="PEER", help="run it beside another runtime (onnxruntime) and compare the outputs")
    sub.add_argument("--seed", type=int, default=0, help="of the random inputs")
    sub.add_argument("--rtol", type=float, default=1e-3)
    sub.add_argument("--atol", type=float, default=1e-5)
    sub = command("run", _run, "compile a model and run it once on given or random inputs")
    model(sub)
    sub.add_argument("--input", action="append", default=[], metavar="NAME=FILE.npy", help="an input; those not given are random")
    sub.add_argument("--inputs", type=Path, metavar="FILE.npz", help="inputs by name")
    sub.add_argument("--output", type=Path, metavar="FILE.npz", help="write the outputs by name")
    sub.add_argument("--seed", type=int, default=0, help="of the random inputs")
    sub.add_argument("--threads", type=int)
    sub = command("bench", _bench, "time a model, beside other runtimes if asked")
    model(sub)
    sub.add_argument("--against", default="", metavar="PEER,...", help="other runtimes to time in the same rounds: onnxruntime")
    sub.add_argument("--threads", type=int, help="of every runner (default: the cores this process may use)")
    sub.add_argument("--rounds", type=int, default=30)
    sub.add_argument("--seed", type=int, default=0, help="of the random inputs")
    command("info", _info, "versions, the machine, and every environment variable")
    sub = command("cache", _cache, "where compiled code is kept, and how much of it")
    sub.add_argument("--clear", action="store_true", help="remove every entry")
    command("demo", _demo, "train a CNN on real scans of digits, and classify one")
    return parser


def _shapes(args: argparse.Namespace) -> dict[str, tuple]:
    out = {}
    for text in args.shape:
        name, found, sizes = text.rpartition("=")
        if not found or not name:
            raise ArgumentError(f"--shape {text!r}: write NAME=N,N,...")
        parts = [s.strip() for s in sizes.split(",")] if sizes.strip() else []
        for s in parts:
            if not (s.isdigit() or s.isidentifier()):
                raise ArgumentError(f"--shape {text!r}: {s!r} is neither a size nor the name of a dimension")
        out[name] = tuple(int(s) if s.isdigit() else s for s in parts)
    return out


def _print(args: argparse.Namespace, data: dict, text: str) -> None:
    if args.json:
        print(json.dumps(data, indent=2, default=str))
    elif not args.quiet:
        print(text)


def _onnx_report(args: argparse.Namespace) -> Any:
    from .frontends.onnx import check

    if args.model.suffix != ".onnx":
        raise ArgumentError(f"{args.model}: this command looks at .onnx files")
    return check(args.model, shapes=_shapes(args))


def _import(args: argparse.Namespace) -> int:
    report = _onnx_report(args)
    _print(args, report.as_dict(), str(report))
    return OK if report.ok else UNSUPPORTED


def _check(args: argparse.Namespace) -> int:
    if args.against:
        return _compare(args)
    report = _onnx_report(args)
    if report.ok:
        _print(
            args,
            report.as_dict(),
            f"{args.model.name}: all {report.nodes} nodes ({len(report.operators)} kinds of operator) can be compiled",
        )
        return OK
    if args.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print(f"{report.error()}\nnothing compiled; exit code {UNSUPPORTED}", file=sys.stderr)
    return UNSUPPORTED


def _compare(args: argparse.Namespace) -> int:
    import numpy as np

    from .peers import open_peer
    from .subject import Subject, largest_difference

    subject = Subject(args.model, _shapes(args))
    feeds = subject.random(args.seed)
    ours = subject.run(feeds)
    peer = open_peer(args.against, subject.as_onnx(), 1)
    theirs = peer.run(feeds)
    rows = []
    for name, a, b in zip(subject.output_names, ours, theirs):
        worst, scaled = largest_difference([a], [b])
        fits = np.shape(a) == np.shape(b) and bool(np.allclose(a, b, args.rtol, args.atol, equal_nan=True))
        rows.append({"output": name, "max_difference": worst, "scaled": scaled, "ok": fits})
    good = all(r["ok"] for r in rows)
    worst_row = max(rows, key=lambda r: r["scaled"])
    text = (
        f"{'ok' if good else 'WRONG'}   {sum(r['ok'] for r in rows)} of {len(rows)} outputs within rtol {args.rtol:g},"
        f" atol {args.atol:g} of {peer.label} (largest difference {worst_row['max_difference']:.2g} in {worst_row['output']!r})"
    )
    _print(args, {"ok": good, "peer": peer.label, "outputs": rows}, text)
    return OK if good else WRONG


def _run(args: argparse.Namespace) -> int:
    import numpy as np

    from .runtime import threads as pool
    from .subject import Subject

    if args.threads is not None:
        pool.set_num_threads(args.threads)
    given = {}
    if args.inputs is not None:
        given.update(_arrays(args.inputs))
    for text in args.input:
        name, found, file = text.partition("=")
        if not found:
            raise ArgumentError(f"--input {text!r}: write NAME=FILE.npy")
        given[name] = _array(Path(file))
    shapes: dict[str, tuple] = {k: v.shape for k, v in given.items()}
    subject = Subject(args.model, {**shapes, **_shapes(args)})
    feeds = {**subject.random(args.seed), **given}
    outputs = subject.run(feeds)
    begin = perf_counter()
    subject.run(feeds)
    again = perf_counter() - begin
    names = list(subject.output_names)
    if args.output is not None:
        try:
            with open(args.output, "wb") as f:
                np.savez(f, **dict(zip(names, map(np.asarray, outputs))))
        except OSError as e:
            raise ArgumentError(f"--output {args.output} can't be written: {e.strerror}") from None
    lines = [f"{n}  {np.asarray(o).dtype}{list(np.shape(o))}  {_values(np.asarray(o))}" for n, o in zip(names, outputs)]
    lines.append(f"first run {subject.compile_seconds:.2f} s (with compiling), then {again * 1e3:.3g} ms")
    _print(
        args,
        {
            "ok": True,
            "outputs": {n: {"dtype": str(np.asarray(o).dtype), "shape": list(np.shape(o))} for n, o in zip(names, outputs)},
            "random_inputs": sorted(set(feeds) - set(given)),
            "first_seconds": subject.compile_seconds,
            "seconds": again,
        },
        "\n".join(lines),
    )
    return OK


def _values(a: Any) -> str:
    flat = [f"{v:.5g}" if a.dtype.kind not in "iub" else str(v) for v in a.reshape(-1)[:6].tolist()]
    return "[" + ", ".join(flat) + (", ..." if a.size > 6 else "") + "]"


def _array(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise ModelFormatError(f"{path} is no .npy file that can be read: {e}") from None


def _arrays(path: Path) -> dict[str, Any]:
    import zipfile

    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
        if not hasattr(found, "files"):
            raise ModelFormatError(f"{path} holds one array; give it with --input NAME=FILE.npy")
        with found as f:
            return {k: f[k] for k in f.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        if isinstance(e, ModelFormatError):
            raise
        raise ModelFormatError(f"{path} is no .npz file that can be read: {e}") from None


def _bench(args: argparse.Namespace) -> int:
    from .benchmark import bench

    peers = [p.strip() for p in args.against.split(",") if p.strip()]
    report = bench(args.model, peers=peers, threads=args.threads, rounds=args.rounds, shapes=_shapes(args), seed=args.seed)
    _print(args, report.as_dict(), str(report))
    return OK if report.ok else WRONG


def _info(args: argparse.Namespace) -> int:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from .runtime import config

    packages = {}
    for name in ("numpy", "llvmlite", "networkx", "onnx", "ml_dtypes", "h5py", "triton"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    try:
        from .runtime import cpu, threads

        machine = str(cpu.host())
        count: Any = threads.num_threads()
    except KerogenError as e:
        machine, count = str(e), None
    data = {
        "kerogen": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": machine,
        "threads": count,
        "packages": packages,
        "variables": {k.name: {"value": k.get(), "doc": k.doc} for k in config.ALL},
    }
    lines = [
        f"kerogen {__version__}, Python {data['python']}, {data['platform']}",
        f"machine  {machine}",
        f"threads  {count}",
        "packages " + ", ".join(f"{k} {v}" for k, v in packages.items()),
        "environment variables",
    ]
    lines += [f"  {k.name:<22} {k.get()!s:<10} {k.doc}" for k in config.ALL]
    _print(args, data, "\n".join(lines))
    return OK


def _cache(args: argparse.Namespace) -> int:
    from .frontends.onnx.report import size_text
    from .runtime import cache

    store = cache.default()
    if args.clear:
        store.clear()
    used = store.size()
    where = store.directory or "kept in memory only"
    _print(
        args,
        {"directory": store.directory, "bytes": used, "limit": store.limit, "cleared": args.clear},
        f"{where}: {size_text(used)} of at most {size_text(store.limit)}{' (cleared)' if args.clear else ''}",
    )
    return OK


def _demo(args: argparse.Namespace) -> int:
    from .demo import main as demo

    return demo(args.rest)


if __name__ == "__main__":
    sys.exit(main())
