"""Weights on disk: one safetensors file whose metadata hold, as JSON, everything that rebuilds the model.

The metadata entry `paradigms` is {"kind": "denoiser" or "features", "net": constructor arguments, ...}.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import brief_name, is_file, parse_object, shipped_weights
from .net import UNet
from .noise import BETAS

NAMES = ("digits", "scenes")
KEY = "paradigms"
# The largest size that a file may tell. Chosen by hand.
LARGEST = 65_536
# Numbers of a state, so that a file of some bytes does not fill the memory. Chosen by hand: 4096 x 4096 pixels.
LARGEST_STATE = 1 << 24


@dataclass(frozen=True)
class Pretrained:
    """A trained denoiser and what a sampler has to know about it.

    model(x (M, C, H, W), t (M,), label (M,) or None) answers eps or v, by `prediction`, shaped like x;
    it is in eval mode and asks for no gradients. `classes` is 0 for an unconditional model. `betas` spells
    the noise schedule the timesteps 0..999 refer to, `range` the interval the pictures live in.
    """

    name: str
    model: nn.Module
    shape: tuple[int, int, int]
    prediction: str
    classes: int
    betas: dict[str, str | float | int]
    range: tuple[float, float]


def load(name_or_path: str | os.PathLike[str]) -> Pretrained:
    """The shipped model called 'digits' or 'scenes', or the one in a safetensors file that `save` wrote.

    Raises ValueError for an unknown name, a missing, broken or foreign file; ImportError without safetensors.
    """
    path = find(name_or_path, "")
    about, weights = read(path, "denoiser")
    try:
        model = rebuild(promised(about, weights), weights)
        return Pretrained(
            name=str(about["name"]),
            model=model,
            shape=tuple(about["shape"]),
            prediction=str(about["prediction"]),
            classes=int(about["classes"]),
            betas=dict(about["betas"]),
            range=tuple(about["range"]),
        )
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise refuse(path, "its metadata and its weights do not describe one of our models") from error


def save(
    path: str | os.PathLike[str],
    model: UNet,
    *,
    name: str,
    shape: tuple[int, int, int],
    prediction: str,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `model` where `load` can read it; `dtype` torch.float16 halves the file and rounds the weights.

    Raises ValueError unless prediction is 'epsilon' or 'v'.
    """
    if prediction not in ("epsilon", "v"):
        raise ValueError(f"prediction is {prediction!r}; give 'epsilon' or 'v'")
    about = {
        "kind": "denoiser",
        "net": model.config,
        "name": name,
        "shape": list(shape),
        "prediction": prediction,
        "classes": model.classes,
        "betas": BETAS,
        "range": [-1.0, 1.0],
    }
    write(path, model, about, dtype)


def find(name_or_path: str | os.PathLike[str], suffix: str) -> Path:
    """The file of a shipped name (with `suffix`) or the given path, whether or not it exists."""
    if str(name_or_path) in NAMES:
        return shipped_weights("images") / f"{name_or_path}{suffix}.safetensors"
    path = Path(name_or_path)
    if not is_file(path):
        raise ValueError(
            f"there is no model {brief_name(name_or_path)}; type one of {', '.join(map(repr, NAMES))} "
            "or the path of a .safetensors file written by paradigms.models.save"
        )
    return path


def read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and float32 weights of a file of this kind; ValueError when it is anything else."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError("reading weights needs safetensors: pip install safetensors") from error
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            keys = file.keys()
            weights = {key: file.get_tensor(key).float() for key in keys}
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise refuse(path, "it is missing, cut short or not a safetensors file") from error
    try:
        about = parse_object(metadata[KEY], KEY)
    except (KeyError, ValueError) as error:
        raise refuse(path, "it is a safetensors file without our metadata") from error
    if about.get("kind") != kind:
        raise refuse(path, f"it does not hold a model of the kind {kind!r}")
    return about, weights


def write(path: str | os.PathLike[str], model: nn.Module, about: dict[str, Any], dtype: torch.dtype) -> None:
    """Write the model's weights as `dtype` with `about` as metadata, whole or not at all."""
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise ImportError("writing weights needs safetensors: pip install safetensors") from error
    weights = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    partial = f"{os.fspath(path)}.partial"
    save_file(weights, partial, metadata={KEY: json.dumps(about)})
    os.replace(partial, path)


def promised(about: dict[str, Any], weights: dict[str, Tensor]) -> UNet:
    """The network without numbers that a file describes; raises ValueError unless the file's weights are its own.

    A file may promise anything: nothing is made that its weights do not fill.
    """
    net, shape = about["net"], about["shape"]
    sizes = [v for value in (*net.values(), shape) for v in (value if isinstance(value, list) else [value])]
    if not all(type(v) is int and 0 <= v <= LARGEST for v in (*sizes, about["classes"], about["betas"]["count"])):
        raise ValueError("sizes are whole numbers")
    if prod(shape) > LARGEST_STATE:
        raise ValueError("its states are too large")
    if net["depth"] * len(net["widths"]) > len(weights) or shape[0] != net["channels"] or len(shape) != 3:
        raise ValueError("more layers than weights, or another shape")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without numbers
        model = UNet(**net)
    if model.classes != about["classes"]:
        raise ValueError("other classes than the network's")
    if {k: v.shape for k, v in model.state_dict().items()} != {k: v.shape for k, v in weights.items()}:
        raise ValueError("the weights are another network's")
    return model


def rebuild(model: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The model with these weights, in eval mode and frozen."""
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def refuse(path: Path, why: str) -> ValueError:
    return ValueError(
        f"cannot load {brief_name(path)}: {why}; type one of {', '.join(map(repr, NAMES))} or the path "
        "of a .safetensors file written by paradigms.models.save"
    )
