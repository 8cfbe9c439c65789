"""Parallel-in-time sampling of diffusion models: many denoising steps at once, iterated until they agree."""

from . import interrupt

if interrupt.is_program():  # Ctrl-C while the imports below take their seconds is one line too
    interrupt.begin()

from .adapt import Run, disable_parallel_sampling, enable_parallel_sampling, from_scheduler, parallelize
from .anderson import Anderson, ExponentialPicard
from .execute import Guided, NonFiniteError
from .frame import Frame
from .method import AbstractMethod, Copy, Extrapolate, Guess, Jacobi, Picard
from .newton import QuasiNewton
from .parareal import Held, Linear, Parareal
from .roll import RankError
from .rules import ddim, ddpm, dpmsolver, dpmsolver_single, flow, flow_heun, heun
from .schedule import Schedule, cosine, from_betas, linear, rectified_flow, scaled_linear, zero_terminal_snr
from .shard import sharded
from .shares import Sharing
from .skeleton import Skeleton
from .solution import Comparison, Solution, Verification
from .solve import iterate, sample, sequential
from .spectral import Spectral
from .speculation import Speculation
from .stop import AbstractStop, FinalError, StepNoise
from .system import System

__version__ = "0.1.0"

__all__ = [
    "AbstractMethod", "AbstractStop", "Anderson", "Comparison", "Copy", "ExponentialPicard", "Extrapolate",
    "FinalError", "Frame", "Guess", "Guided", "Held", "Jacobi", "Linear", "NonFiniteError", "Parareal",
    "Picard", "QuasiNewton", "RankError", "Run", "Schedule", "Sharing", "Skeleton", "Solution", "Spectral", "Speculation",
    "StepNoise", "System", "Verification", "cosine", "ddim", "ddpm", "disable_parallel_sampling", "dpmsolver",
    "dpmsolver_single", "enable_parallel_sampling", "flow", "flow_heun", "from_betas", "from_scheduler", "heun",
    "iterate", "linear", "parallelize", "rectified_flow", "sample", "scaled_linear", "sequential", "sharded",
    "zero_terminal_snr",
]  # fmt: skip
