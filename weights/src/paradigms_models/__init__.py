"""Weights of the models that `paradigms.models` and `paradigms.policies` load: data, and the folder it lies in."""

from pathlib import Path

FOLDER = Path(__file__).parent
