"""Parallel-in-time sampling of diffusion models: many denoising steps at once, iterated until they agree."""

from .cli import interrupt

if interrupt.is_program():  # Ctrl-C while the imports below take their seconds is one line too
    interrupt.begin()

from .adapters import Run, disable_parallel_sampling, enable_parallel_sampling, from_scheduler, parallelize
from .distributed.failures import RankError
from .distributed.partition import Sharing
from .execution.direction import DirectionWarning
from .execution.evaluate import NonFiniteError
from .execution.guidance import Guided
from .execution.sharded import sharded
from .levels import edm, euler, from_levels
from .methods.anderson import Anderson, ExponentialPicard
from .methods.base import AbstractMethod
from .methods.guess import Copy, Extrapolate, Guess
from .methods.newton import QuasiNewton
from .methods.parareal import Held, Linear, Parareal
from .methods.picard import Jacobi, Picard
from .methods.spectral import Spectral
from .methods.speculation import Speculation
from .rules import ddim, ddpm, dpmsolver, dpmsolver_single, flow, flow_heun, heun
from .schedule import Schedule, cosine, from_betas, linear, rectified_flow, scaled_linear, zero_terminal_snr
from .solution import Comparison, Solution
from .solve import iterate, sample, sequential
from .steps import Rows, steps, together
from .stopping.criteria import AbstractStop, FinalError, StepNoise
from .system import System
from .window.frame import Frame
from .window.verify import Verification

__version__ = "0.1.0"


def __dir__() -> list[str]:
    """The public names alone: what a folder of this package is called is nobody's to type."""
    return [*__all__, "__version__"]


__all__ = [
    "AbstractMethod", "AbstractStop", "Anderson", "Comparison", "Copy", "DirectionWarning", "ExponentialPicard",
    "Extrapolate", "FinalError", "Frame", "Guess", "Guided", "Held", "Jacobi", "Linear", "NonFiniteError", "Parareal",
    "Picard", "QuasiNewton", "RankError", "Rows", "Run", "Schedule", "Sharing", "Solution", "Spectral", "Speculation",
    "StepNoise", "System", "Verification", "cosine", "ddim", "ddpm", "disable_parallel_sampling", "dpmsolver",
    "dpmsolver_single", "edm", "enable_parallel_sampling", "euler", "flow", "flow_heun", "from_betas", "from_levels",
    "from_scheduler", "heun",
    "iterate", "linear", "parallelize", "rectified_flow", "sample", "scaled_linear", "sequential", "sharded",
    "steps", "together", "zero_terminal_snr",
]  # fmt: skip
