"""Where a published model's weights are: a folder, this machine's cache, the hub if asked; never a long wait.

| --weights | what is tried                                                                       |
| local     | the hub's cache on this machine; no connection is made                              |
| hub       | the same, then a download, after the hub answered within `PATIENCE` seconds         |
| a path    | that folder, as save_pretrained wrote it                                            |
| none      | nothing: random weights                                                             |
"""

from __future__ import annotations

import socket
from pathlib import Path

PATIENCE = 5.0  # seconds
HOST = "huggingface.co"


def find(hub_id: str, where: str) -> tuple[Path | None, str]:
    """The folder of a model's pipeline, or None and why; raises ValueError for a path where no pipeline is."""
    if where == "none":
        return None, "random weights were asked for"
    if where not in ("local", "hub"):
        if not (Path(where) / "model_index.json").is_file():
            raise ValueError(
                f"--weights is {where!r}, where no pipeline is; type local, hub, none or a pipeline's folder"
            )
        return Path(where), f"weights of {where}"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True)), f"weights of {hub_id}, in this machine's cache"
    except (LocalEntryNotFoundError, FileNotFoundError, OSError):
        if where == "local":
            return None, f"{hub_id} is not in this machine's cache; with a network type: --weights hub"
    if not reachable():
        return None, f"{HOST} did not answer within {PATIENCE:g} seconds"
    try:
        return Path(snapshot_download(hub_id, etag_timeout=PATIENCE)), f"weights of {hub_id}, from the hub"
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, RuntimeError) as error:
        return None, f"{hub_id} did not come from the hub ({type(error).__name__})"


def reachable(host: str = HOST, port: int = 443, patience: float = PATIENCE) -> bool:
    """Whether a connection can be made in time."""
    try:
        with socket.create_connection((host, port), timeout=patience):
            return True
    except OSError:
        return False
