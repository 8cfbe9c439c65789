"""What a user types: JSON alone, tables that are not cut, devices, help that can be typed; one line for bad files."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import paradigms.cli.model_job
from command_line import SHORT, call, commands, tiny
from paradigms import models
from paradigms.cli import app as cli
from paradigms.cli import plan as planrun
from paradigms.cli.output import CommandOutput
from paradigms.files import is_png
from paradigms.models.net import UNet

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny(tmp_path_factory.mktemp("models") / "tiny.safetensors"))


def refused(*args: str, code: int = 2) -> str:
    """The one line that a command is refused with."""
    found, out, err = call(*args)
    assert (found, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("paradigms: ") and "Traceback" not in err and len(err) < 2100
    return err


# --json


def test_json_is_one_object_and_all_of_standard_output(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    """B13: whatever else prints."""
    forward = UNet.forward

    def loud(*args: Any, **how: Any) -> Any:
        print("hello from a network")
        return forward(*args, **how)

    monkeypatch.setattr(UNet, "forward", loud)
    for more in ((), ("--count", "2")):
        short = SHORT if not more else SHORT[:4]
        out = tmp_path / str(len(more))
        code, said, err = call("sample", model, *short, *more, "--json", "--out", str(out))
        assert code == 0 and "hello from a network" in err
        assert {Path(f).name for f in json.loads(said)["files"]} <= {f.name for f in out.iterdir()}


def test_paths_are_printed_where_json_is_not_asked_for(model: str, tmp_path: Path) -> None:
    _, out, _ = call("sample", model, *SHORT, "--out", str(tmp_path))
    assert {Path(line) for line in out.splitlines()} == set(tmp_path.iterdir())


# plan


def test_the_plan_prints_every_column_whole(model: str, tmp_path: Path) -> None:
    """B13: of numbers of devices whose columns are wider than 80 characters together."""
    how = ("--model", model, "--rule", "ddim", "--steps", "6", "--windows", "2,4", "--device", "cpu")
    devices = [2**k for k in range(12)]
    code, out, err = call("plan", *how, "--devices", ",".join(map(str, devices)), "--out", str(tmp_path))
    assert code == 0, err
    table = out[out.index("Speedup (window)") :].splitlines()
    assert table[2].replace("┃", " ").split() == ["link", *map(str, devices)]
    found = json.loads((tmp_path / "plan.json").read_text())["plan"]
    for p in found:
        assert f"{p['speedup']:.2f} ({p['window']})" in out
    assert "…" not in out and max(map(len, table)) > 100


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_window_of_a_trace_is_that_of_the_run(batch: int, model: str, tmp_path: Path) -> None:
    """B13: samples of a batch are not at one row, so first and last row evaluated may be further apart."""
    how = ("--rule", "ddpm", "--steps", "60", "--window", "16", "--batch", str(batch), "--tolerance", "0.1")
    assert call("sample", model, *how, "--out", str(tmp_path))[0] == 0
    kept = json.loads((tmp_path / "trace.json").read_text())
    (trace,) = planrun.read_traces(tmp_path / "trace.json")
    assert (trace.window, trace.batch, trace.N, trace.rounds) == (16, batch, 60, kept["rounds"])
    if batch == 8:
        assert max(end - begin for begin, end, *_ in kept["trace"]) > 16  # the case that was read wrongly
    for row in kept["trace"]:
        row.pop()  # a trace of 0.1.0 without windows
    (tmp_path / "trace.json").write_text(json.dumps(kept))
    assert planrun.read_traces(tmp_path / "trace.json")[0].window == 16


# help and names


@pytest.mark.parametrize("command", [(), ("bench",)])
def test_a_bare_program_prints_its_help(command: tuple[str, ...]) -> None:
    """B13."""
    code, out, err = call(*command)
    assert code == 0 and "Usage:" in out and "Commands" in out and not err


def test_helps_examples_need_no_file_that_pip_does_not_bring() -> None:
    """B13: what they name is made by a command of the example before, or ships in the package."""
    for name in commands():
        text = " ".join(call(*name.split(), "--help")[1].replace("│", " ").split())
        made = set(re.findall(r"--out (\S+?)[;.]? ", text + " "))
        for path in re.findall(r"\b[\w./-]+\.(?:json|safetensors|png|txt|py)\b", text):
            known = path.startswith(tuple(made)) or path in ("trace.json", "run.json", "rounds.json")
            assert known or (Path(cli.__file__).parent / path).exists(), (name, path)


def test_helps_example_of_a_plan_runs(model: str, tmp_path: Path) -> None:
    """B13."""
    text = " ".join(call("plan", "--help")[1].split())
    sample, plan = re.search(r"paradigms (sample scenes [^;]*); paradigms (plan \S+ --latency sd2-a100)", text).groups()  # type: ignore[union-attr]
    short = sample.replace("scenes", model).replace("out/run", str(tmp_path / "run")).split()
    assert call(*short, "--rule", "ddim", "--steps", "40", "--batch", "1")[0] == 0
    code, _, err = call(*plan.replace("out/run", str(tmp_path / "run")).split(), "--out", str(tmp_path / "plan"))
    assert code == 0, err


@pytest.mark.parametrize("name", [("latent",), ("--model", "latent")])
def test_the_latent_model_is_known(name: tuple[str, ...], tmp_path: Path) -> None:
    """B13: a name as digits and scenes are."""
    how = ("--prompt", "pines, snow", "--steps", "2", "--device", "cpu", "--json", "--out", str(tmp_path))
    code, out, err = call("sample", *name, *how)
    assert code == 0, err
    said = json.loads(out)
    assert (said["model"], said["pipeline"]) == ("latent", "StableDiffusionPipeline")
    assert np.asarray(Image.open(tmp_path / "parallel-0.png")).shape == (64, 64, 3)


@pytest.mark.parametrize("command", ["demo", "plan"])
def test_where_no_pipeline_is_taken_the_latent_model_is_refused(command: str, tmp_path: Path) -> None:
    assert "type paradigms sample latent" in refused(command, "--model", "latent", "--out", str(tmp_path / "new"))


# devices

TARGETS = [("sample", "digits"), ("sample", "latent", "--prompt", "a"), ("demo", "--quick"), ("plan",)]


@pytest.mark.parametrize("target", TARGETS, ids=" ".join)
@pytest.mark.parametrize("name", ["abacus", "meta", "cuda:99", "CUDA", ""])
def test_a_device_that_is_not_here_is_refused_by_naming_what_is(target: tuple, name: str, tmp_path: Path) -> None:
    """B13: for every model and the demo."""
    line = refused(*target, "--device", name, "--out", str(tmp_path / "new"))
    assert f"--device is {name!r}, which is not here; type cpu" in line and not (tmp_path / "new").exists()


def test_a_model_runs_where_it_was_told_to(model: str, tmp_path: Path) -> None:
    code, out, err = call("sample", model, *SHORT, "--device", "cpu", "--json", "--out", str(tmp_path))
    assert code == 0 and json.loads(out)["device"] == "cpu", err
    assert call("demo", "--model", model, "--batch", "1", "--quick", "--device", "cpu", "--out", str(tmp_path))[0] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_cpus_sample(model: str) -> None:
    asked = [
        paradigms.cli.model_job.Request(model, "ddpm", 6, window=3, seed=5, batch=2, device=d) for d in ("cpu", "cuda")
    ]
    x, y = (paradigms.cli.model_job.prepare_job(request).sample().x for request in asked)
    assert y.device.type == "cuda"
    torch.testing.assert_close(x, y.cpu(), rtol=1e-3, atol=1e-3)


# files and names that are none

LONG = "a" * 5000


@pytest.mark.parametrize(
    "args",
    [
        ("sample", LONG), ("sample", f"{'a' * 90}/{LONG}"), ("sample", "--model", LONG),
        ("sample", f"{LONG}.safetensors"), ("plan", "--model", LONG),
        ("plan", LONG, "--latency", "sd2-a100"), ("plan", "--latency", LONG),
        ("demo", "--model", LONG), ("sample", "digits", "--out", LONG), ("sample", "digits", "--rule", LONG),
        ("sample", "digits", "--device", LONG), ("sample", "a\nb\nc"), ("sample", "--model", "a\nb"),
    ],
    ids=lambda args: " ".join(a[:12] for a in args),
)  # fmt: skip
def test_a_name_that_no_file_can_have_is_one_line(args: tuple[str, ...]) -> None:
    """B13: 5,000 characters, line breaks."""
    assert "type" in refused(*args)


DEEP = "[" * 100_000
JUNK = {"deep": DEEP, "a list": "[]", "a number": "1", "empty": "", "binary": "\udcff\udcfe", "cut": '{"rows": [1'}


@pytest.mark.parametrize("what", JUNK)
def test_json_that_is_not_ours_is_one_line(what: str, model: str, tmp_path: Path) -> None:
    """B13: as traces, as a latency, as the settings of a folder of samples."""
    path = tmp_path / "settings.json"
    path.write_bytes(JUNK[what].encode(errors="surrogateescape"))
    assert "JSON" in refused("plan", str(path), "--latency", "sd2-a100") or what in ("a list", "a number")
    refused("plan", "--latency", str(path))
    refused("sample", model, *SHORT[:4], "--count", "1", "--out", str(tmp_path))
    assert path.read_bytes() == JUNK[what].encode(errors="surrogateescape")


def test_settings_that_are_a_folder_are_one_line(model: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").mkdir()
    refused("sample", model, *SHORT[:4], "--count", "1", "--out", str(tmp_path))


NET = {"channels": 1, "widths": [8, 8], "depth": 1, "patch": 1, "classes": 0, "embed": 8}
ABOUT = {
    "kind": "denoiser", "net": NET, "name": "x", "shape": [1, 8, 8], "prediction": "epsilon", "classes": 0,
    "betas": {"kind": "linear", "count": 1000, "first": 0.0001, "last": 0.02}, "range": [-1.0, 1.0],
}  # fmt: skip
PROMISES: dict[str, str] = {
    "deep": '{"a":' * 100_000,
    "a list": "[]",
    "wide layers": json.dumps(ABOUT | {"net": NET | {"widths": [60000, 60000]}}),
    "many layers": json.dumps(ABOUT | {"net": NET | {"depth": 10**9}}),
    "many classes": json.dumps(ABOUT | {"net": NET | {"classes": 10**12}, "classes": 10**12}),
    "many steps": json.dumps(ABOUT | {"betas": ABOUT["betas"] | {"count": 10**12}}),  # type: ignore[operator]
    "a picture as large as a memory": json.dumps(ABOUT | {"shape": [1, 60_000, 60_000]}),
    "other classes": json.dumps(ABOUT | {"classes": 5}),
    "no patch": json.dumps(ABOUT | {"net": NET | {"patch": 0}}),
    "a large picture": json.dumps(ABOUT | {"shape": [1, 10**6, 10**6]}),
    "a word for a number": json.dumps(ABOUT | {"net": NET | {"depth": "two"}}),
    "an unknown size": json.dumps(ABOUT | {"net": NET | {"secret": 1}}),
    "no net": json.dumps({k: v for k, v in ABOUT.items() if k != "net"}),
}


@pytest.mark.parametrize("what", PROMISES)
def test_a_model_file_that_promises_what_it_has_not_is_one_line(what: str, model: str, tmp_path: Path) -> None:
    """B13: before anything of the promised size is made."""
    from safetensors.torch import load_file

    path = tmp_path / "hostile.safetensors"
    save_file(load_file(model), path, metadata={"paradigms": PROMISES[what]})
    assert "type one of" in refused("sample", str(path), "--out", str(tmp_path / "new"))


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x08" + b"\0" * 7 + b"{}      ", b"\x89PNG\r\n\x1a\n", b"x" * 4096]
)
def test_a_file_that_is_no_model_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "type one of" in refused("sample", str(path))


def test_a_model_file_is_the_model_that_was_saved(model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = UNet(1, (8, 8), depth=1, patch=1, embed=8)
    models.save(tmp_path / "m.safetensors", net, name="m", shape=(1, 8, 8), prediction="epsilon")
    found = models.load(tmp_path / "m.safetensors").model
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in net.state_dict().items())
    assert not found.training and not any(p.requires_grad for p in found.parameters())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def broken(path: Path) -> dict[str, bytes]:
    """Files that are no whole picture, made from one that is."""
    whole = path.read_bytes()
    head = whole[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
    changed = bytearray(whole)
    changed[whole.index(b"IDAT") + 6] ^= 0xFF
    return {
        "empty": b"", "cut": whole[:-20], "without an end": whole[:-12], "text": b"mine", "with more": whole + b"\0",
        "changed": bytes(changed), "a bomb": head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""),
    }  # fmt: skip


def test_a_picture_that_is_not_whole_does_not_count_as_made(model: str, tmp_path: Path) -> None:
    """B13: 0 bytes, cut short, foreign, hostile."""
    how = ("sample", model, *SHORT[:4], "--rule", "ddim", "--count", "7", "--out", str(tmp_path), "--json")
    assert call(*how)[0] == 0
    pictures = sorted(tmp_path.glob("*.png"))
    kept = [p.read_bytes() for p in pictures]
    for path, (what, content) in zip(pictures, broken(pictures[0]).items(), strict=True):
        path.write_bytes(content)
        assert not is_png(path), what
    code, out, err = call(*how)
    assert code == 0 and json.loads(out)["made"] == 7, err
    assert [p.read_bytes() for p in pictures] == kept and all(map(is_png, pictures))


# NaN


def test_a_pipelines_nan_is_one_line_and_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A9: it must not print "converged" and exit with 0."""
    from published import church

    pipe = church()
    for weight in pipe.unet.parameters():
        weight.data.fill_(float("nan"))
    pipe.save_pretrained(tmp_path / "nan")
    for window in ("auto", "2"):
        how = ("--steps", "3", "--window", window, "--device", "cpu", "--out", str(tmp_path / window))
        code, out, err = call("sample", str(tmp_path / "nan"), *how)
        assert (code, out, err.count("\n")) == (1, "", 1) and "finite" in err and "converged" not in err, err
        assert not list((tmp_path / window).iterdir())


# what the program offers


def test_every_option_of_sample_is_in_a_named_group() -> None:
    out = call("sample", "--help")[1]
    groups = re.findall(r"^╭─ (.+?) ─", out, re.M)
    (rest,) = re.findall(r"╭─ Options ─.*?╰─", out, re.S)
    assert len(groups) >= 7 and re.findall(r"(?<!\w)--[a-z-]+", rest) == ["--help"]


@pytest.mark.parametrize("name", ["sample", "plan"])
def test_helps_examples_parse_as_they_are_printed(name: str) -> None:
    out = " ".join(call(name, "--help")[1].replace("│", " ").split()).split("Examples: ")[1]
    examples = re.findall(r"paradigms (\w+)((?: (?!paradigms|The|On)[^;]*?)?)(?=;? paradigms|$| The| On)", out)
    assert len(examples) >= 2
    for command, rest in examples:
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= commands()[command], rest


def test_a_shell_completes_commands_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, wanted in (("paradigms pl", "plan"), ("paradigms sample --rule dpm", "dpmsolver")):
        how = {"_PARADIGMS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        out = CliRunner().invoke(cli.app, [], prog_name="paradigms", env=how).stdout
        assert out.split() == [wanted]


def test_models_lists_every_weight_file_that_ships() -> None:
    from paradigms.files import shipped_weights

    code, out, _ = call("models")
    files = [f.stem for kind in ("images", "policies") for f in shipped_weights(kind).glob("*.safetensors")]
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert {line.split()[0] for line in out.splitlines()[3:] if line.strip()} == {
        *(name for name in files if not name.endswith("-features")), "latent"
    }  # fmt: skip


# ------------------------------------------------------------------------------------ nothing by mistake


@pytest.mark.parametrize("option", ["--rule", "--out", "--dtype", "--method"])
def test_an_empty_value_is_no_default(option: str, model: str, tmp_path: Path) -> None:
    """B13: as of a shell's variable that is not set; an empty --out would be this folder."""
    target = ("latent", "--prompt", "x") if option == "--dtype" else (model, "--steps", "4")
    refused("sample", *target, "--out", str(tmp_path), f"{option}=")


@pytest.mark.parametrize("where", ["a folder", "a folder that is not there", "a name that is too long", "/proc"])
def test_an_export_that_cannot_be_written_is_refused_at_once(where: str, tmp_path: Path) -> None:
    """B13: before the races are run."""
    paths = {"a folder": tmp_path, "/proc": Path("/proc/race.html"), "a name that is too long": tmp_path / ("a" * 250)}
    err = refused("race", "--export", str(paths.get(where, tmp_path / "none" / "race.html")))
    assert "--export" in err and "type the path of a file" in err
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_stops_no_work(model: str, tmp_path: Path) -> None:
    """B13: `| head -1`; every file is there, and nothing is told."""
    ears, mouth = os.pipe()
    os.close(ears)
    with os.fdopen(mouth, "w") as out:
        answer = CommandOutput(False, out)
        for name in ("grid.png", "trace.json"):
            answer.wrote(tmp_path / name)
        answer.numbers({})
    assert len(answer.files) == 2


class Terminal(io.StringIO):
    """What is shown on a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", [("sample", "nothing-of-this-name"), ("plan", "--windows", "none")])
def test_a_terminal_is_told_of_loading_and_keeps_one_line(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """B13: libraries and models take seconds, in which nothing was shown."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with pytest.raises(SystemExit):
        cli.app(command)
    assert shown.getvalue().startswith("loading ...\r")
    last = shown.getvalue().rpartition("\x1b[K")[2]
    assert last.startswith("paradigms: ") and last.count("\n") == 1
