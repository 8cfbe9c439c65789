"""The page as a document: with its style and scripts beside it, or all in one file that holds recorded races.

A recorded race is the list of its events, see `recording.py`; pictures are thinned to what a replay shows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .recording import Contest, Event

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("palette.js", "strip.js", "stage.js", "player.js", "view.js", "page.js")
RUNS = ("parallel", "sequential")
# Pictures of a run in the file: a look every tenth of a second of a race of four. Chosen by hand.
PICTURES = 40
# Seconds between two lines that say how far a race is that is recorded. Chosen by hand.
SPOKEN = 2.0


def served(choices: dict[str, Any]) -> str:
    """The page whose style and scripts are files of the server."""
    style = '<link rel="stylesheet" href="page/race.css">'
    return filled(style, {"choices": choices}, "".join(f'<script src="page/{name}"></script>' for name in SCRIPTS))


def standalone(races: list[dict[str, Any]], choices: dict[str, Any], machine: str) -> str:
    """One file with recorded races, each {"name": ..., "query": ..., "events": [...]}; machine: where they were run."""
    kept = [race | {"events": thinned(race["events"])} for race in races]
    style = f"<style>{(PAGE / 'race.css').read_text(encoding='utf-8')}</style>"
    scripts = "".join(f"<script>{(PAGE / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS)
    return filled(style, {"choices": choices, "recorded": kept, "machine": machine}, scripts)


def filled(style: str, data: dict[str, Any], scripts: str) -> str:
    """The template with its three places filled."""
    text = (PAGE / "race.html").read_text(encoding="utf-8")
    held = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # nothing in it ends the script's element
    holder = f'<script type="application/json" id="data">{held}</script>'
    return text.replace("<!--style-->", style).replace("<!--scripts-->", holder + scripts)


def thinned(events: list[Event]) -> list[Event]:
    """The events with at most so many pictures a run, the last ones of each among them."""
    kept = list(events)
    for run in RUNS:
        with_picture = [
            k for k, e in enumerate(kept) if e.get("run") == run and e["event"] == "moment" and e.get("picture")
        ]
        step = max(len(with_picture) / PICTURES, 1)
        wanted = {with_picture[int(k * step)] for k in range(int(len(with_picture) / step))}
        for k in set(with_picture) - wanted:
            kept[k] = {name: v for name, v in kept[k].items() if name not in ("picture", "estimate")}
    return kept


def recorded(
    contest: Contest, name: str, query: dict[str, str], times: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """A race that was run here so many times, as `standalone` takes it: of each sampler its quickest run.

    Whatever else a machine does makes a run slower and none quicker.
    """
    attempts = []
    for k in range(times):
        events: list[Event] = []
        contest.run(followed(events, f"{name}: {k + 1} of {times}", say), lambda: False)
        attempts.append(events)
    kept = [e for e in attempts[0] if "run" not in e or e["event"] == "phase"]
    for run in RUNS:
        kept += [
            e
            for e in min(attempts, key=lambda events: ended(events, run))
            if e.get("run") == run and e["event"] != "phase"
        ]
    return {"name": name, "query": query, "events": sorted(kept, key=lambda e: e["event"] == "verdict")}


def followed(events: list[Event], what: str, say: Callable[[str], None]) -> Callable[[Event], None]:
    """Takes a race's events, and says every SPOKEN seconds how far it is."""
    last = [time.monotonic()]

    def take(event: Event) -> None:
        events.append(event)
        if event["event"] == "phase" or time.monotonic() - last[0] >= SPOKEN:
            last[0] = time.monotonic()
            say(f"{what}, {event.get('run') or 'warming up'}: {event.get('seconds', 0):.0f} s ...")

    return take


def ended(events: list[Event], run: str) -> float:
    """The seconds that a run took."""
    return next(float(e["seconds"]) for e in events if e["event"] == "finish" and e["run"] == run)
