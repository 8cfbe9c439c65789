"""The census: of families of pipelines, the parallel call is the sequential one, or says why it is not parallel."""

from __future__ import annotations

import diffusers
import pytest

from benchmarks.pipelines.census import Verdict, count, examine, static
from benchmarks.zoo import ZOO, Specimen, run

pytestmark = pytest.mark.filterwarnings("default")  # of 79 families of classes, which warn each in its own way
FIRST = {s.family: s for s in reversed(ZOO)}  # the first of each family
# Every third family, for time; `python -m benchmarks census` is of all, see benchmarks/results/census.md.
SOME = list(FIRST.values())[::3]
UNUSUAL = {"StableDiffusionSAGPipeline", "StableDiffusionGLIGENPipeline", "TextToVideoZeroPipeline"}
ALONE = [s for s in ZOO if s.pipeline in UNUSUAL]
NEWEST = tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 42)  # the version that the zoo is made for


def verdict_of(specimen: Specimen) -> Verdict:
    """The verdict; with an older diffusers than the zoo's only of what that can build."""
    if not NEWEST:
        try:
            run(specimen, specimen.build())
        except (AttributeError, ModuleNotFoundError, TypeError, ValueError, RuntimeError) as error:
            pytest.skip(f"diffusers {diffusers.__version__} does not have it: {error}")
    return examine(specimen)


@pytest.mark.parametrize("specimen", SOME, ids=lambda s: s.name)
def test_a_pipeline_of_a_family_is_equal_in_parallel(specimen: Specimen) -> None:
    verdict = verdict_of(specimen)
    assert verdict.verdict == "equal" or (verdict.fine and verdict.why), verdict


@pytest.mark.parametrize("specimen", ALONE, ids=lambda s: s.name)
def test_what_cannot_be_parallel_is_equal_and_says_why(specimen: Specimen) -> None:
    verdict = verdict_of(specimen)
    assert verdict.verdict in ("one by one", "row by row") and len(verdict.why) > 20, verdict


def test_nearly_all_classes_of_the_installed_diffusers_can_be_rewound() -> None:
    looped, can, refused = static()
    assert looped >= (250 if NEWEST else 140) and can >= 0.95 * looped and len(refused) == looped - can


def test_a_class_counts_as_its_worst_case() -> None:
    good = examine(FIRST["Stable Diffusion"]) if "Stable Diffusion" in FIRST else examine(ZOO[0])
    bad = type(good)(f"{good.name.partition('+')[0]}+bad", good.family, "WRONG", 1.0, 1, 1)
    assert "1 WRONG" in count([good, bad]) and "equal" not in count([good, bad]).split("(")[0]
