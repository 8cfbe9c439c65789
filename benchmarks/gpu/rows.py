"""All rows of the measurement, the most important first: what each is called, what it may take, and its work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..core.overhead import STATES
from . import latency, outside, pipeline, planner, ways
from .networks import DTYPES, LARGE, POLICIES, PUBLISHED, MissingError
from .settings import PARTS, Bench, Settings
from .ways import COMPILED, STEPPED, Chain

Work = Callable[[Bench], dict[str, Any]]
OWN = ("policy-4.2M", LARGE, "scenes")
DDPM_100 = {"rule": "ddpm", "steps": 100, "windows": (16, 32, 64)}
DDIM_15 = {"rule": "ddim", "steps": 15, "windows": (8, 15)}
SCENES = Chain("scenes", "ddpm", 1000, (80, 32, 160))
POLICY = Chain("policy-4.2M", **DDPM_100)  # type: ignore[arg-type]
LATENT_STEPS, LATENT_WINDOW = 50, 16
CALLS: list[tuple[int, str, str, str]] = [  # float16 is as quick as bfloat16, so it is measured eager alone
    *((2, name, "float32", "eager") for name in OWN),
    *((5, name, "bfloat16", mode) for name in OWN for mode in ("captured", "eager")),
    *((13, name, "bfloat16", "eager") for name in PUBLISHED),
    *((14, name, "float32", "captured") for name in OWN),
    *((16, name, "float16", "eager") for name in (*OWN, *PUBLISHED)),
    *((17, name, "float32", "eager") for name in PUBLISHED),
    *((18, name, "bfloat16", "captured") for name in PUBLISHED),
    *((19, name, "bfloat16", "compiled, captured") for name in OWN),
    *((20, name, dtype, "compiled") for name in OWN for dtype in ("bfloat16", "float32")),
    *((30, name, "bfloat16", "compiled") for name in PUBLISHED),
]
SMALL_CALLS = {
    *(("policy-4.2M", dtype, "eager") for dtype in DTYPES),
    ("policy-4.2M", "float32", "captured"),
    ("policy-4.2M", "bfloat16", "compiled, captured"),
    *((name, "float32", "eager") for name in (LARGE, "scenes", *PUBLISHED)),
    ("sd2", "bfloat16", "captured"),
}
SMALL_CHAINS = {  # a row of each kind
    "ways: policy-4.2M DDPM-100 float32", "ways: policy-4.2M DDPM-100 float32, compiled",
    "ways: scenes DDPM-1000 float32", "ways: policy-65.8M DDPM-100 bfloat16",
    "tables: kitchen DDIM-15 float32", "tables: scenes DDIM-200 float32", "tables: latent pipeline float32",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One thing to measure. after: rows with smaller numbers come before it; assumed: seconds, or MissingError."""

    part: str
    name: str
    after: int
    assumed: Callable[[Settings], float]
    work: Work

    def seconds(self, settings: Settings) -> float:
        """Assumed; 0 where the network cannot be made here."""
        try:
            return self.assumed(settings)
        except MissingError:
            return 0.0


def all_rows(settings: Settings, parts: Sequence[str] = tuple(PARTS)) -> list[Row]:
    """The rows of some parts, in the order in which they are measured."""
    chains = [row for row in of_chains() if not settings.small or row.name in SMALL_CHAINS]
    rounds = [row for row in of_rounds() if not (settings.small and row.name.endswith("compiled"))]
    rows = [*chains, *of_calls(settings), *rounds, *of_plans()]
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
    for after, chain in ((12, POLICY), (15, SCENES)):
        both = (STEPPED[0], COMPILED)
        found.append(row("ways", after, Chain(chain.network, chain.rule, chain.steps, chain.windows[:1], ways=both)))
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

    def row(after: int, name: str, dtype: str, mode: str) -> Row:
        how: dict[str, Any] = {"name": name, "dtype": dtype, "mode": mode}
        named = f"latency: {name} {dtype} {mode}"
        return Row("latency", named, after, partial(latency.assumed, **how), partial(latency.measure, **how))

    return [row(*call) for call in CALLS if not settings.small or call[1:] in SMALL_CALLS]


def of_rounds() -> list[Row]:
    """d."""
    found = [
        Row("outside", f"outside: {name}", 1, lambda settings: outside.ASSUMED, partial(outside.measure, name=name))
        for name in STATES
    ]
    return found + [
        Row("outside", f"outside: {name}, compiled", 21 if k else 12, lambda settings: ways.COMPILING,
            partial(outside.measure, name=name, compile_rounds=True))
        for k, name in enumerate(STATES)
    ]  # fmt: skip


def of_plans() -> list[Row]:
    """e."""
    return [
        Row("planner", f"planner: {chain.name}", 4, partial(planner.assumed, chain=chain),
            partial(planner.measure, chain=chain))
        for chain in (SCENES, POLICY)
    ]  # fmt: skip
