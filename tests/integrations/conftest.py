"""Where a library is here that asks for torchvision and that does not load, its Python is made to."""

from __future__ import annotations

from importlib.util import find_spec

from benchmarks.outside import no_torchvision

if any(find_spec(library) for library in ("denoising_diffusion_pytorch", "k_diffusion", "smalldiffusion")):
    no_torchvision.ensure()
