"""Where the weights of the shipped models are: in a distribution of their own, `paradigms-models`."""

from __future__ import annotations

from pathlib import Path


def shipped_weights(kind: str) -> Path:
    """The folder of the shipped weights of a kind.

    Args:
        kind: "images", "policies" or "latent".
    Returns:
        The folder's path.
    Raises:
        ImportError: if the distribution is not installed; it says what to type.
    """
    try:
        from paradigms_models import FOLDER
    except ImportError as error:
        raise ImportError(
            "the weights of the shipped models are missing; needed: the distribution paradigms-models; "
            "type: pip install 'paradigms-sampling[models]', in a clone: pip install ./weights"
        ) from error
    return FOLDER / kind
