"""What the shipped text-conditioned pipeline promises: offline, deterministic, small, and its prompts matter."""

from __future__ import annotations

import json
import random
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from paradigms.files import shipped_weights
from paradigms.models import latent
from paradigms.models.latent.older import readable_by_older
from training.latent import parts
from training.latent.captions import TIMES, caption, choices, draw_scenes
from training.latent.norm import normalise
from training.models.scenes import SKY_TOP


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipe():
    torch.set_num_threads(1)
    return latent.load()


def pictures(pipe, prompt: str, seeds: range = range(4), steps: int = 10) -> torch.Tensor:
    """One picture (3, 64, 64) in [-1, 1] for each seed."""
    pipe.set_progress_bar_config(disable=True)
    generators = [seeded(seed) for seed in seeds]
    made = pipe([prompt] * len(generators), num_inference_steps=steps, generator=generators, output_type="pt")
    return made.images * 2 - 1


# -- the captioned scenes -----------------------------------------------------------------------------------


def test_captioned_scenes_repeat_with_the_seed_and_show_their_time():
    rows = choices(60, seeded(1))
    x = draw_scenes(rows, seeded(2))
    assert x.shape == (60, 3, 64, 64) and x.min() >= -1 and x.max() <= 1
    assert torch.equal(x, draw_scenes(rows, seeded(2)))
    corner = x[:, :, 0, 0] / 2 + 0.5
    assert torch.equal(torch.cdist(corner, SKY_TOP).argmin(1), rows[:, 0])


def test_a_boat_on_land_is_refused():
    with pytest.raises(ValueError, match="needs the sea"):
        draw_scenes(torch.tensor([[0, 0, 0, 0, 4, 0]]), seeded(0))


def test_a_caption_says_only_what_is_there():
    say = random.Random(0)
    night_boat = [caption([2, 1, 2, 1, 4, 1], say) for _ in range(300)]
    spoken = {word for told in night_boat for word in told.replace(",", "").split()}
    there = "a boat with red sails, a red moon over the blue sea and snowy mountains at night"
    assert spoken == set(there.replace(",", "").split())
    assert len(set(night_boat)) > 100


def test_the_quick_group_norm_is_torchs_and_so_is_its_gradient():
    norm, x = torch.nn.GroupNorm(4, 16), torch.randn(3, 16, 5, 6, generator=seeded(0)) + 2
    torch.nn.init.normal_(norm.weight, generator=seeded(1))
    slow, fast = x.clone().requires_grad_(), x.clone().requires_grad_()
    norm(slow).square().sum().backward()
    normalise(norm, fast).square().sum().backward()
    torch.testing.assert_close(normalise(norm, x), norm(x))
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-4, atol=1e-4)


# -- the pipeline -------------------------------------------------------------------------------------------


def test_the_files_are_under_20_megabytes():
    files = [f for f in shipped_weights("latent").rglob("*") if f.is_file()]
    assert 5_000_000 < sum(f.stat().st_size for f in files) < 20_000_000


def test_the_pipeline_loads_without_the_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    pipe = latent.load()
    assert {part.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.float32}


def test_a_folder_without_a_pipeline_is_named(tmp_path):
    with pytest.raises(ValueError, match="no pipeline"):
        latent.load(tmp_path)


def test_every_word_of_the_captions_is_one_token(pipe):
    say = random.Random(3)
    for row in choices(300, seeded(3)).tolist():
        words = caption(row, say).replace(",", " , ").split()
        numbers = pipe.tokenizer(caption(row, random.Random(7))).input_ids
        assert len(numbers) <= parts.TOKENS
        assert pipe.tokenizer.tokenize(" ".join(words)) == [f"{word}</w>" for word in words]


def test_latents_of_unseen_scenes_have_unit_variance_and_decode_to_the_scene(pipe):
    x = draw_scenes(choices(32, seeded(77)), seeded(78))
    with torch.no_grad():
        z = pipe.vae.encode(x).latent_dist.mean
        error = (pipe.vae.decode(z).sample - x).abs().mean()
    assert z.std().mul(pipe.vae.config.scaling_factor).item() == pytest.approx(1, abs=0.1)
    assert error < 0.2 * (x - x.mean(0)).abs().mean()


def test_the_same_prompt_and_seed_give_the_same_picture(pipe):
    first, again = (pictures(pipe, "a boat with red sails, night", range(1), 4) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, pictures(pipe, "a boat with red sails, night", range(1, 2), 4))


def test_prompts_matter(pipe):
    """One changed word changes the picture: night is darker than sunset and that than day, snow bluer than a desert."""
    found = {time: pictures(pipe, f"hills, a green meadow, {time}") for time in TIMES}
    night, sunset, day = (found[time].mean((1, 2, 3)) for time in ("night", "sunset", "day"))
    assert night.max() < sunset.min() and sunset.mean() < day.mean()
    snow, desert = (
        pictures(pipe, f"hills, {ground}, day")[:, :, -8:].mean((0, 2, 3)) for ground in ("snow", "a desert")
    )
    assert snow[2] - snow[0] > desert[2] - desert[0] + 0.5


def test_the_folder_is_read_by_transformers_4_too(tmp_path: Path) -> None:
    """C2: words as two files and weights by their older names, as the trainer writes them after save_pretrained."""
    shutil.copytree(shipped_weights("latent"), tmp_path / "pipeline")
    readable_by_older(tmp_path / "pipeline")
    for name in ("tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/model.safetensors"):
        made, ships = ((at / name).read_bytes() for at in (tmp_path / "pipeline", shipped_weights("latent")))
        assert made == ships, name
    words = json.loads((shipped_weights("latent") / "tokenizer" / "tokenizer.json").read_text())["model"]
    assert json.loads((shipped_weights("latent") / "tokenizer" / "vocab.json").read_text()) == words["vocab"]
    with safe_open(str(shipped_weights("latent") / "text_encoder" / "model.safetensors"), "pt") as file:
        assert all(key.startswith("text_model.") for key in file.keys())  # noqa: SIM118
