"""A model whose rounds are compiled: all that a round does outside of the model becomes one graph of tensors.

    | window full, all samples at one row | the method | then                                   |
    | yes                                 | compiles   | sweep and criterion are one graph      |
    | else                                | any        | operator by operator, as without this  |

A graph depends on the shape of a state and on how many rows a window has. Which rows they are, and how many of them
were evaluated before, are numbers that it is given: so a chain whose window stays needs one graph. What torch cannot
compile runs operator by operator, and a warning says so once.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..validate import in_words, named_arguments, refusal
from .chunked import Model

T = TypeVar("T")


class Compiled(nn.Module):
    """A model whose rounds are compiled, see `compiled`.

    Attributes:
        rounds: How many rounds were run as a graph so far.
        failed: Why they no longer are; None while they are.
    """

    def __init__(self, model: Model, backend: str | Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.backend = model, backend
        self.rounds, self.failed = 0, None  # type: int, str | None
        self.graphs: dict[Callable[..., Any], Callable[..., Any]] = {}

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """What the model says of x (M, ...)."""
        m: Tensor = self.model(x, t, **condition)
        return m

    def run(self, play: Callable[..., T], *given: Any) -> T:
        """play(*given) as a graph, and as it is where there can be none."""
        if self.failed is None:
            try:
                if play not in self.graphs:
                    self.graphs[play] = torch.compile(play, backend=self.backend, fullgraph=True, dynamic=True)
                with numbers_as_inputs():
                    played: T = self.graphs[play](*given)
                self.rounds += 1
                return played
            except Exception as error:
                self.failed = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                warnings.warn(f"compiled: rounds run operator by operator, for {self.failed}", stacklevel=2)
        return play(*given)


def numbers_as_inputs() -> ExitStack:
    """Within it torch takes the whole numbers of a round for inputs of the graph, each for itself, and not those that
    are equal in the first round for one: else a round in which they differ is compiled again. What a method was made
    with, such as its `weight`, stays a number of the graph."""
    stack = ExitStack()
    shapes = importlib.import_module("torch.fx.experimental._config")  # which nobody else waits for
    traces = importlib.import_module("torch._dynamo.config")
    if hasattr(shapes, "use_duck_shape"):
        stack.enter_context(shapes.patch(use_duck_shape=False))
    if hasattr(traces, "specialize_float"):
        stack.enter_context(traces.patch(specialize_float=True))
    return stack


@named_arguments
def compiled(model: Model, backend: str | Callable[..., Any] = "inductor") -> Compiled:
    """A model for which what a round does outside of it is compiled to one graph, by `torch.compile`.

    For small models, whose time a round's own operators are a part of. The model itself is left as it is; give one that
    is compiled already to have both. Rounds whose samples stand at different steps, the first round and the last
    windows of a chain are not compiled, nor are methods other than `Spectral`, `Picard` and `Jacobi`.

    Args:
        model: As in `sample`.
        backend: Of `torch.compile`.

    Returns:
        The same model, for which `sample` and `iterate` compile their rounds.

    Raises:
        ValueError: The model cannot be called.

    Example:
        >>> import paradigms as pd
        >>> model = pd.compiled(lambda x, t: 0.1 * x, backend="eager")
        >>> system = pd.ddim(pd.linear(), steps=50)
        >>> pd.sample(model, system, system.noise((1, 3, 8, 8)), window=16).converged
        True
    """
    if not callable(model):
        raise refusal("model", in_words(model), "a model, called as model(x, t)")
    return Compiled(model, backend)
