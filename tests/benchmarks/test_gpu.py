"""The GPU's measurement on its CPU twin: rows, resuming, the budget, what a graph may hold, and torch alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

import paradigms as pd
from benchmarks.app import bench
from benchmarks.gpu import (
    capture,
    command,
    complete,
    device,
    latency,
    networks,
    planner,
    rows,
    run,
    settings,
    shipped,
    ways,
)  # fmt: skip
from benchmarks.gpu.settings import PARTS, SMALL, Bench
from problems import LINEAR, seeded

ROOT = Path(__file__).parents[2]
META = torch.device("meta")
HELD = (networks.LARGE, "scenes", *networks.PUBLISHED)  # the large policy's answers are those of a small one
WAITS = {"_local_scalar_dense", "nonzero", "item", "masked_select", "unique", "_unique2", "equal", "lift_fresh"}


class Launches(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: an answer for the host, and tensors of another device than its own."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in WAITS, name
        flat = torch.utils._pytree.tree_leaves((args, kwargs))
        assert not [v for v in flat if isinstance(v, Tensor) and v.ndim and v.device.type != "meta"], name
        return func(*args, **(kwargs or {}))


class MetaDevice(device.Cpu):
    """A device whose captures run nothing, and may launch only what a graph can hold."""

    def __init__(self) -> None:
        self.where = META

    def capture(self, work: device.Work, pool: Any = None) -> device.Work:
        with Launches():
            work()
        return work


@pytest.mark.parametrize(("name", "dtype"), [*((n, "float32") for n in HELD), ("scenes", "bfloat16")])
def test_every_network_can_be_held_by_a_graph(name: str, dtype: str) -> None:
    net = networks.load(name, META, dtype, small=True)
    said = capture.Captured(net.answers, MetaDevice(), [4])(**net.batch(3, META))
    assert (said.shape, said.device, said.dtype) == ((3, *net.shape), META, networks.DTYPES[dtype])


@pytest.mark.parametrize("rule", ["ddpm", "ddim"])
@pytest.mark.parametrize("name", ["kitchen", "scenes"])
def test_a_captured_step_can_be_held_by_a_graph(name: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd.System, "__post_init__", lambda system: None)  # a table checks itself once, before
    monkeypatch.setattr(pd.Denoiser, "_as_it_is", False)  # and is asked this once, in the calls that warm up
    net = networks.load(name, META)
    x = torch.empty(1, *net.shape, device=META)
    capture.CapturedSteps(net.answers, net.chain(rule, 20), x, MetaDevice(), net.condition)


def test_a_captured_network_answers_as_itself_whatever_came_before() -> None:
    net = networks.load("scenes", torch.device("cpu"))
    held = capture.Captured(net.answers, device.Cpu(), [1, 4])
    with torch.no_grad():
        for M in (3, 1, 4, 2, 6):
            given = net.batch(M, torch.device("cpu"))
            given["x"] = given["x"] * M
            torch.testing.assert_close(held(**given), net.answers(**given), rtol=1e-4, atol=1e-5)
    assert [key[0] for key in held.held] == [4, 1, 6]
    assert held.calls == 5


def test_captured_steps_are_the_sequential_sample() -> None:
    net = networks.load("kitchen", torch.device("cpu"))
    system = net.chain("ddpm", 15)
    x, z = (torch.randn(*n, 1, *net.shape, generator=seeded(len(n))) for n in ((), (15,)))
    steps = capture.CapturedSteps(net.answers, system, x, device.Cpu(), net.condition)
    steps(x + 1, z)  # what came before leaves nothing
    right = pd.sequential(net.answers, system, x, noise=z, condition=net.condition)
    torch.testing.assert_close(steps(x, z), right, rtol=1e-5, atol=1e-6)


def test_a_rule_of_two_taps_is_refused_by_captured_steps() -> None:
    with pytest.raises(ValueError, match="2 taps"):
        capture.CapturedSteps(lambda x, t: x, pd.dpmsolver(LINEAR, 10), torch.zeros(1, 2), device.Cpu())


def test_the_shipped_files_are_read_as_safetensors_reads_them() -> None:
    from paradigms.models import load
    from paradigms.policies import load_policy

    own, theirs = shipped.image_network("scenes")[0], load("scenes").model
    policy = shipped.policy_network("pusht-unet")[0], load_policy("pusht-unet").model
    for a, b in ((own, theirs), policy):
        assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    assert networks.load(networks.LARGE, META).parameters > 65e6


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What the small run writes of a row of each part, and the folder."""
    out = tmp_path_factory.mktemp("gpu")
    results = run.Results(out, Bench(device.Cpu(), SMALL, 5.0))
    run.measure(results, few())
    return out, json.loads((out / "gpu.json").read_text())


def few() -> list[rows.Row]:
    """A row of each part, of the smallest network; one whose library is missing, and one that fails."""
    plain = ways.Chain("kitchen", "ddpm", 100, (16,), ways=(*ways.STEPPED, ways.OURS, ways.CAPTURED))
    works: dict[str, Any] = {
        "latency: kitchen": partial(latency.measure, name="kitchen", dtype="float32", mode="captured"),
        "ways: kitchen": lambda bench: ways.Runs(bench, plain).measure(),
        "tables: kitchen": lambda bench: ways.Runs(bench, ways.Chain("kitchen", "ddim", 15, (8,))).measure(),
        "planner: kitchen": partial(planner.measure, chain=plain),
    }
    found = [rows.Row(name.split(":")[0], name, 0, lambda s: 0.0, work) for name, work in works.items()]
    found += [row for row in rows.all_rows(SMALL, ("outside",)) if "64 numbers" in row.name]

    def missing(bench: Bench) -> dict[str, Any]:
        raise networks.MissingError("a library; type: pip install it")

    def broken(bench: Bench) -> dict[str, Any]:
        raise RuntimeError("the row fails")

    lacks = rows.Row("latency", "latency: lacking", 0, lambda s: 0.0, missing)
    return [lacks, rows.Row("latency", "latency: broken", 0, lambda s: 0.0, broken), *found]


def test_the_small_run_has_a_row_of_every_part(small: tuple[Path, dict[str, Any]]) -> None:
    out, data = small
    assert {name.split(":")[0] for name in data["rows"]} == set(PARTS)
    assert data["left out"]["latency: lacking"] == "a library; type: pip install it"
    assert data["left out"]["latency: broken"] == "RuntimeError: the row fails"
    page = (out / "gpu.md").read_text()
    assert all(title in page for title in PARTS.values())
    assert "not measured (a library; type: pip install it): lacking" in page
    assert "python -m benchmarks gpu" in page


def test_every_way_makes_the_sequential_sample(small: tuple[Path, dict[str, Any]]) -> None:
    for name in ("ways: kitchen", "tables: kitchen"):
        told = small[1]["rows"][name]["ways"]
        assert not [way for way in told if "failed" in told[way]], told
        for way in (*ways.STEPPED, *(w for w in told if w.startswith("ours"))):
            assert max(told[way]["errors"]) <= 0.01, way
        assert told["sequential"]["errors"] == [0.0]
        windows = [told[w] for w in told if w.startswith("ours, ") and "window" in w]
        assert len({(w["rounds"], w["evaluations"]) for w in windows}) == 1, "captured or not, the same rounds"
        assert all(w["rounds"] < 15 for w in windows)


def test_what_is_missing_or_another_sample_is_named(small: tuple[Path, dict[str, Any]]) -> None:
    data = json.loads(json.dumps(small[1]))
    data["rows"]["ways: kitchen"]["ways"]["ours, window 5"]["errors"] = [0.5]
    data["rows"]["tables: kitchen"]["ways"]["sequential"] |= {"failed": "RuntimeError: no"}
    found = complete.faults(data)
    assert f"{rows.all_rows(SMALL)[0].name}: not there" in found
    assert [
        line for line in found if "errors [0.5]" in line
    ] and "tables: kitchen, sequential: RuntimeError: no" in found


def test_a_second_run_measures_only_what_is_not_there(
    small: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, data = small
    results, tried = run.Results(out, Bench(device.Cpu(), SMALL, 5.0)), list[str]()
    monkeypatch.setattr(run, "one", lambda results, row: tried.append(row.name))
    run.measure(results, few())
    assert tried == ["latency: lacking", "latency: broken"]
    assert results.data["rows"] == data["rows"]


def test_results_of_another_device_are_not_mixed(small: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"--out holds results where small is 'True'.*another --out"):
        run.Results(small[0], Bench(device.Cpu(), settings.FULL, 5.0))


def test_a_row_that_does_not_fit_into_the_time_is_left_for_later(tmp_path: Path) -> None:
    done = list[str]()

    def row(name: str, assumed: float) -> rows.Row:
        return rows.Row("latency", f"latency: {name}", 0, lambda s: assumed, lambda bench: done.append(name) or {})

    results = run.Results(tmp_path, Bench(device.Cpu(), SMALL, 1.0))
    results.write = lambda rows, full=(): ""  # type: ignore[method-assign]
    run.measure(results, [row("long", 50.0), row("short", 1.0)])
    assert done == ["short"]
    assert results.data["left out"]["latency: long"].startswith("no time: it may take 50 s")


def test_a_call_that_does_not_fit_ends_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    net = networks.load("kitchen", torch.device("cpu"))

    def cramped(x: Tensor, t: Tensor, obs: Tensor) -> Tensor:
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    cramped_net = replace(net, model=cramped)
    monkeypatch.setattr(latency, "load", lambda *_: cramped_net)
    found = latency.measure(Bench(device.Cpu(), settings.FULL, 5.0), "kitchen", "float32", "eager")
    assert [("no room" in p, p["rows"]) for p in found["points"]] == [(False, 1), (True, 2)]
    assert found["sizes not tried"] == [4, 8, 16, 32, 64, 128]


def test_equal_seeds_make_equal_samples() -> None:
    chain = ways.Chain("kitchen", "ddpm", 100, (16,))
    one, two = (ways.Runs(Bench(device.Cpu(), SMALL, 5.0), chain) for _ in range(2))
    made = [runs.maker("ours, window 5", {})(*runs.noise[1])[0] for runs in (one, two)]
    assert torch.equal(*made)
    assert not torch.equal(one.noise[0][0], one.noise[1][0])


def test_bad_input_is_told_with_what_to_type(tmp_path: Path) -> None:
    for given, said in (
        (["--parts", "speed"], "type some of latency"),
        (["--minutes", "0"], "type a positive number"),
        (["--device", "cuda:0"], "type --device cpu --small"),
    ):
        result = CliRunner().invoke(bench, ["gpu", "--out", str(tmp_path), *given])
        assert result.exit_code == 2
        assert said in result.stderr
        assert command.main(["--out", str(tmp_path), *given]) == 2


def test_typer_and_argparse_take_the_same_options() -> None:
    import typer

    (made,) = [c for n, c in typer.main.get_command(bench).commands.items() if n == "gpu"]  # type: ignore[attr-defined]
    theirs = {p.name: p.default for p in made.params if p.name != "help"}
    assert {k: str(v) for k, v in theirs.items()} == {k: str(v) for k, v in vars(command.parsed([])).items()}


def test_the_measurement_imports_torch_alone() -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'typer', 'diffusers', 'safetensors', 'transformers', 'rich', 'PIL'):\n"
        "    sys.modules[name] = None\n"
        "import benchmarks.gpu.command, benchmarks.gpu.networks as n, torch\n"
        "print(n.load('policy-65.8M', torch.device('meta')).parameters, n.load('scenes', torch.device('cpu')).shape)"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "65827202 (3, 32, 32)" or ran.stdout.startswith("65")
