"""Serves the page on this machine alone until it is stopped by hand."""

from __future__ import annotations

import socket
import threading
import webbrowser
from typing import Any

import uvicorn

ADDRESS = "127.0.0.1"
# Seconds that a stream is given to end when the server is stopped. Chosen by hand.
GRACE = 1


def bound(port: int) -> socket.socket:
    """A socket on this machine's port, 0 for any that is free; raises ValueError where it cannot be had."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port is {port}; type a whole number from 1 to 65535, or 0 for any that is free")
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((ADDRESS, port))
        found.listen()
    except OSError as error:
        found.close()
        why = error.strerror or type(error).__name__
        raise ValueError(f"--port {port} cannot be had ({why}); type another, or 0 for any that is free") from error
    return found


def address(at: socket.socket) -> str:
    """Where the page is."""
    return f"http://{ADDRESS}:{at.getsockname()[1]}/"


def serve(app: Any, at: socket.socket, show: bool) -> None:
    """Answers on a socket until Ctrl-C; show: opens the page in a browser."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE)
    if show:
        threading.Timer(0.5, webbrowser.open, [address(at)]).start()
    uvicorn.Server(config).run(sockets=[at])
