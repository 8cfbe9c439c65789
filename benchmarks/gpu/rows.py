"""All rows of the measurement, the most important first: what each is called, what it may take, and its work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..core.overhead import STATES
from . import latency, outside, pipeline, planner, ways
from .networks import DTYPES, LARGE, POLICIES, PUBLISHED, Missing
from .settings import Bench, Settings
from .ways import Chain

Work = Callable[[Bench], dict[str, Any]]
OWN = ("policy-4.2M", LARGE, "scenes")
DDPM_100 = {"rule": "ddpm", "steps": 100, "windows": (16, 32, 64)}
DDIM_15 = {"rule": "ddim", "steps": 15, "windows": (8, 15)}
SCENES = Chain("scenes", "ddpm", 1000, (80, 32, 160))
POLICY = Chain("policy-4.2M", **DDPM_100)  # type: ignore[arg-type]
LATENT_STEPS, LATENT_WINDOW = 50, 16


@dataclass(frozen=True)
class Row:
    """One thing to measure. after: rows with smaller numbers come before it; assumed: seconds, or Missing."""

    part: str
    name: str
    after: int
    assumed: Callable[[Settings], float]
    work: Work

    def seconds(self, settings: Settings) -> float:
        """Assumed; 0 where the network cannot be made here."""
        try:
            return self.assumed(settings)
        except Missing:
            return 0.0


def all_rows(bench: Bench, parts: tuple[str, ...]) -> list[Row]:
    """The rows of some parts, in the order in which they are measured."""
    rows = [*of_chains(), *of_calls(bench.settings), *of_rounds(bench), *of_plans(bench.settings)]
    chosen = [row for row in rows if row.part in parts]
    return sorted(chosen, key=lambda row: row.after)


def of_chains() -> list[Row]:
    """b and c."""

    def row(part: str, after: int, chain: Chain) -> Row:
        def work(bench: Bench) -> dict[str, Any]:
            return ways.Runs(bench, chain).measure()

        return Row(part, f"{part}: {chain.name}", after, partial(ways.assumed, chain=chain), work)

    large = Chain(LARGE, **DDPM_100)  # type: ignore[arg-type]
    found = [row("ways", 0, POLICY), row("ways", 1, SCENES), row("ways", 3, large)]
    for after, chain in ((6, POLICY), (7, large), (22, SCENES)):
        found.append(row("ways", after, Chain(chain.network, chain.rule, chain.steps, chain.windows, "bfloat16")))
    found.append(row("tables", 8, Chain("scenes", "ddim", 200, (32, 64))))
    for k, name in enumerate(POLICIES):
        found.append(row("tables", 9 + k, Chain(name, **DDIM_15)))  # type: ignore[arg-type]
        if name != POLICY.network:
            found.append(row("tables", 12 + k, Chain(name, **DDPM_100)))  # type: ignore[arg-type]

    def latent(dtype: str, after: int) -> Row:
        work = partial(pipeline.measure, dtype=dtype, steps=LATENT_STEPS, window=LATENT_WINDOW)
        return Row("tables", f"tables: latent pipeline {dtype}", after, lambda settings: 20.0, work)

    return [*found, latent("float32", 15), latent("float16", 21)]


def of_calls(settings: Settings) -> list[Row]:
    """a."""
    after = {(name, "float32", "eager"): 2 for name in OWN} | {(name, "bfloat16", "captured"): 5 for name in OWN}
    after |= {("sd2", "bfloat16", "eager"): 4, ("church", "bfloat16", "eager"): 14, ("sd2", "float16", "eager"): 18}
    found = []
    for name in (*OWN, *PUBLISHED):
        for dtype in DTYPES:
            for mode in latency.MODES:
                if settings.small and mode != "eager" and dtype != "float32":
                    continue  # the same code again
                usual = 17 + 3 * latency.MODES.index(mode) + (dtype == "float16") + 4 * (name in PUBLISHED)
                at = after.get((name, dtype, mode), usual)
                work = partial(latency.measure, name=name, dtype=dtype, mode=mode)
                cost = partial(latency.assumed, name=name, dtype=dtype, mode=mode)
                found.append(Row("latency", f"latency: {name} {dtype} {mode}", at, cost, work))
    return found


def of_rounds(bench: Bench) -> list[Row]:
    """d."""
    return [
        Row(
            "outside",
            f"outside: {name}",
            1,
            lambda settings: outside.assumed(bench),
            partial(outside.measure, name=name),
        )
        for name in STATES
    ]


def of_plans(settings: Settings) -> list[Row]:
    """e."""
    return [
        Row("planner", f"planner: {chain.name}", 4, partial(planner.assumed, chain=chain),
            partial(planner.measure, chain=chain))
        for chain in (SCENES, POLICY)
    ]  # fmt: skip
