"""The examples that people copy run: offline on tiny pipelines, and so does the line that loads the real ones."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import diffusers as df
import pytest
import torch

import paradigms
from published import church

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = {
    "sd": ("sd_sdxl", ()),
    "sdxl": ("sd_sdxl", ("--sdxl",)),
    "sd3": ("sd3_flux", ()),
    "flux": ("sd3_flux", ("--flux",)),
    "video": ("video", ("--frames", "9")),
    "ddpm": ("unconditional_ddpm", ()),
    "ddim": ("unconditional_ddpm", ("--ddim",)),
}
SAID = (
    r"(\d+) steps in (\d+) rounds, (\d+) evaluations[^\n]*\n(?:(?!one by one: )[^\n]*\n)*"
    r"step by step: [\d.]+ s; relative error (\S+)\n$"
)


def example(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", TINY)
def test_a_tiny_pipeline_makes_the_same_in_parallel(case: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    name, args = TINY[case]
    out = tmp_path / "made.png"
    how = ["--tiny", "--steps", "6", "--tolerance", "0", "--compare", "--out", str(out)]
    example(name).main([*args, *how])
    said = re.search(SAID, capsys.readouterr().out)
    assert said, "no line of rounds, then one of the error: a pipeline that fell back says so between them"
    steps, rounds, evaluations = map(int, said.groups()[:3])
    assert steps == 6 and 1 <= rounds <= 6 <= evaluations
    assert float(said[4]) <= 1e-4 and out.stat().st_size > 0


def test_a_plain_denoiser_takes_fewer_rounds_than_steps(capsys: pytest.CaptureFixture) -> None:
    example("k_diffusion").main(["--steps", "40", "--compare"])
    said = re.search(SAID, capsys.readouterr().out)
    assert said and int(said[2]) <= int(said[1]) / 2 and float(said[4]) <= 0.01


def test_its_table_is_k_diffusions_solver() -> None:
    module = example("k_diffusion")
    s = module.karras(9)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double() * s[0]

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) / (1 + sigma.to(x)[:, None, None, None])

    found = paradigms.sequential(denoise, module.dpmpp_2m(s), x)
    y, before = x, None  # sampling.py of k-diffusion: sample_dpmpp_2m, by its equations in t = -log s
    for n in range(9):
        D = denoise(y, s[n].expand(2))
        if before is None or s[n + 1] == 0:
            y = (s[n + 1] / s[n]) * y + (1 - s[n + 1] / s[n]) * D
        else:
            h, last = (s[n] / s[n + 1]).log(), (s[n - 1] / s[n]).log()
            r = last / h
            y = (s[n + 1] / s[n]) * y - torch.expm1(-h) * ((1 + 1 / (2 * r)) * D - before / (2 * r))
        before = D
    torch.testing.assert_close(found, y, rtol=1e-9, atol=1e-9)


def test_the_real_pipeline_is_asked_for_by_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from benchmarks.zoo.stable_diffusion import text2image

    asked: list[str] = []

    def from_pretrained(name: str, **_: Any) -> Any:
        asked.append(name)
        return church() if "ddpm" in name else text2image()

    monkeypatch.setattr(df.DiffusionPipeline, "from_pretrained", from_pretrained)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = ("--out", str(tmp_path / "made.png"), "--steps", "5")
    example("sd_sdxl").main(["--prompt", "a blue sea", *out])
    example("unconditional_ddpm").main(["--window", "5", *out])
    assert asked == ["stabilityai/stable-diffusion-2", "google/ddpm-church-256"]
    assert capsys.readouterr().out.count("5 steps in") == 2


def test_every_example_is_short_and_run_here() -> None:
    found = {path.stem: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    found.pop("textbook")  # tests/documents/test_textbook.py
    found.pop("server")  # a program, tests/documents/test_server.py
    assert found.keys() == {name for name, _ in TINY.values()} | {"k_diffusion"}
    assert max(found.values()) <= 60
