"""`paradigms race` as it is typed: what it lacks and what it cannot have is told in one line."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["starlette"] = None
sys.argv = ["paradigms", "race", "--no-open"]
from paradigms.__main__ import main
main()
"""


def test_a_missing_extra_is_told_in_one_line() -> None:
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "paradigms: this needs starlette; type: pip install 'paradigms-sampling[web]'\n"


@pytest.mark.parametrize("port", ["-1", "65536", "taken"])
def test_a_port_that_cannot_be_had_is_told_in_one_line(port: str) -> None:
    pytest.importorskip("uvicorn")
    from paradigms.race.serve import bound

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1] if port == "taken" else int(port)
        with pytest.raises(ValueError, match=rf"^--port (is )?{number}.*type") as refused:
            bound(number)
    assert "\n" not in str(refused.value)
