"""diffusers' own fast tests, with every pipeline made parallel and without: `make diffusers-tests`.

    python -m benchmarks.pipelines.diffusers_tests CHECKOUT [FAMILY ..]

It runs CHECKOUT/tests/pipelines/FAMILY twice, compares what failed

Each pipeline that a test makes is parallel at tolerance 0 in windows of 4 in the second run. Nothing is downloaded: the
tiny CLIP and T5 of the hub's test organisation are replaced by ones of the same sizes, in both runs. So tests that
compare with numbers of the hub's weights fail in both; what is looked for is a test that fails in one alone.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PARALLEL, RESULTS = "PARADIGMS_TESTS_PARALLEL", "PARADIGMS_TESTS_RESULTS"
FAMILIES = (
    "ddpm", "ddim", "dit", "consistency_models",
    "latent_consistency_models/test_latent_consistency_models.py", "pixart_alpha", "pixart_sigma",
    "flux/test_pipeline_flux.py", "stable_diffusion_3/test_pipeline_stable_diffusion_3.py", "latte", "aura_flow",
    "sana/test_sana.py", "ltx/test_ltx.py", "wan/test_wan.py", "mochi",
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


def once(checkout: Path, families: tuple[str, ...], parallel: bool) -> dict[str, Any]:
    """The families' fast tests in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "seen.json"
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        how = os.environ | {PARALLEL: str(int(parallel)), RESULTS: str(found), "PYTHONPATH": path}
        ask = [sys.executable, "-m", "pytest", "-q", "-p", "diffusers_tests", "-k", CHOSEN, "-p", "no:cacheprovider"]
        ask += ["-p", "no:xdist", *(f"tests/pipelines/{f}" for f in families)]
        subprocess.run(ask, cwd=checkout, env=how, check=False)
        seen: dict[str, Any] = json.loads(found.read_text())
    return seen


def main(checkout: Path, families: tuple[str, ...]) -> bool:
    """Runs the families, writes benchmarks/results/diffusers-tests.md; True where the failing sets are equal."""
    import diffusers
    import torch

    began = time.perf_counter()
    plain, ours = (once(checkout, families, parallel) for parallel in (False, True))
    a, b = plain["outcomes"], ours["outcomes"]
    different = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
    rows = []
    for family in families:
        mine = [k for k in a if k.startswith(f"tests/pipelines/{family}")]
        counts = [sum(a[k] == v for k in mine) for v in ("passed", "failed", "skipped")]
        off = sum(k.startswith(f"tests/pipelines/{family}") for k in different)
        rows.append(f"| {family} | {' | '.join(map(str, counts))} | {off} |")
    ask = ["git", "describe", "--always", "--tags"]
    commit = subprocess.run(ask, cwd=checkout, capture_output=True, text=True, check=False).stdout.strip()
    text = [
        "# diffusers' own fast tests, in parallel and without",
        "",
        f"`make diffusers-tests`: diffusers {diffusers.__version__}, its tests of commit {commit or checkout.name}, "
        f"torch {torch.__version__}, {time.perf_counter() - began:.0f} s. Each pipeline that a test makes is parallel "
        f"at tolerance 0 in windows of 4. Tests chosen by name: `{CHOSEN}`.",
        "",
        f"{ours['calls']} calls in parallel, {ours['windows']} pipelines in windows of more than a step. The numbers "
        "are of the run step by step; the last column counts tests that ended otherwise in parallel.",
        "",
        "| family | passed | failed | skipped | other in parallel |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Tests that ended otherwise:",
        "",
        *([f"- {k}: {a.get(k)} step by step, {b.get(k)} in parallel" for k in different] or ["- none"]),
        "",
        "Failed in both:",
        "",
        *([f"- {k}" for k in sorted(a) if a[k] == b.get(k) == "failed"] or ["- none"]),
        "",
        "What reports named as one by one:",
        "",
        *([f"- {n} times: {k}" for k, n in ours["fallbacks"].items()] or ["- nothing"]),
    ]
    Path("benchmarks/results/diffusers-tests.md").write_text("\n".join(text) + "\n")
    print(*rows, *different, sep="\n")
    return not different


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1]), tuple(sys.argv[2:]) or FAMILIES))
