"""No code of a pipeline's folder runs unless that was asked for, whatever the version of diffusers (C1)."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from paradigms.adapters import remote_code as trust
from paradigms.cli import app as cli
from paradigms.cli import pipeline_job as hub
from paradigms.models import latent

MARK = "import pathlib\npathlib.Path({path!r}).touch()\n"
CODE = (
    MARK
    + "from diffusers import DDPMPipeline, UNet2DModel\nclass Mine(DDPMPipeline): pass\nclass Net(UNet2DModel): pass\n"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline on disk that has no code."""
    from published import church

    at = tmp_path_factory.mktemp("pipelines") / "plain"
    church().save_pretrained(at)
    return at


def changed(path: Path, **entries: Any) -> None:
    """Sets entries of a JSON file, which may not be there."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | entries))


def nested(folder: Path) -> None:
    """A pipeline within the pipeline, whose class is in a file."""
    changed(folder / "model_index.json", unet=["diffusers", "DiffusionPipeline"])
    changed(folder / "unet" / "model_index.json", _class_name=["mine", "Mine"])


WAYS: dict[str, tuple[str, Callable[[Path], None]]] = {  # where the code is, and what names it
    "a pipeline of its own": ("mine.py", lambda f: changed(f / "model_index.json", _class_name=["mine", "Mine"])),
    "a component of its own": ("unet/net.py", lambda f: changed(f / "model_index.json", unet=["net", "Net"])),
    "a library's name": ("unet/diffusers.py", lambda f: changed(f / "model_index.json", unet=["diffusers", "Net"])),
    "a component out of the folder": (
        "away/net.py",
        lambda f: changed(f / "model_index.json", **{"unet": [None, None], "../folder/away": ["net", "Net"]}),
    ),
    "a module that is importable": ("unet/x.py", lambda f: changed(f / "model_index.json", unet=["toy", "Mixture"])),
    "no pipeline's name": ("None.py", lambda f: None),
    "a custom pipeline": ("mine.py", lambda f: changed(f / "model_index.json", custom_pipeline="mine")),
    "classes for Auto": (
        "unet/net.py",
        lambda f: changed(f / "unet" / "config.json", auto_map={"AutoModel": "net.Net"}),
    ),
    "classes for Auto, deep": (
        "unet/net.py",
        lambda f: changed(f / "unet" / "tokenizer_config.json", a=[{"b": {"auto_map": {"AutoTokenizer": "net.Net"}}}]),
    ),
    "a pipeline within": ("unet/mine.py", nested),
}


def hostile(plain: Path, at: Path, way: str) -> tuple[Path, Path]:
    """A folder with code of its own, and the file that is there once it has run."""
    folder, ran = at / "folder", at / "ran"
    shutil.copytree(plain, folder)
    where, name = WAYS[way]
    (folder / where).parent.mkdir(exist_ok=True)
    (folder / where).write_text(CODE.format(path=str(ran)))
    name(folder)
    return folder, ran


@pytest.mark.parametrize("way", WAYS)
def test_code_of_a_folder_is_refused_in_one_line_before_it_runs(way: str, plain: Path, tmp_path: Path) -> None:
    """C1."""
    folder, ran = hostile(plain, tmp_path, way)
    result = CliRunner().invoke(cli.app, ["sample", str(folder), "--steps", "2", "--out", str(tmp_path / "out")])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert "names code of its own" in result.stderr and "type --trust-remote-code" in result.stderr
    assert not ran.exists() and not (tmp_path / "out").exists()


def test_the_doors_are_shut_to_what_is_not_in_the_folder(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1: what no check of files has found is stopped where diffusers fetches code."""
    folder, ran = hostile(plain, tmp_path, "a pipeline of its own")
    monkeypatch.setattr(hub, "check_folder", lambda _: None)
    with pytest.raises(ValueError, match="trust"):
        hub.load_pipeline(hub.PipelineRequest(str(folder)))
    assert not ran.exists()


def test_diffusers_and_transformers_fetch_code_by_the_doors_that_are_shut() -> None:
    """C1: a version that has other doors is noticed here."""
    import diffusers.utils.dynamic_modules_utils as ours
    import transformers.dynamic_module_utils as theirs

    for module, asked in ((ours, ("anywhere", "mine.py", "Mine")), (theirs, ("mine.Mine", "anywhere"))):
        assert trust.DOOR in inspect.unwrap(module.get_class_from_dynamic_module).__code__.co_names
        kept = getattr(module, trust.DOOR)
        with trust.remote_code_refused(), pytest.raises(ValueError, match="names code of its own"):
            module.get_class_from_dynamic_module(*asked)
        assert getattr(module, trust.DOOR) is kept


def test_code_of_a_folder_runs_where_that_was_typed(plain: Path, tmp_path: Path) -> None:
    """C1: and is the pipeline that is sampled."""
    folder, ran = hostile(plain, tmp_path, "a pipeline of its own")
    how = ["--steps", "2", "--device", "cpu", "--trust-remote-code", "--json", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, ["sample", str(folder), *how])
    assert result.exit_code == 0, result.stderr
    assert ran.exists() and json.loads(result.stdout)["pipeline"] == "Mine"


def test_a_folder_without_code_is_loaded(plain: Path) -> None:
    trust.check_folder(plain)
    assert type(hub.load_pipeline(hub.PipelineRequest(str(plain)))).__name__ == "DDPMPipeline"


def test_the_latent_model_runs_no_code_of_a_folder_either(plain: Path, tmp_path: Path) -> None:
    """C1."""
    folder, ran = hostile(plain, tmp_path, "a component of its own")
    with pytest.raises(ValueError, match="names code of its own"):
        latent.load(folder)
    assert not ran.exists()


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "", "\x00", "{", '{"_class_name": 5}', '{"_class_name": {}}'])
def test_an_index_that_is_none_is_one_line(content: str, plain: Path, tmp_path: Path) -> None:
    """B13: deep, empty, foreign JSON."""
    folder = tmp_path / "folder"
    shutil.copytree(plain, folder)
    (folder / "model_index.json").write_text(content)
    result = CliRunner().invoke(cli.app, ["sample", str(folder)])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert "model_index.json" in result.stderr and "Traceback" not in result.stderr
