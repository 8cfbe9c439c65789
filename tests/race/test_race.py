"""The race: what is shown is what was sampled, what cannot be run is refused, and a reader who leaves ends the work."""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import paradigms as pd
from paradigms.cli.model_job import Request, prepare_job
from paradigms.solution import relative_error
from paradigms.viz.palette import pixels

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from starlette.testclient import TestClient

from paradigms.cli.race_job import choices, contest, missing
from paradigms.race.document import PICTURES, recorded, standalone, thinned
from paradigms.race.recording import Stopped
from paradigms.race.server import MOST, application

DIGITS = {"model": "digits", "rule": "ddim", "steps": "30", "window": "8", "seed": "4", "class": "7"}


def told(query: dict[str, str]) -> list[dict[str, Any]]:
    """The events of a race."""
    events: list[dict[str, Any]] = []
    contest(query).run(events.append, lambda: False)
    return events


def of(events: list[dict[str, Any]], kind: str, run: str | None = None) -> list[dict[str, Any]]:
    return [e for e in events if e["event"] == kind and run in (None, e.get("run"))]


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return told(DIGITS)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(application(contest, choices())) as found:
        yield found


def streamed(text: str) -> list[dict[str, Any]]:
    return [json.loads(part[6:]) for part in text.split("\n\n") if part.startswith("data: ")]


def test_the_last_parallel_picture_is_the_samples(client: TestClient) -> None:
    job = prepare_job(Request("digits", "ddim", 30, window=8, seed=4, batch=1, label=7))
    x, generator = job.start()
    found = pd.sample(job.model, job.system, x, window=8, generator=generator, condition=job.condition)
    told = streamed(client.get("/race", params=DIGITS).text)
    shown = base64.b64decode(of(told, "finish", "parallel")[0]["picture"])
    assert shown == pixels(found.x)[0].tobytes()
    assert of(told, "finish", "parallel")[0]["evaluations"] == found.evaluations
    assert of(told, "finish", "parallel")[0]["round"] == found.rounds


def test_the_last_sequential_picture_is_the_sequential_samplers(events: list[dict[str, Any]]) -> None:
    job = prepare_job(Request("digits", "ddim", 30, window=8, seed=4, batch=1, label=7))
    shown = base64.b64decode(of(events, "finish", "sequential")[0]["picture"])
    assert shown == pixels(job.sequential())[0].tobytes()


def test_the_verdict_is_the_relative_error(events: list[dict[str, Any]]) -> None:
    job = prepare_job(Request("digits", "ddim", 30, window=8, seed=4, batch=1, label=7))
    (verdict,) = of(events, "verdict")
    assert verdict["error"] == pytest.approx(float(relative_error(job.sample().x, job.sequential())[0]), rel=1e-4)
    assert verdict["same"] == (verdict["error"] <= verdict["tolerance"])


def test_each_run_is_alone_and_its_clock_goes_forward(events: list[dict[str, Any]]) -> None:
    order = [e["run"] for e in events if e["event"] in ("moment", "finish")]
    assert order == sorted(order)  # all of the parallel run comes before the sequential one
    for run in ("parallel", "sequential"):
        clock = [e["seconds"] for e in of(events, "moment", run) + of(events, "finish", run)]
        assert clock == sorted(clock)


def test_evaluated_rows_add_up_to_the_evaluations(events: list[dict[str, Any]]) -> None:
    for run in ("parallel", "sequential"):
        rows = sum(end - begin for e in of(events, "moment", run) for begin, end in e["rows"])
        assert rows == of(events, "moment", run)[-1]["evaluations"] == of(events, "finish", run)[0]["evaluations"]


def test_rows_that_are_no_neighbours_are_told_apart() -> None:
    from paradigms.race.recording import Asked, Recording, nothing

    job = prepare_job(Request("digits", "ddim", 30, batch=1))
    recording = Recording("parallel", job.system, Asked(lambda: False), lambda _: None, nothing)
    assert recording.rows(job.system.t[[2, 3, 7, 29]], 0, 30) == [[2, 4], [7, 8], [29, 30]]


@pytest.mark.parametrize(
    "query, word",
    [
        ({"model": "digits", "steps": "2000"}, "steps"),
        ({"model": "digits", "steps": "ten"}, "--steps"),
        ({"model": "digits", "class": "12"}, "--class"),
        ({"model": "digits", "window": "0"}, "--window"),
        ({"model": "digits", "window": "wide"}, "--window"),
        ({"model": "digits", "window": "9" * 5000}, "--window"),
        ({"model": "digits", "tolerance": "nan"}, "tolerance"),
        ({"model": "digits", "tolerance": "much"}, "--tolerance"),
        ({"model": "digits", "seed": "-1"}, "--seed"),
        ({"model": "digits", "seed": "9" * 30}, "--seed"),
        ({"model": "digits", "rule": "euler"}, "--rule"),
        ({"model": "digits", "method": "magic"}, "--method"),
        ({"model": "digits", "prompt": "a boat"}, "--prompt"),
        ({"model": "/etc/passwd"}, "--model"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(client: TestClient, query: dict[str, str], word: str) -> None:
    answer = client.get("/race", params=query)
    message = answer.json()["message"]
    assert answer.status_code == 422 and message.startswith(word) and "\n" not in message
    assert "type" in message or "needed" in message


def test_only_this_machines_names_are_answered_to(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/").status_code == client.get("/page/page.js").status_code == 200


def test_who_asks_for_the_head_alone_starts_no_race() -> None:
    def make(query: dict[str, str]) -> Any:
        raise AssertionError("a race was made")

    with TestClient(application(make, {}), base_url="http://127.0.0.1") as client:
        answer = client.head("/race")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")


def test_nothing_is_asked_of_another_machine(client: TestClient) -> None:
    page = client.get("/").text
    for name in ("race.css", "page.js", "view.js", "player.js", "strip.js", "stage.js", "palette.js"):
        page += client.get(f"/page/{name}").text
    assert "http://" not in page and "https://" not in page and "//cdn" not in page


def test_two_readers_get_a_race_each(client: TestClient) -> None:
    found: dict[str, Any] = {}

    def read(seed: str) -> None:
        found[seed] = streamed(client.get("/race", params=DIGITS | {"seed": seed}).text)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in ("1", "2")]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    for seed, events in found.items():
        alone = told(DIGITS | {"seed": seed})
        for run in ("parallel", "sequential"):
            assert of(events, "finish", run)[0]["picture"] == of(alone, "finish", run)[0]["picture"]


def test_races_that_are_being_made_count_among_those_that_wait() -> None:
    """Forty readers at once were all taken, as races were counted when they began."""
    gate, statuses = threading.Event(), list[int]()

    class Short:
        """A race without an event."""

        def run(self, emit: Any, stopped: Any) -> None:
            """Nothing."""

    def read() -> None:
        statuses.append(client.get("/race").status_code)
        if len(statuses) == 4:  # all that are refused were told
            gate.set()

    with TestClient(application(lambda _: gate.wait(20) and Short(), choices())) as client:  # type: ignore[arg-type, return-value]
        readers = [threading.Thread(target=read) for _ in range(MOST + 4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert statuses[:4] == [503] * 4 and statuses[4:] == [200] * MOST


def test_a_race_that_is_stopped_calls_the_network_no_more() -> None:
    race, count = contest(DIGITS), 0

    def stopped() -> bool:
        nonlocal count
        count += 1
        return count > 20

    with pytest.raises(Stopped):
        race.run(lambda _: None, stopped)
    assert count == 21
    assert not race.model._forward_pre_hooks  # type: ignore[attr-defined]


def test_a_reader_who_leaves_ends_the_work() -> None:
    import http.client

    import uvicorn

    from paradigms.race.serve import bound

    begun, ended = threading.Event(), threading.Event()

    class Endless:
        """A race that goes on until it is stopped."""

        def run(self, emit: Any, stopped: Any) -> None:
            begun.set()
            while not stopped():
                emit({"event": "phase", "phase": "warm"})
                threading.Event().wait(0.005)
            ended.set()

    at = bound(0)
    app = application(lambda _: Endless(), choices())
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=functools.partial(server.run, sockets=[at]))
    thread.start()
    try:
        reader = http.client.HTTPConnection("127.0.0.1", at.getsockname()[1], timeout=20)
        reader.request("GET", "/race")
        answer = reader.getresponse()
        answer.read(40)
        assert begun.wait(20)
        answer.close()
        reader.close()
        assert ended.wait(20)
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive() and not app.state.track.running


def test_the_file_holds_everything_and_few_pictures(events: list[dict[str, Any]]) -> None:
    text = standalone([{"name": "digits", "query": DIGITS, "events": events}], choices(), "a test")
    assert "<script src" not in text and '<link rel="stylesheet"' not in text and "http" not in text
    assert of(events, "finish", "parallel")[0]["picture"] in text
    kept = thinned(events * 40)
    assert (
        sum(1 for e in kept if e.get("run") == "sequential" and e["event"] == "moment" and e.get("picture")) <= PICTURES
    )


def test_of_several_recordings_the_quickest_run_of_each_sampler_is_kept() -> None:
    seconds = iter([("parallel", 3.0), ("sequential", 5.0), ("parallel", 2.0), ("sequential", 7.0)])

    class Timed:
        """A race whose runs take what is given."""

        def run(self, emit: Any, stopped: Any) -> None:
            emit({"event": "start", "kind": "picture"})
            for _ in range(2):
                run, spent = next(seconds)
                emit({"event": "finish", "run": run, "seconds": spent})
            emit({"event": "verdict", "same": True})

    kept = recorded(Timed(), "timed", {}, 2, lambda _: None)["events"]
    assert [e["event"] for e in kept] == ["start", "finish", "finish", "verdict"]
    assert [e["seconds"] for e in kept[1:3]] == [2.0, 5.0]


def test_a_race_that_is_recorded_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("paradigms.race.document.SPOKEN", 0.0)
    recorded(contest(DIGITS), "digits", DIGITS, 1, said.append)
    assert said[0].startswith("digits: 1 of 1, warming up: 0 s")
    assert sum("parallel:" in line for line in said) > 2 and sum("sequential:" in line for line in said) > 2


@pytest.mark.skipif(bool(missing("pusht")), reason="needs gym-pusht")
def test_the_policies_actions_are_its_own() -> None:
    from paradigms.adapters import parallelize
    from paradigms.policies.tasks.rollout import FIRST_SEED, Live

    events = told({"model": "pusht", "chunks": "1", "window": "16", "seed": "3"})
    race: Any = contest({"model": "pusht", "chunks": "1", "window": "16", "seed": "3"})
    finals = {}
    for run in ("parallel", "sequential"):
        live = Live.begin(FIRST_SEED + 3, race.task.environment(), race.task, torch.device("cpu"))
        obs = torch.tensor([[v.tolist() for v in live.seen]])
        generator = torch.Generator().manual_seed(3)
        if run == "parallel":
            with parallelize(race.policy, window=16):
                actions = race.policy.predict_action({"obs": obs}, generator=generator)["action"]
        else:
            actions = race.policy.predict_action({"obs": obs}, generator=generator)["action"]
        live.carry_out(actions[0].double().numpy(), race.task)
        finals[run] = live.seen[-1][-2:].tolist()
    for run, agent in finals.items():
        assert of(events, "world", run)[0]["states"][-1][:2] == pytest.approx(agent, abs=1e-2)


@pytest.mark.skipif(bool(missing("latent")), reason="needs diffusers and transformers")
def test_the_landscape_is_the_pipelines() -> None:
    from diffusers import DDIMScheduler

    from paradigms.cli.race_job import GUIDANCE, loaded

    query = {"model": "latent", "rule": "ddim", "steps": "12", "window": "6", "prompt": "a boat", "seed": "1"}
    race: Any = contest(query)
    events = told(query)
    pipe = loaded()[0]
    own = pipe.scheduler
    try:
        pipe.scheduler = DDIMScheduler.from_config(own.config)
        pipe.set_progress_bar_config(disable=True)
        x, _ = race.start()
        made = pipe("a boat", latents=x, num_inference_steps=12, guidance_scale=GUIDANCE, output_type="pt").images
    finally:
        pipe.scheduler = own
    shown = torch.frombuffer(
        bytearray(base64.b64decode(of(events, "finish", "sequential")[0]["picture"])), dtype=torch.uint8
    )
    there = torch.from_numpy(pixels(made * 2 - 1)[0]).flatten()
    assert int((shown.int() - there.int()).abs().max()) <= 1
