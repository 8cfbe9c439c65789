"""What the tests of policies share: a policy of each kind, and a chunk of its actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from standins import OBS, OBS_STEPS, DiffusionPolicy, HybridImagePolicy, LowdimPolicy, TransformerPolicy

KINDS: dict[str, Callable[..., Any]] = {
    "LeRobot": DiffusionPolicy,
    "U-Net, global": lambda **how: LowdimPolicy("global", **how),
    "U-Net, local": lambda **how: LowdimPolicy("local", **how),
    "U-Net, inpainting": lambda **how: LowdimPolicy("inpaint", **how),
    "image": lambda **how: HybridImagePolicy("global", **how),
    "image, inpainting": lambda **how: HybridImagePolicy("inpaint", **how),
    "transformer": lambda **how: TransformerPolicy("cond", **how),
    "transformer, inpainting": lambda **how: TransformerPolicy("inpaint", **how),
}


def made(kind: str, **how: Any) -> Any:
    """A policy of a kind with weights of its own, at rest."""
    torch.manual_seed(0)
    return KINDS[kind](**how).eval()


def act(policy: Any, seed: int = 0, B: int = 1) -> Tensor:
    """A chunk of actions for observations of a seed; the noise is the global generator's."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    state = torch.randn(B, OBS_STEPS, OBS, generator=g)
    with torch.no_grad():
        if isinstance(policy, DiffusionPolicy):
            return policy.diffusion.generate_actions({"observation.state": state})
        image = torch.rand(B, OBS_STEPS, 3, 12, 12, generator=g)
        return policy.predict_action({"obs": state, "image": image, "agent_pos": state[..., :2]})["action_pred"]
