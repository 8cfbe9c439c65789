"""The rules: each fills the table of equation (1).

| file           | what the noise levels are                                      |
| schedule_rules | a chain of timesteps on a training schedule, as in diffusers   |
| given_levels   | given one by one: `from_levels`; EDM's and flow matching's own |
| level_rules    | the equations behind `from_levels`                             |
| timestep_grid  | the parts that all of them are made of                         |
"""

from .given_levels import edm, euler, from_levels
from .schedule_rules import ddim, ddpm, dpmsolver, dpmsolver_single, flow, flow_heun, heun

__all__ = ["ddim", "ddpm", "dpmsolver", "dpmsolver_single", "edm", "euler", "flow", "flow_heun", "from_levels", "heun"]
