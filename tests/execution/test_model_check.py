"""What is assumed of a model is checked: one that breaks it is refused, and the reason said."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paradigms as pd
from paradigms.execution.model_check import LATER, ROWS
from problems import LINEAR, METHODS, seeded, start

SYSTEM = pd.ddim(LINEAR, 20)
METHODS_HERE = [pd.Picard(), pd.Spectral(), pd.Parareal(), pd.QuasiNewton()]


class Net(nn.Module):
    """A network with one layer of a kind after the first."""

    def __init__(self, *layers: nn.Module, d: int = 6) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.all = nn.Sequential(nn.Linear(d, d), *layers, nn.Tanh(), nn.Linear(d, d))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.all(x) * (1 + (t / 1000)[:, None].to(x))  # type: ignore[no-any-return]


def run(model: Any, x: Tensor | None = None, **how: Any) -> pd.Solution:
    """A sample of 3 in windows of 8."""
    x = start(SYSTEM, 3, torch.float32) if x is None else x
    return pd.sample(model, SYSTEM, x, **{"window": 8, "tolerance": 0.0, **how})


# ------------------------------------------------------------------------------------------------ training mode


TRAINING: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout": (lambda: nn.Dropout(0.1), "Dropout in training mode, whose answers are random"),
    "alpha dropout": (lambda: nn.AlphaDropout(0.1), "AlphaDropout in training mode"),
    "batch norm": (lambda: nn.BatchNorm1d(6), "BatchNorm1d in training mode, which mixes the rows"),
    "batch norm without statistics": (lambda: nn.BatchNorm1d(6, track_running_stats=False), "without running stat"),
    "instance norm with statistics": (
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()),
        "InstanceNorm1d in training mode, which moves its statistics;",
    ),
    "a random slope": (lambda: nn.RReLU(), "RReLU in training mode"),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)), "spectral_norm in training"),
}


@pytest.mark.parametrize("run_it", [pd.sample, pd.sequential, pd.iterate])
@pytest.mark.parametrize("layer", TRAINING)
def test_a_model_in_training_mode_is_refused_where_that_matters(layer: str, run_it: Any) -> None:
    """A10."""
    make, says = TRAINING[layer]
    model = Net(make()).train()
    for wrapped in (model, model.forward, functools.partial(model)):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with pytest.raises(ValueError, match=rf"model: given one with .*{says}.*type model.eval\(\)"):
            run_it(wrapped, SYSTEM, start(SYSTEM, 3, torch.float32))
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "statistics moved"


@pytest.mark.parametrize("layer", [k for k in TRAINING if k != "batch norm without statistics"])
def test_the_same_model_in_eval_mode_is_taken(layer: str) -> None:
    model = Net(TRAINING[layer][0]()).eval()
    assert (run(model, compare=True).max_error or 0) <= 1e-5


def test_training_mode_that_changes_nothing_is_taken() -> None:
    assert (run(Net(nn.Dropout(0.0), nn.LayerNorm(6)).train(), compare=True).max_error or 0) <= 1e-5


@pytest.mark.parametrize("layer", ["dropout", "batch norm"])
def test_a_function_around_a_model_in_training_mode_is_refused_by_what_it_answers(layer: str) -> None:
    """A10; its statistics are put back, and the reason names the module."""
    model = Net(TRAINING[layer][0]()).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"calls .* in training mode.*type .eval\(\)"):
        run(lambda x, t: model(x, t))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "statistics moved"


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("run_it", [pd.sequential, functools.partial(pd.sample, window=1)])
@pytest.mark.parametrize("layer", ["dropout", "batch norm"])
def test_a_function_around_a_model_in_training_mode_is_refused_step_by_step_too(
    layer: str, run_it: Any, B: int
) -> None:
    """A10."""
    model = Net(TRAINING[layer][0]()).train()
    with pytest.raises(ValueError, match=r"calls .* in training mode.*type .eval\(\)"):
        run_it(lambda x, t: model(x, t), SYSTEM, start(SYSTEM, B, torch.float32))


def test_a_function_that_puts_its_model_into_eval_mode_is_taken() -> None:
    model = Net(nn.Dropout(0.5)).train()

    def function(x: Tensor, t: Tensor) -> Tensor:
        return model.eval()(x, t)  # type: ignore[no-any-return]

    assert (run(function, compare=True).max_error or 0) <= 1e-5


def test_a_function_that_was_right_is_checked_again_once_its_model_trains() -> None:
    model = Net(nn.Dropout(0.5)).eval()

    def function(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t)  # type: ignore[no-any-return]

    assert run(function).converged
    model.train()
    with pytest.raises(ValueError, match="calls Dropout in training mode"):
        run(function)


# --------------------------------------------------------------------------------------- rows that are not alone


def by_the_largest(x: Tensor, t: Tensor) -> Tensor:
    return x * 0.5 / x.abs().max()


MIXED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the mean of the batch": lambda x, t: x - 0.05 * x.mean(0),
    "a norm over the batch": lambda x, t: x / (1 + 0.05 * x.std()),
    "the largest of the batch": by_the_largest,
    "the row before": lambda x, t: x + 0.05 * x.roll(1, 0),
    "a running sum": lambda x, t: x + 0.01 * x.cumsum(0),
    "the first timestep for all": lambda x, t: x * (t[0] / 1000),
    "the last timestep for all": lambda x, t: x * (t[-1] / 1000),
    "the mean timestep": lambda x, t: x * t.float().mean() / 1000,
    "attention across rows": lambda x, t: torch.softmax(x @ x.T, 1) @ x,
    "the length of the batch": lambda x, t: x * (1 + 0.01 * len(x)),
}


@pytest.mark.parametrize("window", [8, 20, "auto"])
@pytest.mark.parametrize("kind", MIXED)
def test_rows_that_depend_on_each_other_are_refused(kind: str, window: Any) -> None:
    """A10, whatever the window that has several timesteps."""
    from devices import Scheduled

    with pytest.raises(ValueError, match="model: rows of a batch depend on each other"):
        run(MIXED[kind], window=Scheduled([1, 8]) if window == "auto" else window)


@pytest.mark.parametrize("B", [1, 2])
@pytest.mark.parametrize("method", [*METHODS_HERE, pd.Picard(pd.Copy()), pd.Picard(pd.Extrapolate())])
def test_rows_that_depend_on_each_other_are_refused_by_every_method(method: pd.AbstractMethod, B: int) -> None:
    """Even where all rows of a first guess are copies of one state."""
    x = start(SYSTEM, B, torch.float64)
    for kind in ("the mean of the batch", "a norm over the batch"):
        with pytest.raises(ValueError, match="depend on each other"):
            pd.sample(MIXED[kind], SYSTEM, x, method, window=8, tolerance=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_is_neither_taken_for_dependence_nor_hides_it(dtype: torch.dtype) -> None:
    x = torch.randn(3, 64, generator=seeded(0))
    net = Net(nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64), d=64).to(dtype)
    system = pd.ddim(LINEAR, 20)
    models: list[Any] = [net, lambda x, t: net(x.to(dtype), t).float()]
    models.append(lambda x, t: 3 * net(x.to(dtype), t).float() - 0.1 * x)
    for model in models:
        assert pd.sample(model, system, x, window=20).converged
    double = pd.sample(lambda x, t: 3 * net(x.to(dtype), t).double() - 0.1 * x, system, x.double(), window=20)
    assert double.converged

    def mixed(x: Tensor, t: Tensor) -> Tensor:
        return net(x.to(dtype) - 0.05 * x.to(dtype).mean(0), t).to(x.dtype)

    with pytest.raises(ValueError, match="depend on each other"):
        pd.sample(mixed, system, x, window=20)


def test_stepping_asks_nothing_for_a_batch_of_samples_is_the_users_own() -> None:
    x, rows = start(SYSTEM, 3), list[int]()

    def model(x: Tensor, t: Tensor) -> Tensor:
        rows.append(len(x))
        return x - 0.05 * x.mean(0)

    stepped = pd.sample(model, SYSTEM, x, window=1)
    assert torch.equal(stepped.x, pd.sequential(model, SYSTEM, x)) and rows == [3] * 40


@pytest.mark.parametrize("window", [8, 20])
@pytest.mark.parametrize("longer", [3, 8, 15])
def test_rows_that_mix_in_long_batches_alone_are_refused(longer: int, window: int) -> None:
    """Three rows see nothing of it, and a thousandth is less than what other kernels may round."""

    def model(x: Tensor, t: Tensor) -> Tensor:
        m = torch.tanh(x)
        return m - 1e-3 * m.mean(0) if len(x) > longer else m

    with pytest.raises(ValueError, match="model: rows of a batch depend on each other"):
        run(model, start(SYSTEM, 2), window=window)


def test_a_batch_that_is_longer_than_any_before_is_looked_at() -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        m = torch.tanh(x)
        return m - 0.01 * m.mean(0) if len(x) > 20 else m

    assert run(model, start(SYSTEM, 2), window=4).converged
    with pytest.raises(ValueError, match="model: rows of a batch depend on each other"):
        run(model, start(SYSTEM, 2), window=16)


@pytest.mark.parametrize("share", [0.3, 0.001])
@pytest.mark.parametrize("B", [1, 2])
def test_the_largest_number_of_a_batch_is_no_rows_own(B: int, share: float) -> None:
    """Rows of a first guess are nearly copies, so that the largest is the same whoever is beside them."""
    with pytest.raises(ValueError, match="model: rows of a batch depend on each other"):
        run(lambda x, t: torch.tanh(x) * (1 + share * x.abs().max()), start(SYSTEM, B))


# ------------------------------------------------------------------------------------------------ random answers


class Remembering:
    """Every other answer is the one before, where that fits, as step caches have it."""

    def __init__(self) -> None:
        self.calls, self.last = 0, torch.empty(0)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        if self.calls % 2 or self.last.shape != x.shape:
            self.last = torch.tanh(x) * (t / 1000)[:, None]
        return self.last


RANDOM: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "noise of its own": lambda x, t: x + 0.05 * torch.randn_like(x),
    "one number a call": lambda x, t: x * (1 + 0.05 * torch.rand(())),
    "functional dropout": lambda x, t: nn.functional.dropout(x, 0.1),
    "by the place in the batch": lambda x, t: x + 0.05 * torch.arange(len(x)).to(x)[:, None],
}


@pytest.mark.parametrize("kind", RANDOM)
def test_a_model_that_answers_otherwise_when_asked_again_is_refused(kind: str) -> None:
    """A10; and the random streams are where they were."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="model: asked the same row twice, its answers differ by"):
        run(RANDOM[kind])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_remembers_earlier_calls_is_refused() -> None:
    with pytest.raises(ValueError, match="asked the same row twice"):
        run(Remembering())
    assert run(lambda x, t: torch.ones_like(x)).converged  # and a constant is none


class Averaging:
    """Every answer is averaged with the one before, where that fits."""

    def __init__(self) -> None:
        self.last = torch.empty(0)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        m = torch.tanh(x) * (t / 1000)[:, None]
        self.last = 0.5 * m + 0.5 * self.last if self.last.shape == m.shape else m
        return self.last


class Following(Averaging):
    """A momentum over calls whatever their rows."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        m, kept = torch.tanh(x), self.last.mean() if self.last.numel() else 0.0
        self.last = m
        return m + 0.1 * kept


class Counting(Averaging):
    """An answer that fades with the calls."""

    calls = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(x) * 0.99**self.calls


class Drawing(Averaging):
    """Random numbers from a stream of its own."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.stream = getattr(self, "stream", seeded(0))
        return torch.tanh(x) + 0.01 * torch.randn(x.shape, generator=self.stream, dtype=x.dtype)


KEEPING = {kind.__name__: kind for kind in (Averaging, Following, Counting, Drawing, Remembering)}


@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("steps", [2, 20])
@pytest.mark.parametrize("window", [8, "auto"])
@pytest.mark.parametrize("kind", KEEPING)
def test_a_model_that_keeps_a_state_between_calls_is_refused_even_where_auto_only_steps(
    kind: str, window: Any, steps: int, B: int
) -> None:
    model, system = KEEPING[kind](), pd.ddim(LINEAR, steps)
    for wrapped in (model, functools.partial(model), lambda x, t: model(x, t)):
        with pytest.raises(ValueError, match=r"model: asked the same row twice.*type window=1"):
            pd.sample(wrapped, system, start(system, B), window=window)


@pytest.mark.parametrize("kind", KEEPING)
def test_a_model_that_keeps_a_state_may_be_stepped_with_where_no_window_is_allowed(kind: str) -> None:
    x = start(SYSTEM, 2)
    assert torch.equal(pd.sample(KEEPING[kind](), SYSTEM, x, window=1).x, pd.sequential(KEEPING[kind](), SYSTEM, x))


@pytest.mark.parametrize("first", [6, 9])
def test_a_state_that_begins_after_some_calls_is_refused_at_the_end_of_the_first(first: int) -> None:
    """A cache that warms up: its first answers are right, and of the later ones every other is that of another row."""
    calls, held = [0], list[Tensor]()

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls[0] += 1
        m = 0.3 * torch.sin(x)
        if calls[0] > first and calls[0] % 2 and held and held[0].shape == m.shape:
            return held[0]
        held[:] = [m]
        return m

    system = pd.ddim(LINEAR, 40)
    with pytest.raises(ValueError, match="asked the same row twice"):
        pd.sample(model, system, start(system, 2), window=8)


class Cached(Net):
    """A network whose every other answer is the last one, once that is switched on."""

    caching, calls = False, 0

    def held(self, m: Tensor) -> Tensor:
        self.calls += 1
        if self.calls % 2 == 0 or getattr(self, "last", m).shape != m.shape or not hasattr(self, "last"):
            self.last = m
        return self.last

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        m = super().forward(x, t)
        return self.held(m) if self.caching else m


class Other(Cached):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.held(super().forward(x, t))


SWITCHED: dict[str, Callable[[Cached], Any]] = {
    "a flag": lambda net: setattr(net, "caching", True),
    "a hook": lambda net: net.register_forward_hook(lambda module, given, m: net.held(m)),
    "a hook inside": lambda net: net.all[1].register_forward_hook(lambda module, given, m: net.held(m)),
    "its forward": lambda net: setattr(net, "forward", lambda x, t: net.held(Net.forward(net, x, t))),
    "its class": lambda net: setattr(net, "__class__", Other),
}


@pytest.mark.parametrize("calls", [0, 1])
@pytest.mark.parametrize("window", [8, "auto"])
@pytest.mark.parametrize("kind", SWITCHED)
def test_what_is_switched_between_two_calls_is_seen_in_the_second(kind: str, window: Any, calls: int) -> None:
    """calls: whether the first or the second call that is checked is the one whose answer is another's."""
    net = Cached().eval()
    assert run(net, window=window).converged
    net.calls = calls
    SWITCHED[kind](net)
    with pytest.raises(ValueError, match="model: asked the same row twice"):
        run(net, window=window)


def test_an_answer_that_is_kept_while_time_stands_is_refused() -> None:
    """As step caches do: 0.5 % off and "converged", for a round that looks again is told what it knew."""
    kept: list[Any] = [None, None]

    def model(x: Tensor, t: Tensor) -> Tensor:
        if kept[0] is None or kept[0].shape != t.shape or bool((kept[0] - t).abs().max() > 60):
            kept[:] = t.clone(), torch.sin(x)
        return kept[1]

    with pytest.raises(ValueError, match="model: asked the same row twice"):
        run(model)


def test_a_state_that_begins_in_a_later_call_is_found_in_the_fourth() -> None:
    begun, calls = [False], [0]

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls[0] += begun[0]
        return torch.tanh(x) * (1 + 0.01 * calls[0])

    for call in range(3):
        assert run(model).converged
        begun[0] = call >= 1
    with pytest.raises(ValueError, match="model: asked the same row twice"):
        run(model)


def test_iterate_asks_once_more_before_its_last_frame() -> None:
    calls = [0]

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls[0] += 1
        return torch.tanh(x) * (1 + 0.01 * max(calls[0] - 6, 0))

    frames = pd.iterate(model, pd.ddim(LINEAR, 40), start(SYSTEM, 2), window=8)
    with pytest.raises(ValueError, match="model: asked the same row twice"):
        list(frames)


class Holder:
    """A function's object that holds its network where few look."""

    def __init__(self, net: nn.Module) -> None:
        self.parts = {"net": net}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.parts["net"](x, t)  # type: ignore[no-any-return]


@pytest.mark.parametrize("window", [1, 8, "auto"])
def test_a_dropout_that_seldom_drops_is_found_by_its_call(window: Any) -> None:
    """No answer differs in twelve rows; the network lies in a list, a dict, or an object."""
    net = Net(nn.Dropout(1e-6)).train()
    nets = [net]
    for model in (Holder(net), lambda x, t: net(x, t), lambda x, t: nets[0](x, t), lambda x, t: Holder(net)(x, t)):
        with pytest.raises(ValueError, match=r"model: given one that calls Dropout in training mode.*type .eval\(\)"):
            run(model, window=window)
    assert run(lambda x, t: torch.tanh(x) if nets else net(x, t), window=window).converged, "it is not called"


def test_a_model_of_one_time_says_that_a_window_has_several() -> None:
    system = pd.ddim(LINEAR, 20)
    with pytest.raises(RuntimeError, match="Scalar") as caught:
        pd.sample(lambda x, t: x * (t.item() / 1000), system, start(system, 1), window=8)
    assert not hasattr(caught.value, "add_note") or "each with its own t" in caught.value.__notes__[0]


def test_a_function_made_anew_is_asked_once_where_auto_only_steps() -> None:
    system, rows, net = pd.ddim(LINEAR, 2), list[int](), Net().double()

    def counted(x: Tensor, t: Tensor) -> Any:
        rows.append(len(x))
        return net(x, t)

    spent = []
    for _ in range(2):
        rows.clear()
        pd.sample(lambda x, t: counted(x, t), system, start(system, 2), window="auto")
        spent.append(sum(rows))
    assert spent[0] - spent[1] == ROWS + LATER


# ---------------------------------------------------------------------------------------- input that is changed


def in_place(x: Tensor, t: Tensor) -> Tensor:
    return x.mul_(2).sub_(1)


def by_numpy(x: Tensor, t: Tensor) -> Tensor:
    seen = x.numpy()
    seen *= 2
    return x - 1


def by_data(x: Tensor, t: Tensor) -> Tensor:
    x.data.mul_(2)
    return x - 1


def clamped(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x.clamp_(-1, 1))


def times(x: Tensor, t: Tensor) -> Tensor:
    t += 1
    return x * (t / 1000)[:, None]


@pytest.mark.parametrize("run_it", [pd.sample, pd.sequential])
@pytest.mark.parametrize("model", [in_place, by_numpy, by_data, clamped, times])
def test_a_model_that_changes_its_input_is_refused(model: Any, run_it: Any) -> None:
    """A10: in windows and step by step, whoever changes it."""
    name = "t" if model is times else "x"
    with pytest.raises(ValueError, match=rf"model: given {name}, it changed it in place.*{name} = {name}.clone\(\)"):
        run_it(model, SYSTEM, start(SYSTEM, 2))


class Keeping:
    """Clears what it was given last, as a buffer that is used again."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if self.last is not None:
            self.last.zero_()
        self.last = x
        return torch.tanh(x)


@pytest.mark.parametrize("rule", [pd.ddim, pd.dpmsolver])
@pytest.mark.parametrize("window", [1, 8, 20])
def test_a_model_may_keep_what_it_is_given_and_write_into_it_later(window: int, rule: Any) -> None:
    system, x = rule(LINEAR, 20), start(SYSTEM, 2)
    before, reference = x.clone(), pd.sequential(lambda x, t: torch.tanh(x), system, x)
    found = pd.sample(Keeping(), system, x, window=window, tolerance=0.0, compare=True)
    assert torch.equal(x, before) and (found.max_error or 0) <= 1e-10
    torch.testing.assert_close(found.x, reference, rtol=1e-9, atol=1e-9)


def test_a_model_that_resizes_what_it_is_given_is_refused_for_that() -> None:
    def model(x: Tensor, t: Tensor) -> Tensor:
        m = torch.tanh(x)
        x.resize_(0)
        return m

    with pytest.raises(ValueError, match="model: given x, it changed it in place"):
        run(model)


def test_pieces_of_a_batch_may_come_in_one_buffer() -> None:
    """A model that reuses the memory of its answer, on a device that has no room for a whole batch."""
    buffer = torch.empty(64, 6, dtype=torch.float64)

    def model(x: Tensor, t: Tensor) -> Tensor:
        if len(x) > 5:
            raise torch.OutOfMemoryError
        return torch.tanh(x, out=buffer[: len(x)])

    assert (run(model, start(SYSTEM, 2), compare=True).max_error or 0) <= 1e-10


# ------------------------------------------------------------------------------------ random numbers of the noise


def drawing(x: Tensor, t: Tensor) -> Tensor:
    torch.rand(1)
    return torch.tanh(x)


def seeding(x: Tensor, t: Tensor) -> Tensor:
    torch.manual_seed(0)
    return torch.tanh(x) + 0.1 * torch.randn(6)


@pytest.mark.parametrize("window", [8, "auto"])
@pytest.mark.parametrize("model", [drawing, seeding])
def test_a_model_that_draws_from_the_stream_of_the_noise_is_refused(model: Any, window: Any) -> None:
    """A window draws the noise of many rows before the model is called: it would be another sample, with no sign."""
    system = pd.ddpm(LINEAR, 20)
    x = start(system, 2)
    for _ in range(2):  # a model that seeds leaves the stream where it found it
        with pytest.raises(ValueError, match=r"generator: given torch's own.*; type generator=torch.Generator"):
            pd.sample(model, system, x, window=window)
    with pytest.raises(ValueError, match="generator: given torch's own"):
        pd.sample(model, system, x, window=1, compare=True)  # which would compare with other noise
    torch.manual_seed(1)
    stepped = pd.sample(model, system, x, window=1).x
    torch.manual_seed(1)
    assert torch.equal(stepped, pd.sequential(model, system, x))
    found = pd.sample(model, system, x, window=window, tolerance=0.0, generator=seeded(1), compare=True)
    assert (found.max_error or 0) <= 1e-6


def test_a_given_generator_that_the_model_draws_from_is_refused() -> None:
    system, stream = pd.ddpm(LINEAR, 20), seeded(3)

    def model(x: Tensor, t: Tensor) -> Tensor:
        torch.rand(1, generator=stream)
        return torch.tanh(x)

    with pytest.raises(ValueError, match="generator: given a generator, which the model draws from"):
        pd.sample(model, system, start(system, 2), window=8, generator=[stream, seeded(1)])


def test_a_condition_that_is_changed_is_refused() -> None:
    def model(x: Tensor, t: Tensor, shift: Tensor) -> Tensor:
        return x - shift.mul_(2)

    shift = torch.ones(2, 6, dtype=torch.float64)
    for run_it in (pd.sample, pd.sequential):
        with pytest.raises(ValueError, match="model: given shift, it changed it in place"):
            run_it(model, SYSTEM, start(SYSTEM, 2), condition={"shift": shift})  # type: ignore[operator]
    assert torch.equal(shift, torch.ones_like(shift))


def test_inference_mode_is_no_trouble() -> None:
    with torch.inference_mode():
        x = start(SYSTEM, 2)
        assert (run(lambda x, t: x / 2, x, compare=True).max_error or 0) <= 1e-10
        with pytest.raises(ValueError, match="changed it in place"):
            run(in_place, x)


# ------------------------------------------------------------------------------------------------ what it costs


def test_a_model_is_checked_once_for_each_shape_and_in_no_count() -> None:
    sizes = list[int]()

    class Counting:
        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            sizes.append(len(x))
            return x / 2

    model, beside = Counting(), list[int]()
    for d in (6, 6, 5):
        sizes.clear()
        solution = pd.sample(model, SYSTEM, torch.randn(2, d, generator=seeded(0)), window=8)
        beside.append(sum(sizes) - solution.evaluations)
    assert beside == [ROWS + LATER + 16, 0, ROWS + LATER + 16]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_asked_beside_changes_no_sample_and_no_stream(method: pd.AbstractMethod) -> None:
    system, x = pd.ddpm(LINEAR, 20), start(pd.ddpm(LINEAR, 20), 2)
    samples = []

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x)

    for _ in range(2):  # the second is not checked
        torch.manual_seed(5)
        samples.append((pd.sample(model, system, x, method, window=8).x, torch.get_rng_state()))
    assert torch.equal(samples[0][0], samples[1][0]) and torch.equal(samples[0][1], samples[1][1])
