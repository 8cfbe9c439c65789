"""Ctrl-C ends the program with 130 and one line, while it imports, checks, samples or writes (B13)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import tiny

PROGRAM = """
import os, signal, sys
class Pressed:  # Ctrl-C as soon as a module is asked for; an importer may make another error of it
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                if {torn}:
                    raise AttributeError("partially initialized module")
                raise
sys.meta_path.insert(0, Pressed())
sys.argv = ["paradigms", *sys.argv[1:]]
from paradigms.__main__ import main
main()
"""
WHEN = {  # the module that is asked for when it comes, and whether its importer makes another error of it
    "before torch is there": ("torch", False),
    "while torch is imported": ("torch.nn.functional", True),
    "while the command line is imported": ("paradigms.cli.app", True),
    "while a model is checked": ("paradigms.cli.model_job", True),
    "after sampling, before pictures": ("paradigms.viz.pictures", False),
    "while pictures are imported": ("matplotlib.figure", True),
}


@pytest.mark.parametrize("when", WHEN)
def test_it_ends_the_program_in_one_line(when: str, tmp_path: Path) -> None:
    model, (module, torn) = tiny(tmp_path / "tiny.safetensors"), WHEN[when]
    args = ["sample", str(model), "--rule", "ddim", "--steps", "4", "--window", "4", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-c", PROGRAM.format(module=module, torn=torn), *args]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "paradigms: stopped by hand\n")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_program_that_imports_the_library_keeps_its_own_ctrl_c() -> None:
    code = "import signal, paradigms; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_package_of_that_kind_of_start_keeps_its_own_ctrl_c_too(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import paradigms; print(paradigms.steps.__name__)")
    (tmp_path / "mine" / "__main__.py").write_text(
        "import signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    where = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "mine", "--version"]
    done = subprocess.run(command, env=where, check=True, timeout=120, capture_output=True, text=True)
    assert done.stdout == "steps\n"


@pytest.mark.parametrize("command", ["--version", "models", "sample --help", ""])
def test_what_informs_needs_no_torch(command: str) -> None:
    code = "import sys; sys.argv = ['paradigms', *sys.argv[1:]]\nfrom paradigms.__main__ import main\n"
    code += "try: main()\nexcept SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, *command.split()], check=True, timeout=120, capture_output=True)
