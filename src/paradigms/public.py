"""The names of the library, as `paradigms` gives them; torch is imported with them."""

from __future__ import annotations

from .adapters import (
    Run,
    SchedulerError,
    disable_parallel_sampling,
    enable_parallel_sampling,
    from_scheduler,
    parallelize,
    sample_loop,
)
from .denoiser import Denoiser, make_denoiser
from .distributed.failures import RankError
from .distributed.partition import Sharing
from .execution.compiled import compiled
from .execution.direction import DirectionWarning
from .execution.evaluate import NonFiniteError
from .execution.guidance import Guided
from .execution.sharded import sharded
from .methods.anderson import Anderson, ExponentialPicard
from .methods.base import AbstractMethod, step_rows
from .methods.guess import Copy, Extrapolate, Guess
from .methods.newton import QuasiNewton
from .methods.parareal import CoarseSolver, HeldCoarse, LinearCoarse, Parareal
from .methods.picard import Jacobi, Picard
from .methods.spectral import Spectral
from .methods.speculation import Speculation
from .methods.work import Evaluate, Update, WindowState
from .problem import Problem
from .rules import ddim, ddpm, dpmsolver, dpmsolver_single, edm, euler, flow, flow_heun, from_levels, heun
from .schedule import Schedule, cosine, from_betas, linear, rectified_flow, scaled_linear, zero_terminal_snr
from .skeleton import Skeleton
from .solution import Comparison, Solution
from .solve import iterate, sample, sequential
from .steps import Rows, steps, together
from .stopping.base import AbstractStop
from .stopping.final_error import FinalError
from .stopping.step_noise import StepNoise
from .system import System
from .window.controller import FixedWindow, WindowController
from .window.expected import Expected
from .window.frame import Frame
from .window.retry import Retry
from .window.verify import Verification

__all__ = [
    "AbstractMethod", "AbstractStop", "Anderson", "CoarseSolver", "Comparison", "Copy", "Denoiser",
    "DirectionWarning", "Evaluate", "Expected", "ExponentialPicard", "Extrapolate", "FinalError", "FixedWindow",
    "Frame", "Guess", "Guided", "HeldCoarse", "Jacobi", "LinearCoarse", "NonFiniteError", "Parareal", "Picard",
    "Problem", "QuasiNewton", "RankError", "Retry", "Rows", "Run", "Schedule", "SchedulerError", "Sharing",
    "Skeleton", "Solution", "Spectral", "Speculation", "StepNoise", "System", "Update", "Verification",
    "WindowController", "WindowState", "compiled", "cosine", "ddim", "ddpm", "disable_parallel_sampling", "dpmsolver",
    "dpmsolver_single", "edm", "enable_parallel_sampling", "euler", "flow", "flow_heun", "from_betas",
    "from_levels", "from_scheduler", "heun", "iterate", "linear", "make_denoiser", "parallelize", "rectified_flow",
    "sample", "sample_loop", "scaled_linear", "sequential", "sharded", "step_rows", "steps", "together",
    "zero_terminal_snr",
]  # fmt: skip
