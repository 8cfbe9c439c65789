"""The pipeline's own progress bar: as long as the sequential one, and never ahead of what is accepted."""

from __future__ import annotations

import io
from typing import Any

import diffusers.pipelines.pipeline_utils as utils
import pytest

from benchmarks.zoo.unconditional import pixels
from paradigms import parallelize
from promises import sample, text2image

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Bars:
    """Takes the place of tqdm; knows every bar's movements, and how many callbacks had been called by each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        self.steps = 0
        bars, plain = self, utils.tqdm

        class Bar(plain):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.seen: list[tuple[float, int]] = []
                bars.made.append(self)

            def update(self, n: float = 1) -> Any:
                moved = super().update(n)
                self.seen.append((self.n, bars.steps))
                return moved

        monkeypatch.setattr(utils, "tqdm", Bar)

    def call(self, pipe: Any, **changes: Any) -> Any:
        """The bar of one call."""

        def count(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self.steps = i + 1
            return tensors

        self.made.clear()
        self.steps = 0
        pipe._progress_bar_config = {"file": io.StringIO()}
        given = {"prompt": "a red fox", "height": 16, "width": 16, "output_type": "latent", **changes}
        pipe(**given, callback_on_step_end=count)
        (bar,) = self.made
        return bar


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "HeunDiscreteScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("tolerance", [0, 0.05])
def test_the_bar_moves_as_steps_are_accepted(monkeypatch: pytest.MonkeyPatch, scheduler: str, tolerance: float) -> None:
    bars, pipe = Bars(monkeypatch), text2image(scheduler)
    plain = bars.call(pipe, num_inference_steps=6)
    with parallelize(pipe, tolerance=tolerance, window=4):
        bar = bars.call(pipe, num_inference_steps=6)
    assert (bar.total, bar.n) == (plain.total, plain.n)
    assert bar.seen and all(n <= steps for n, steps in bar.seen)
    places = [n for n, _ in bar.seen]
    assert places == sorted(set(places)) and places[-1] == plain.n


def test_the_bar_of_a_pipeline_that_loops_over_it_is_the_sequential_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    bars, pipe = Bars(monkeypatch), pixels("DDPMPipeline", diffusers.DDPMScheduler())
    for _ in range(2):
        pipe._progress_bar_config = {"file": io.StringIO()}
        with parallelize(pipe, tolerance=0, window=3):
            pipe(num_inference_steps=5, output_type="np")
    assert [(b.n, b.total) for b in bars.made] == [(5, 5), (5, 5)]


def test_a_disabled_bar_stays_silent(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = text2image()
    with parallelize(pipe, tolerance=0, window=4):
        sample(pipe)
    assert not capsys.readouterr().err
