"""diffusers' own fast tests, with every pipeline made parallel and without: `make diffusers-tests`.

    python -m benchmarks.pipelines.diffusers_tests CHECKOUT --commit ID --minutes 30 --families ddpm,ddim

It runs CHECKOUT/tests/pipelines/FAMILY twice, and compares what failed

Each pipeline that a test makes is parallel at tolerance 0 in windows of 4 in the second run. Nothing is downloaded: the
tiny CLIP and T5 of the hub's test organisation are replaced by ones of the same sizes, in both runs. So tests that
compare with numbers of the hub's weights fail in both; what is looked for is a test that fails in one alone.

torch, diffusers and transformers are imported once; each run is a fork of that process. What was run is kept in
out/diffusers-tests.json, so that a call that was cut, or ran out of its minutes, is taken up where it ended.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..report import table

PARALLEL, RESULTS = "PARADIGMS_TESTS_PARALLEL", "PARADIGMS_TESTS_RESULTS"
FAMILIES = (
    "ddpm", "ddim", "dit",
    "latent_consistency_models/test_latent_consistency_models.py", "pixart_alpha", "pixart_sigma",
    "flux/test_pipeline_flux.py", "stable_diffusion_3/test_pipeline_stable_diffusion_3.py", "latte",
    "ltx/test_ltx.py", "kandinsky2_2/test_kandinsky.py",
    "chroma/test_pipeline_chroma.py", "wan/test_wan.py",
)  # fmt: skip
CHOSEN = os.environ.get("CHOSEN") or (
    "(callback_inputs or callback_cfg or num_images or batch_single or tuple or cfg or predict) and not (slow or "
    "nightly or save_load or offload or layerwise or float16 or accelerator or full or cache or broadcast)"
)
outcomes: dict[str, str] = {}
runs: list[Any] = []


def pytest_configure(config: Any) -> None:
    """A plugin of pytest: stands in for the hub, and makes pipelines parallel where the environment says so."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    hubless()
    if os.environ.get(PARALLEL) == "1":
        everywhere()


def hubless() -> None:
    """Tiny tokenizers and encoders by the names of those that tests load."""
    import transformers as tr

    from benchmarks.zoo import tiny

    def t5(*_: Any, **__: Any) -> Any:
        config = tr.T5Config(vocab_size=1103, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
        return tiny.seeded(tr.T5EncoderModel, config)

    made = {"clip": tiny.clip_tokenizer, "t5": tiny.word_tokenizer, "T5Model": tiny.word_tokenizer}
    for kind in {tr.CLIPTokenizer, tr.AutoTokenizer, tr.T5Tokenizer, tr.T5TokenizerFast, tr.PreTrainedTokenizerBase}:
        replace(kind, {f"hf-internal-testing/tiny-random-{k}": v for k, v in made.items()})
    replace(tr.T5EncoderModel, {"hf-internal-testing/tiny-random-t5": t5})
    config = {"hf-internal-testing/tiny-random-t5": lambda: t5().config}
    for kind in (tr.AutoConfig, tr.T5Config):
        replace(kind, config)


def replace(kind: Any, made: dict[str, Any]) -> None:
    """A class whose from_pretrained makes what is named so."""
    plain = kind.from_pretrained.__func__

    def from_pretrained(cls: Any, name: Any, *args: Any, **how: Any) -> Any:
        if name in made:
            return made[name]()
        return plain(cls, name, *args, **how)

    kind.from_pretrained = classmethod(from_pretrained)


def everywhere() -> None:
    """Every pipeline with a loop is parallel once its parts are registered."""
    import diffusers

    import paradigms
    from paradigms.adapters.pipelines.subclass import looping_methods, original_class

    plain = diffusers.DiffusionPipeline.register_modules

    def register_modules(self: Any, **parts: Any) -> None:
        plain(self, **parts)
        if looping_methods(original_class(type(self))):
            runs.append(paradigms.enable_parallel_sampling(self, tolerance=0, window=4))

    diffusers.DiffusionPipeline.register_modules = register_modules


def pytest_runtest_logreport(report: Any) -> None:
    """Notes how a test ended."""
    if report.when == "call" or report.outcome != "passed":
        outcomes.setdefault(report.nodeid, report.outcome)
        if report.outcome == "failed":
            outcomes[report.nodeid] = "failed"


def pytest_sessionfinish(session: Any) -> None:
    """Writes what was seen."""
    seen = {
        "outcomes": outcomes,
        "calls": sum(r.calls for r in runs),
        "windows": sum(max(r.windows, default=1) > 1 for r in runs),
        "fallbacks": collections.Counter(why.partition(":")[2].strip()[:120] for r in runs for why in r.fallbacks),
    }
    Path(os.environ[RESULTS]).write_text(json.dumps(seen))


def once(checkout: Path, family: str, parallel: bool, found: Path) -> None:
    """The fast tests of a family, in this process."""
    import pytest

    os.environ |= {PARALLEL: str(int(parallel)), RESULTS: str(found)}
    os.chdir(checkout)
    ask = ["-q", "-k", CHOSEN, "-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest.main([*ask, f"tests/pipelines/{family}"], plugins=[sys.modules[__name__]])


def run_family(checkout: Path, family: str, parallel: bool, seconds: float) -> dict[str, Any] | None:
    """The same in a fork, with what was seen; None where the time ended first."""
    found = Path(f"out/diffusers-tests-{os.getpid()}.json").resolve()
    found.parent.mkdir(exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=once, args=(checkout, family, parallel, found))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    seen: dict[str, Any] = json.loads(found.read_text())
    found.unlink()
    return seen


def main(checkout: Path, commit: str, minutes: float, families: tuple[str, ...]) -> bool:
    """Runs families that were not run, and writes the table; True where the failing sets are equal."""
    import diffusers  # here, so that every fork has it
    import transformers

    from benchmarks.zoo import tiny

    assert diffusers.__version__ and transformers.__version__ and tiny
    state, until = Path("out/diffusers-tests.json"), time.monotonic() + 60 * minutes
    key = f"{commit} {CHOSEN}"
    known = json.loads(state.read_text()) if state.exists() else {}
    done: dict[str, Any] = known.get("families", {}) if known.get("key") == key else {}
    for family in families:
        if family in done:
            continue
        began = time.monotonic()
        both = [run_family(checkout, family, parallel, until - time.monotonic()) for parallel in (False, True)]
        if None in both:
            print(f"{family}: the {minutes:g} minutes ended; the same command goes on from here")
            break
        done[family] = {"plain": both[0], "ours": both[1], "seconds": time.monotonic() - began}
        state.write_text(json.dumps({"key": key, "families": done}))
    return report(commit, done)


def report(commit: str, done: dict[str, Any]) -> bool:
    """Writes benchmarks/results/diffusers-tests.md; True where the failing sets are equal."""
    import diffusers
    import torch

    rows, different, failed, fallbacks = [], [], [], collections.Counter[str]()
    for family, run in done.items():
        a, b = run["plain"]["outcomes"], run["ours"]["outcomes"]
        off = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
        counts = [sum(v == how for v in a.values()) for how in ("passed", "failed", "skipped")]
        rows.append([family, *counts, run["ours"]["calls"], run["ours"]["windows"], len(off), round(run["seconds"])])
        different += [f"- {k}: {a.get(k)} step by step, {b.get(k)} in parallel" for k in off]
        failed += [f"- {k}" for k in sorted(a) if a[k] == b.get(k) == "failed"]
        fallbacks.update(run["ours"]["fallbacks"])
    head = ("family", "passed", "failed", "skipped", "parallel calls", "pipelines in windows", "other in parallel", "s")
    text = [
        "# diffusers' own fast tests, in parallel and without",
        "",
        f"`make diffusers-tests`: diffusers {diffusers.__version__}, its tests of commit {commit}, torch "
        f"{torch.__version__}. Each pipeline that a test makes is parallel at tolerance 0 in windows of 4, and without "
        f"that in a second run. Tests chosen by name: `{CHOSEN}`.",
        "",
        f"{len(rows)} families, {sum(sum(row[1:4]) for row in rows)} tests, {len(different)} that ended otherwise. "
        "passed, failed and skipped are of the run step by step.",
        "",
        table(head, rows),
        "",
        "Tests that ended otherwise:",
        "",
        *(different or ["- none"]),
        "",
        "Failed in both:",
        "",
        *(failed or ["- none"]),
        "",
        "What reports named as one by one:",
        "",
        *([f"- {n} times: {k}" for k, n in fallbacks.items()] or ["- nothing"]),
    ]
    Path("benchmarks/results/diffusers-tests.md").write_text("\n".join(text) + "\n")
    print(table(head, rows), *different, sep="\n")
    return not different


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description="diffusers' own fast tests, in parallel and without")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--commit", default="not named", help="of the checkout")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--families", default=",".join(FAMILIES))
    return parser.parse_args()


if __name__ == "__main__":
    asked = arguments()
    sys.exit(not main(asked.checkout.resolve(), asked.commit, asked.minutes, tuple(asked.families.split(","))))
