"""`paradigms sample FOLDER`: the paper's image pipelines, narrow: the sequential pictures, or one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers as df
import numpy as np
import pytest
import torch
import transformers as tr
from PIL import Image
from typer.testing import CliRunner

from benchmarks.zoo.flux import flux
from benchmarks.zoo.stable_diffusion import named
from benchmarks.zoo.transformers2d import sana, sd3
from benchmarks.zoo.unconditional import consistency, pixels
from paradigms.cli import app as cli
from paradigms.cli import pipeline_job as hub
from paradigms.cli import run_pipeline as hubrun
from published import CHURCH, SD2_TEXT, SD2_UNET, SD2_VAE, church, sd2

KEYS = {
    "model", "pipeline", "scheduler", "rule", "steps", "rows", "method", "window", "tolerance", "criterion", "seed",
    "batch", "options", "device", "dtype", "rounds", "evaluations", "checks", "max_error", "median_error", "psnr",
    "residual", "seconds", "sequential_seconds", "model_seconds", "fallbacks", "estimate", "status",
    "ranks", "rank_rows", "wire_bytes", "wire_seconds", "files",
}  # fmt: skip
EXACT = ("--steps", "7", "--window", "4", "--tolerance", "0", "--device", "cpu")
TEXT = ("--prompt", "a red fox", "--guidance", "4")
ROWS = {  # the paper's
    "church ddpm": ("church", "DDPMScheduler", (), {}),
    "church ddim": ("church", "DDIMScheduler", (), {}),
    "sd2 ddpm": ("sd2", "DDPMScheduler", TEXT, {"prompt": "a red fox", "guidance_scale": 4.0}),
    "sd2 ddim": ("sd2", "DDIMScheduler", TEXT, {"prompt": "a red fox", "guidance_scale": 4.0}),
    "sd2 dpmsolver": ("sd2", "DPMSolverMultistepScheduler", TEXT, {"prompt": "a red fox", "guidance_scale": 4.0}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pipelines on disk, and folders that are none."""
    at = tmp_path_factory.mktemp("pipelines")
    church().save_pretrained(at / "church")
    church("DDIMPipeline", "DDIMScheduler").save_pretrained(at / "implicit")
    sd2().save_pretrained(at / "sd2")
    consistency().save_pretrained(at / "consistency")
    named("StableDiffusionImg2ImgPipeline").save_pretrained(at / "from image")
    (at / "empty").mkdir()
    (at / "broken").mkdir()
    (at / "broken" / "model_index.json").write_text('{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DMo')
    return {folder.name: str(folder) for folder in at.iterdir()}


def call(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `paradigms sample args`."""
    result = CliRunner().invoke(cli.app, ["sample", *args])
    return result.exit_code, result.stdout, result.stderr


def numbers(out: str) -> dict[str, Any]:
    """The JSON object that is all of standard output."""
    return json.loads(out)


def by_hand(folder: str, scheduler: str, **arguments: Any) -> np.ndarray:
    """What diffusers' own loop makes of a folder, (B, H, W, C) of 0 to 255."""
    pipe = df.DiffusionPipeline.from_pretrained(folder)
    pipe.scheduler = getattr(df, scheduler).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(**arguments, num_inference_steps=7, generator=torch.Generator().manual_seed(3), output_type="np")
    return made.images * 255


@pytest.mark.parametrize("row", ROWS)
def test_the_papers_rows_are_the_sequential_pictures(row: str, folders: dict[str, str], tmp_path: Path) -> None:
    name, scheduler, options, arguments = ROWS[row]
    how = (*EXACT, *options, "--seed", "3", "--rule", row.split()[1])
    code, out, err = call(folders[name], *how, "--out", str(tmp_path), "--json")
    assert code == 0, err
    said, wanted = numbers(out), by_hand(folders[name], scheduler, **arguments)
    found = np.asarray(Image.open(tmp_path / "parallel-0.png"))
    assert np.abs(found - wanted[0]).max() <= 0.51  # half a level, by rounding, and rounding in batches
    assert (said["scheduler"], said["rows"], said["status"]) == (scheduler, 7, "converged") and not said["fallbacks"]


def test_compare_finds_no_difference_at_tolerance_0_and_writes_both(folders: dict[str, str], tmp_path: Path) -> None:
    how = (*EXACT, *TEXT, "--negative", "sea", "--batch", "2", "--rule", "unipc", "--compare")
    code, out, err = call(folders["sd2"], *how, "--out", str(tmp_path), "--json")
    assert code == 0, err
    said = numbers(out)
    assert 0 <= said["max_error"] <= 1e-4 and said["sequential_seconds"] > 0
    assert "largest relative error" in err and "rounds" in err
    wanted = {f"{way}-{k}.png" for way in ("parallel", "sequential") for k in range(2)}
    assert {f.name for f in tmp_path.iterdir()} == wanted | {"run.json"}
    two = [np.asarray(Image.open(tmp_path / f"parallel-{k}.png")).astype(int) for k in range(2)]
    assert np.abs(two[0] - two[1]).max() > 20  # two samples, not one twice


def test_the_account_is_all_that_is_printed_and_run_json_is_the_same(folders: dict[str, str], tmp_path: Path) -> None:
    how = ("--steps", "24", "--window", "12", "--rule", "ddpm", "--tolerance", "0.01", "--compare")
    code, out, err = call(folders["church"], *how, "--out", str(tmp_path), "--json")
    said, kept = numbers(out), json.loads((tmp_path / "run.json").read_text())
    assert code == 0, err
    assert (
        said.keys() == KEYS
        and len(said.pop("files")) == 3
        and kept.pop("accepted")
        and kept.pop("windows")
        and kept == said
    )
    assert (
        said["rounds"] < said["rows"] == 24 <= said["evaluations"] and said["max_error"] <= 0.05 and said["psnr"] > 20
    )
    assert (said["method"], said["window"], said["tolerance"], said["device"]) == ("spectral", 12, 0.01, "cpu")


def test_what_a_pipeline_draws_by_itself_is_the_seeds_too(folders: dict[str, str], tmp_path: Path) -> None:
    how = ("--steps", "4", "--tolerance", "0", "--device", "cpu", "--compare", "--out", str(tmp_path), "--json")
    runs = [numbers(call(folders["consistency"], *how, *own)[1]) for own in ((), ("--class", "3"), ("--class", "4"))]
    assert all(run["max_error"] <= 1e-4 for run in runs)  # without --class it draws one, from torch's own generator


@pytest.mark.parametrize("rule", ["ddim", "ddpm", "own"])
def test_a_pipeline_of_ddim_takes_other_rules(rule: str, folders: dict[str, str], tmp_path: Path) -> None:
    code, out, err = call(folders["implicit"], *EXACT, "--rule", rule, "--compare", "--out", str(tmp_path), "--json")
    assert code == 0, err
    assert numbers(out)["max_error"] <= 1e-4
    assert numbers(out)["scheduler"] == ("DDPMScheduler" if rule == "ddpm" else "DDIMScheduler")


def test_the_rules_defaults_are_the_papers(folders: dict[str, str]) -> None:
    ready = hub.prepare_pipeline(hub.PipelineRequest(folders["sd2"], "ddpm", options={"--prompt": "a"}, device="cpu"))
    config = ready.pipe.scheduler.config
    assert (ready.steps, ready.window, type(ready.pipe.scheduler)) == (1000, "auto", df.DDPMScheduler)
    assert (config.prediction_type, config.beta_schedule, config.beta_end) == ("v_prediction", "scaled_linear", 0.012)
    own = hub.prepare_pipeline(hub.PipelineRequest(folders["church"], steps=500, device="cpu")).pipe.scheduler
    assert isinstance(own, df.DDPMScheduler) and (own.config.beta_schedule, own.config.beta_end) == ("linear", 0.02)


def test_a_dtype_is_that_of_the_weights(folders: dict[str, str]) -> None:
    assert (
        hub.prepare_pipeline(hub.PipelineRequest(folders["church"], dtype="bfloat16", device="cpu")).pipe.dtype
        == torch.bfloat16
    )


def test_the_configurations_are_the_published_models() -> None:
    with torch.device("meta"):
        made = (
            df.UNet2DModel(**CHURCH), df.UNet2DConditionModel(**SD2_UNET), df.AutoencoderKL(**SD2_VAE),
            tr.CLIPTextModel(tr.CLIPTextConfig(**SD2_TEXT)),
        )  # fmt: skip
    sizes = [sum(p.numel() for p in net.parameters()) for net in made]
    assert sizes == [113_673_219, 865_910_724, 83_653_863, 340_387_840]


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "no such folder": (("./nowhere",), "there is no folder './nowhere'; type"),
    "a folder without a pipeline": (("empty",), "holds no pipeline; type"),
    "a folder that is not whole": (("broken",), "cannot be loaded"),
    "a pipeline that changes an image": (("from image", "--prompt", "a"), "needs image, which no option gives"),
    "no prompt": (("sd2",), "type --prompt"),
    "a prompt for a pipeline without text": (("church", "--prompt", "a"), "--prompt is not for DDPMPipeline"),
    "guidance for a pipeline without": (("church", "--guidance", "2"), "--guidance is not for DDPMPipeline"),
    "an unknown rule": (("church", "--rule", "heun"), "type one of own, ddpm"),
    "flow for a chain": (("church", "--rule", "flow"), "was not trained by flow matching; type --rule"),
    "euler where nothing is scaled": (("church", "--rule", "euler"), "does not scale its network's input"),
    "a method that corrects states": (("church", "--method", "anderson"), "type one of spectral"),
    "an unknown criterion": (("church", "--criterion", "taste"), "type one of error"),
    "an unknown dtype": (("church", "--dtype", "int8"), "type one of float32"),
    "an unknown device": (("church", "--device", "abacus"), "--device is 'abacus', which is not here; type cpu"),
    "window 0": (("church", "--window", "0"), "--window is '0'"),
    "batch 0": (("church", "--batch", "0"), "--batch is 0"),
    "steps beyond the chain": (("church", "--steps", "1001"), "from 1 to 1000"),
    "a negative tolerance": (("church", "--tolerance", "-1"), "needed"),
    "a variant that is not there": (("church", "--variant", "fp16"), "cannot be loaded"),
    "an option of the shipped models": (("church", "--verify"), "--verify: not for a pipeline"),
    "an option of pipelines": (("scenes", "--prompt", "a"), "--prompt: not for scenes"),
    "two models": (("church", "--model", "digits"), "type one of them"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_before_any_work(case: str, folders: dict[str, str], tmp_path: Path) -> None:
    (name, *args), line = BAD[case]
    code, out, err = call(folders.get(name, name), *args, "--out", str(tmp_path / "new"))
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("paradigms: ") and line in err and "Traceback" not in err
    assert not (tmp_path / "new").exists()


def test_a_hub_that_is_not_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(*_: Any, **__: Any) -> None:
        raise OSError("a long story\nin lines") from ConnectionError("Name or service not known")

    monkeypatch.setattr(df.DiffusionPipeline, "download", unreached)
    code, out, err = call("google/ddpm-church-256", "--rule", "ddpm")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "ConnectionError: Name or service not known" in err and "hf download google/ddpm-church-256" in err


def test_rules_of_a_flow_matching_model_are_flows() -> None:
    wide = hub.with_scheduler(sd3("StableDiffusion3Pipeline"), "flow").scheduler
    assert isinstance(wide, df.FlowMatchEulerDiscreteScheduler) and wide.config.shift == 3.0
    for rule in ("unipc", "dpmsolver"):
        config = hub.with_scheduler(sana("SanaPipeline"), rule).scheduler.config
        assert (config.prediction_type, config.use_flow_sigmas, config.flow_shift) == ("flow_prediction", True, 3.0)
        back = hub.with_scheduler(hub.with_scheduler(sana("SanaPipeline"), rule), "flow").scheduler
        assert isinstance(back, df.FlowMatchEulerDiscreteScheduler) and back.config.shift == 3.0
        with pytest.raises(ValueError, match="shifts its levels by size; type --rule flow"):
            hub.with_scheduler(flux("FluxPipeline"), rule)
    for rule in ("ddpm", "ddim", "euler"):
        with pytest.raises(ValueError, match="is a flow-matching model; type --rule flow"):
            hub.with_scheduler(sd3("StableDiffusion3Pipeline"), rule)


def test_levels_that_are_no_chain_are_sampled_by_their_own_scheduler_only() -> None:
    with pytest.raises(ValueError, match="--rule ddim cannot follow"):
        hub.with_scheduler(pixels("DDPMPipeline", df.DDPMScheduler(beta_schedule="sigmoid")), "ddim")
    with pytest.raises(ValueError, match="are not a chain's; type --rule own"):
        hub.with_scheduler(consistency(), "ddim")
    assert isinstance(hub.with_scheduler(consistency(), "own").scheduler, df.CMStochasticIterativeScheduler)


def test_a_film_is_an_animated_png(tmp_path: Path) -> None:
    film = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, 4, 4, 3)
    hubrun.write_picture(tmp_path / "film.png", film)
    with Image.open(tmp_path / "film.png") as found:
        levels = [found.seek(k) or int(np.asarray(found.convert("RGB")).mean()) for k in range(found.n_frames)]
    assert levels == [0, 127, 255] or levels == [0, 128, 255]
