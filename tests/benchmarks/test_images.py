"""The image rows: published networks, the offline way, the table's glue with real metric calls on stub metrics."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.app import bench
from benchmarks.images import images, network, weights
from benchmarks.images.network import SPECS, build, call, measure

CPU = torch.device("cpu")
NARROW = {  # as the small networks, and smaller: what a test can be asked
    "sd2": {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4, "attention_head_dim": (2, 4, 4, 4)},
    "church": {"sample_size": 32, "block_out_channels": (4, 4, 8, 8, 8, 8), "norm_num_groups": 4},
}


@pytest.mark.parametrize(("name", "count"), [("sd2", 865_910_724), ("church", 113_673_219), ("bedroom", 113_673_219)])
def test_the_published_networks_have_their_published_parameters(name: str, count: int) -> None:
    net = build(SPECS[name], device="meta")
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("name", ["sd2", "church"])
def test_the_small_network_is_the_same_architecture(name: str) -> None:
    real, small = build(SPECS[name], device="meta"), build(SPECS[name], small=True, device="meta")
    kinds = [[(path, type(m)) for path, m in net.named_modules()] for net in (real, small)]
    assert kinds[0] == kinds[1]


def narrow(name: str) -> network.Network:
    """A network of a spec that a test can be asked."""
    spec = SPECS[name]
    few = network.Spec(spec.hub, spec.kind, spec.config | spec.small | NARROW[name], {}, spec.prediction, spec.guided)
    return network.network(name, build(few), CPU)


def test_a_row_of_sd2_is_guided_and_rows_are_alone() -> None:
    net = narrow("sd2")
    rows = call(net, 3)()
    assert rows.shape == (3, *net.shape)
    assert bool(torch.isfinite(rows).all())
    x = torch.randn(3, *net.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one = net.model(x[1:2], net.system.t[1:2])
    torch.testing.assert_close(one, rows[1:2], rtol=1e-4, atol=1e-4)


def test_points_rise_in_rows_and_tell_memory_on_linux() -> None:
    told: list[str] = []
    points = measure(narrow("church"), (1, 2), told.append)
    assert [p.rows for p in points] == [1, 2]
    assert all(p.seconds > 0 for p in points)
    assert len(told) == 2
    if Path("/proc/self/status").exists():
        assert all(p.memory is not None and p.memory >= 0 for p in points)


def test_the_gauge_sees_a_tensor() -> None:
    gauge = network.Gauge(CPU)
    block = torch.ones(32, 2**20)  # 128 MiB
    seen = gauge.peak()
    assert block.numel() == 2**25
    if seen is not None:
        assert seen >= 100 * 2**20


def test_without_a_cache_no_connection_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder, why = weights.find("google/ddpm-church-256", "local")
    assert folder is None
    assert "--weights hub" in why


def test_a_hub_that_does_not_answer_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waits: list[float] = []

    def deaf(address: tuple[str, int], timeout: float) -> None:
        waits.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", deaf)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    began = time.perf_counter()
    folder, why = weights.find("google/ddpm-church-256", "hub")
    assert (folder, waits) == (None, [weights.PATIENCE])
    assert "did not answer" in why
    assert time.perf_counter() - began < 5


def test_a_port_nobody_listens_at_is_not_reachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert not weights.reachable("127.0.0.1", free.getsockname()[1], 1.0)


def call_cli(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `python -m benchmarks images args`."""
    result = CliRunner().invoke(bench, ["images", *args])
    return result.exit_code, result.stdout, result.stderr


def narrow_church(monkeypatch: pytest.MonkeyPatch) -> None:
    """What --model church --small is: a network that a test can be asked."""
    spec = SPECS["church"]
    few = network.Spec(spec.hub, spec.kind, spec.config, NARROW["church"], spec.prediction, spec.guided)
    monkeypatch.setitem(SPECS, "church", few)


def test_the_command_measures_a_small_network_and_says_what_it_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow_church(monkeypatch)
    code, out, err = call_cli("--model", "church", "--small", "--rows", "2", "--window", "2", "--out", str(tmp_path))
    assert code == 0, err
    kept = json.loads((tmp_path / "images-church-small.json").read_text())
    assert kept["rows"] == [1, 2]
    assert kept["round"]["seconds"] >= kept["round"]["in the model"] > 0
    assert out.count(images.NOT) >= 3  # a GPU, the plan without rounds, the paper's table
    assert (tmp_path / "images-church-small.png").stat().st_size > 10_000


def test_one_point_is_no_plot_and_none_is_left_from_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_church(monkeypatch)
    (tmp_path / "images-church-small.png").touch()
    code, out, err = call_cli("--model", "church", "--small", "--rows", "1", "--window", "1", "--out", str(tmp_path))
    assert code == 0, err
    assert "No plot: it needs 2 points" in (tmp_path / "images-church-small.md").read_text()
    assert {f.suffix for f in tmp_path.iterdir()} == {".md", ".json"}
    assert out.splitlines()[-1].endswith(".md and .json")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--model", "sd3"), "--model is 'sd3'"),
        (("--model", "sd2", "--rows", "0"), "--rows is 0"),
        (("--model", "sd2", "--dtype", "int8"), "--dtype is 'int8'"),
        (("--model", "sd2", "--weights", "nowhere/at/all"), "--weights is 'nowhere/at/all'"),
        (("--model", "sd2", "--prompts", "nowhere.txt"), "--prompts 'nowhere.txt' cannot be read"),
        (("--model", "church", "--reference", "nowhere"), "--reference is 'nowhere'"),
    ],
)
def test_bad_options_are_told_in_one_line(args: tuple[str, ...], said: str) -> None:
    code, out, err = call_cli(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["sd2", "church"])
def test_on_a_gpu_memory_is_torchs_count_and_rises(name: str) -> None:
    net = network.network(name, build(SPECS[name], small=True), torch.device("cuda"), torch.float16)
    points = measure(net, (1, 4, 16), lambda text: None)
    assert 0 < points[0].memory < points[1].memory < points[2].memory
