"""`paradigms sample` on many ranks and of many seeds: the samples of single calls, whole files, and jobs that go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ranks
from command_line import SHORT_DDPM, call, tiny, torchrun
from paradigms.cli import model_job as job
from paradigms.viz.palette import pixels


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    at = tmp_path_factory.mktemp("models")
    return {
        "plain": str(tiny(at / "plain.safetensors")),
        "classed": str(tiny(at / "classed.safetensors", classes=3)),
    }


def single(model: str, seed: int) -> np.ndarray:
    """The picture (8, 8, 3) of a call of one seed, by the library."""
    asked = job.Request(model, "ddpm", 6, window=3, seed=seed, batch=1)
    return pixels(job.prepare_job(asked).sample().x)[0]


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_count_of_samples_is_a_file_a_seed_each_that_of_a_call_of_its_own(files: dict, tmp_path: Path) -> None:
    for name, model in files.items():
        out = tmp_path / name
        code, stdout, err = call(
            "sample", model, *SHORT_DDPM, "--seed", "5", "--count", "3", "--out", str(out), "--json"
        )
        said = json.loads(stdout)
        assert code == 0 and (said["count"], said["made"], said["there"]) == (3, 3, 0), err
        assert {f.name for f in out.iterdir()} == {"000005.png", "000006.png", "000007.png", "settings.json"}
        for seed in (5, 6, 7):
            assert np.array_equal(picture(out / f"{seed:06d}.png"), single(model, seed))


def test_what_is_there_is_left_and_what_is_missing_is_made(files: dict, tmp_path: Path) -> None:
    how = ("sample", files["plain"], *SHORT_DDPM, "--out", str(tmp_path), "--json")
    call(*how, "--count", "2")
    kept = {f.name: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    (tmp_path / "000001.png").unlink()
    code, out, err = call(*how, "--count", "4")
    assert code == 0 and "1 found, 3 made" in err and json.loads(out)["there"] == 1
    assert sorted(f.name for f in tmp_path.glob("*.png")) == [f"{seed:06d}.png" for seed in range(4)]
    assert (tmp_path / "000000.png").stat().st_mtime_ns == kept["000000.png"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--steps", "7"), "holds samples of steps 6, not 7; type another folder, or the same options"),
        (("--tolerance", "0.1"), "holds samples of tolerance 0.003, not 0.1"),
        (("--batch", "2"), "--batch: not for --count, which makes samples one by one"),
        (("--gif",), "--gif: not for --count"),
        (("--count", "0"), "--count"),
    ],
)
def test_a_folder_of_other_samples_is_refused(options: tuple, why: str, files: dict, tmp_path: Path) -> None:
    how = ("sample", files["plain"], *SHORT_DDPM, "--count", "1", "--out", str(tmp_path))
    assert call(*how)[0] == 0
    code, out, err = call(*how, *options)
    assert code == 2 and not out and why in err and err.count("\n") == 1


def test_pictures_of_unknown_origin_are_left_alone(files: dict, tmp_path: Path) -> None:
    (tmp_path / "000000.png").write_text("mine")
    code, _, err = call("sample", files["plain"], *SHORT_DDPM, "--count", "1", "--out", str(tmp_path))
    assert code == 2 and "pictures of unknown origin" in err and (tmp_path / "000000.png").read_text() == "mine"


def test_a_job_whose_rank_was_killed_goes_on_where_it_was(files: dict, tmp_path: Path) -> None:
    for k in range(2):  # now and then torch's own threads abort a rank that has ended its work, seen once in six runs
        at = tmp_path / str(k)
        how = (files["plain"], *SHORT_DDPM, "--count", "4", "--out", str(at), "--json")
        done = torchrun(2, (str(Path(ranks.__file__).with_name("killed.py")),), *how, restarts=1)
        if "terminate called without an active exception" not in done.stderr:
            break
    tmp_path = at
    assert done.returncode == 0, done.stderr
    assert "(exitcode: -9) local_rank: 1" in done.stderr  # torchrun's account of the first attempt
    said = json.loads(done.stdout)
    assert said["there"] >= 1 and said["made"] >= 1 and said["there"] + said["made"] == 4 and said["ranks"] == 2
    assert {f.name for f in tmp_path.iterdir()} == {f"{seed:06d}.png" for seed in range(4)} | {"settings.json"}
    last = [str(tmp_path / f"{seed:06d}.png") for seed in range(said["there"], 4)]
    assert said["files"] == last  # of the second attempt, which made none of the first's again
    for seed in range(4):
        off = picture(tmp_path / f"{seed:06d}.png").astype(int) - single(files["plain"], seed)
        assert abs(off).max() <= 1  # a rounding of 1e-5 may go over to the next of 256 values


def test_a_job_that_cannot_be_done_says_so_in_one_line_of_one_rank(files: dict, tmp_path: Path) -> None:
    done = torchrun(
        2, ("-m", "paradigms"), files["plain"], *SHORT_DDPM, "--rule", "flow", "--eta", "0.5", "--out", str(tmp_path)
    )
    said = [line for line in done.stderr.splitlines() if line.startswith("paradigms: ")]
    assert done.returncode and said == ["paradigms: --eta is not for flow; leave it out or type --rule ddim"]
    assert not done.stdout and not list(tmp_path.iterdir())
