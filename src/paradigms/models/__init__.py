"""Small trained diffusion models to try samplers on: `load("digits")` and `load("scenes")`."""

from __future__ import annotations

from .store import Pretrained, load, save

__all__ = ["Pretrained", "load", "save"]
