"""What the command line promises: exit codes, one-line errors, a last line of JSON, and the sequential sample."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import paradigms
from command_line import SHORT, call, tiny
from interrupts import interrupted
from paradigms import models
from paradigms.cli import model_job as job
from paradigms.cli.errors import validate_or_exit
from paradigms.files import check_file_path, make_folder, read_json, write_json, write_whole
from paradigms.models.net import UNet

KEYS = {
    "rule", "steps", "method", "window", "tolerance", "seed", "rounds", "evaluations", "max_error", "median_error",
    "seconds", "sequential_seconds", "model_seconds", "status",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models by what they are: plain, classed, broken ones."""
    at = tmp_path_factory.mktemp("models")
    found = {
        "plain": tiny(at / "plain.safetensors"),
        "classed": tiny(at / "classed.safetensors", classes=3),
        "spoiled": tiny(at / "spoiled.safetensors", spoil=float("nan")),
    }
    found["cut"] = at / "cut.safetensors"
    found["cut"].write_bytes(found["plain"].read_bytes()[:-100])
    found["foreign"] = at / "foreign.safetensors"
    found["foreign"].write_text("not a model")
    return {name: str(path) for name, path in found.items()}


def numbers(out: str) -> dict:
    """The JSON object that is all of standard output."""
    return json.loads(out)


@pytest.mark.parametrize("rule", sorted(job.RULES))
def test_every_rule_samples_and_prints_its_account(rule: str, files: dict, tmp_path: Path) -> None:
    code, out, err = call("sample", "--model", files["plain"], "--rule", rule, *SHORT, "--out", str(tmp_path), "--json")
    said = numbers(out)
    assert code == 0, err
    assert said.keys() >= KEYS
    assert (said["rule"], said["steps"], said["window"], said["status"]) == (rule, 6, 4, "converged")
    assert said["max_error"] is said["median_error"] is said["sequential_seconds"] is None
    assert {f.name for f in tmp_path.iterdir()} == {"grid.png", "trace.png", "trace.json"}
    assert {Path(f) for f in said["files"]} == set(tmp_path.iterdir())
    kept = json.loads((tmp_path / "trace.json").read_text())
    assert len(kept["trace"]) == kept["rounds"] == said["rounds"]


def test_compare_reports_the_error_of_the_solution(files: dict, tmp_path: Path) -> None:
    how = ("--model", files["plain"], "--rule", "ddpm", *SHORT, "--tolerance", "0.5", "--seed", "3", "--compare")
    code, out, err = call("sample", *how, "--verify", "--out", str(tmp_path), "--json")
    asked = job.Request(files["plain"], "ddpm", 6, window=4, tolerance=0.5, seed=3, batch=2, compare=True, verify=True)
    solution = job.prepare_job(asked).sample()
    said = numbers(out)
    assert code == 0, err
    assert said["max_error"] == solution.max_error
    assert said["median_error"] == solution.median_error
    assert said["sequential_seconds"] > 0 and 0 <= said["tv_bound"] <= 1
    assert "largest relative error" in err


@pytest.mark.parametrize("rule", sorted(job.RULES))
def test_the_same_seed_is_the_sequential_sample(rule: str, files: dict) -> None:
    wanted = job.prepare_job(job.Request(files["plain"], rule, 6, window=4, tolerance=0.0, seed=5, batch=2))
    model = models.load(files["plain"]).model
    generator = torch.Generator().manual_seed(5)
    x = wanted.system.noise((2, 1, 8, 8), generator)
    reference = paradigms.sequential(model, wanted.system, x, generator=generator)
    for sample in (wanted.sample().x, wanted.sequential(), list(wanted.one_by_one())[-1].x[1]):
        torch.testing.assert_close(sample, reference, rtol=1e-4, atol=1e-4)


def test_without_a_class_samples_go_through_the_classes(files: dict) -> None:
    assert job.prepare_job(job.Request(files["classed"], batch=5)).condition["label"].tolist() == [0, 1, 2, 0, 1]
    assert job.prepare_job(job.Request(files["classed"], batch=2, label=1)).condition["label"].tolist() == [1, 1]


def test_guidance_and_classes_change_the_sample(files: dict) -> None:
    asked = job.Request(files["classed"], "ddim", 4, batch=1, label=1)
    x = [job.prepare_job(r).sequential() for r in (asked, replace(asked, guidance=3.0), replace(asked, label=2))]
    assert not torch.equal(x[0], x[1]) and not torch.equal(x[0], x[2])


BAD = {
    "negative tolerance": ("plain", "--tolerance", "-0.1"),
    "nan tolerance": ("plain", "--tolerance", "nan"),
    "window 0": ("plain", "--window", "0"),
    "steps 0": ("plain", "--steps", "0"),
    "steps beyond the schedule": ("plain", "--steps", "1001"),
    "unknown rule": ("plain", "--rule", "euler"),
    "unknown method": ("plain", "--method", "newest"),
    "unknown guess": ("plain", "--guess", "best"),
    "unknown criterion": ("plain", "--criterion", "taste"),
    "unknown model": ("nothing",),
    "class out of range": ("classed", "--class", "3"),
    "negative class": ("classed", "--class", "-1"),
    "class without classes": ("plain", "--class", "1"),
    "guidance without classes": ("plain", "--guidance", "2"),
    "infinite guidance": ("classed", "--guidance", "inf"),
    "batch 0": ("plain", "--batch", "0"),
    "window of no number": ("plain", "--window", "wide"),
    "rounds 0": ("plain", "--max-rounds", "0"),
    "negative seed": ("plain", "--seed", "-1"),
    "eta for another rule": ("plain", "--eta", "0.5"),
    "timeout of no number": ("plain", "--timeout", "nan"),
    "height 0 of no pipeline": ("plain", "--height", "0"),
    "eta above 1": ("plain", "--rule", "ddim", "--eta", "2"),
    "truncated model": ("cut",),
    "foreign model": ("foreign",),
    "unknown option": ("plain", "--windows", "3"),
    "a word for a number": ("plain", "--window", "ten"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_before_any_work(case: str, files: dict, tmp_path: Path) -> None:
    model, *args = BAD[case]
    code, out, err = call("sample", "--model", files.get(model, model), *args, "--out", str(tmp_path / "new"))
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("paradigms: ") and "Traceback" not in err
    assert "type" in err or "needed" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("inside", ["", "folder"])
def test_an_out_that_is_a_file_is_refused(inside: str, files: dict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, _, err = call("sample", "--model", files["plain"], "--out", str(tmp_path / "file" / inside))
    assert (code, len(err.splitlines())) == (2, 1) and "type the path of a folder" in err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("args", [("smaple",), ("bench", "nothing"), ("demo", "--model", "nothing")])
def test_bad_usage_is_refused_in_one_line(args: tuple) -> None:
    code, out, err = call(*args)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err


def test_a_run_that_stops_early_exits_1_and_says_where(files: dict, tmp_path: Path) -> None:
    args = ("--model", files["plain"], *SHORT, "--tolerance", "0", "--max-rounds", "2", "--json", "--gif")
    code, out, err = call("sample", *args, "--out", str(tmp_path))
    assert (code, numbers(out)["status"]) == (1, "stopped at step 2 of 6")
    assert "stopped after 2 rounds" in err
    assert (tmp_path / "sample.gif").exists()


def test_a_model_that_says_nan_exits_1_in_one_line(files: dict, tmp_path: Path) -> None:
    code, _, err = call("sample", "--model", files["spoiled"], *SHORT, "--out", str(tmp_path))
    assert (code, len(err.splitlines())) == (1, 1)
    assert "NonFiniteError" in err and "row 0 of 6" in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_whatever_a_model_raises_exits_1_in_one_line(
    files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(UNet, "forward", broken)
    code, _, err = call("sample", "--model", files["plain"], *SHORT, "--out", str(tmp_path))
    assert (code, err.splitlines()) == (1, ["paradigms: RuntimeError: first line"])


def test_python_m_is_the_same_program(files: dict, tmp_path: Path) -> None:
    args = ["sample", "--model", files["plain"], *SHORT, "--json", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "paradigms", *args]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=one, check=False)
    code, out, _ = call(*args)
    clock = ("seconds", "model_seconds")  # and nothing else on standard output
    assert done.returncode == code == 0, done.stderr
    mine, other = ({k: v for k, v in numbers(text).items() if k not in clock} for text in (done.stdout, out))
    assert mine == other
    assert len(done.stderr.splitlines()) == 1  # no bar where there is no terminal, one summary


@pytest.mark.parametrize(
    ("room", "args"),
    [
        ("paradigms.cli.run_model", ("sample", "--model", "plain")),
        ("benchmarks.core.overhead", ("bench", "overhead")),
    ],
)
def test_a_missing_library_is_told_in_one_line(
    room: str, args: tuple[str, ...], files: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, room, None)
    code, _, err = call(*(files.get(a, a) for a in args), "--out", str(tmp_path))
    assert (code, len(err.splitlines())) == (2, 1) and "pip install 'paradigms-sampling[cli]'" in err


@pytest.mark.parametrize(("name", "extras"), [("matplotlib.figure", "cli"), ("diffusers", "cli,zoo")])
def test_a_missing_library_is_told_with_its_extra(name: str, extras: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        validate_or_exit(lambda: (_ for _ in ()).throw(ModuleNotFoundError(name=name)))
    line = f"paradigms: this needs {name.partition('.')[0]}; type: pip install 'paradigms-sampling[{extras}]'\n"
    assert capsys.readouterr().err == line


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError), write_whole(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [f.name for f in tmp_path.iterdir()] == ["file.txt"] and path.read_text() == "before"
    with write_whole(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before"
    assert [f.name for f in tmp_path.iterdir()] == ["file.txt"] and path.read_text() == "after"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python closes what was left open
def test_an_interrupt_at_any_line_leaves_no_half_written_file(tmp_path: Path) -> None:
    path, content = tmp_path / "file.json", {"a": [1.5, 2]}

    def write() -> None:
        make_folder(tmp_path)
        check_file_path(path, "--export")
        write_json(path, content)

    _, lines = interrupted(write, 0)
    for k in range(1, lines + 1):
        path.unlink(missing_ok=True)
        error, _ = interrupted(write, k)
        assert isinstance(error, KeyboardInterrupt)
        left = list(tmp_path.iterdir())
        assert left in ([], [path]) and (not left or read_json(path) == content)


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    assert list(make_folder(tmp_path / "a" / "b").iterdir()) == []


def test_the_demo_prints_its_table_and_writes_its_pictures(files: dict, tmp_path: Path) -> None:
    code, out, _ = call("demo", "--model", files["plain"], "--batch", "1", "--quick", "--out", str(tmp_path))
    assert code == 0
    assert max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 80
    assert out.count("in parallel, window") == 2 and "CPU" in out and "Planned, not measured" in out
    wanted = {f"{rule}{end}.png" for rule in ("ddpm", "ddim") for end in ("", "_trace")}
    assert {f.name for f in tmp_path.iterdir()} == wanted | {"ddpm.gif", "demo.json"}


def test_embedded_digits_agree_with_the_sequential_sampler(tmp_path: Path) -> None:
    args = ("--model", "digits", "--rule", "ddim", "--batch", "2", "--class", "3", "--guidance", "2", "--compare")
    code, out, err = call("sample", *args, "--window", "32", "--json", "--out", str(tmp_path))
    said = numbers(out)
    assert code == 0, err
    assert said["rounds"] < said["rows"] and said["max_error"] < 0.05


def test_the_window_picks_itself_unless_told_or_to_be_seen(files: dict, tmp_path: Path) -> None:
    how = ("sample", "--model", files["plain"], "--rule", "ddim", "--steps", "6", "--json", "--out", str(tmp_path))
    for more, window in (((), "auto"), (("--window", "auto"), "auto"), (("--gif",), 32)):
        code, out, err = call(*how, *more)
        assert (code, numbers(out)["window"]) == (0, window), err
    kept = json.loads((tmp_path / "trace.json").read_text())
    assert kept["columns"][-1] == "window" and {row[-1] for row in kept["trace"]} == {6}


def test_the_version_is_told() -> None:
    code, out, _ = call("--version")
    assert (code, out.strip()) == (0, f"paradigms {paradigms.__version__}")
