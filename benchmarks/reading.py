"""`python -m benchmarks reading`: what one opens to follow a call, and how the source reads beside other libraries.

A file is opened when one of its functions runs during the call; what runs while it is imported does not count.
The calls: the paper's (Picard, window 16, step noise), the default `pd.sample`, and a tiny Stable Diffusion pipeline.
Sources are read by their syntax tree, the tests left out; `self` and `cls` are no parameters.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

import paradigms as pd
from paradigms.models import load

from .report import table, write

PACKAGE = Path(pd.__file__).parent
ANCHORS = ("diffrax", "optimistix", "k_diffusion", "accelerate")  # libraries that read well, in the same field or near
# Files that refuse, shield or share out and do not sample, and the model itself: nobody opens them to learn the method.
GUARDS = (
    "checks/", "distributed/", "models/", "validate.py", "execution/model_check.py", "execution/model_modules.py",
    "execution/model_differences.py", "execution/model_known.py", "execution/model_mode.py", "execution/model_rows.py",
    "execution/model_output.py", "execution/model_key.py", "execution/mesh.py", "execution/memory.py",
    "execution/torch_modes.py", "execution/direction.py",
)  # fmt: skip
# The same calls in 0.1.0 before its files were moved (commit 9ad7f2a), counted by this program; guards as above under
# their old names: given, check, assume, answer, identity, over, heap, ambient, team, models/net.
BEFORE = [
    ("the paper's", 26, 3659, 937, 18, 2264, None),
    ("the default", 35, 5130, 1528, None, 3755, None),
    ("a pipeline's", 57, 8240, 2529, None, None, None),
]
WINDOW, STEPS, NOISE = 16, 100, 0.1  # the paper's call: its DDPM of 100 steps and its tolerance


@dataclass
class Opened:
    """The functions of the package that ran, by file."""

    functions: dict[str, set[CodeType]] = field(default_factory=dict)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """A profiler, as `sys.setprofile` wants one."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)) and code.co_name != "<module>":
            self.functions.setdefault(code.co_filename, set()).add(code)

    @property
    def files(self) -> list[str]:
        """The files, as paths in the package."""
        return sorted(Path(name).relative_to(PACKAGE).as_posix() for name in self.functions)

    @property
    def lines(self) -> int:
        """The lines of those files."""
        return sum(len(Path(name).read_text().splitlines()) for name in self.functions)

    @property
    def lines_run(self) -> int:
        """The lines of the functions that ran, the nested ones within their own."""
        found = 0
        for codes in self.functions.values():
            found += len({line for code in codes for *_, line in code.co_lines() if line is not None})
        return found

    def without_guards(self) -> Opened:
        """What of it is no guard."""
        guards = tuple(str(PACKAGE / each) for each in GUARDS)
        return Opened({name: codes for name, codes in self.functions.items() if not name.startswith(guards)})

    def row(self) -> list[int]:
        """The numbers of its line in the table: all that is opened, and what of it is no guard."""
        return [n for each in (self, self.without_guards()) for n in (len(each.files), each.lines, each.lines_run)]


def opened(call: Callable[[], Any]) -> Opened:
    """What is opened to follow a call."""
    found = Opened()
    sys.setprofile(found)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def calls() -> dict[str, Callable[[], Any]]:
    """The three calls, each ready to be made."""
    from diffusers import logging

    from .zoo import ZOO

    logging.set_verbosity_error()
    model = load("scenes")
    system = pd.ddpm(pd.linear(), STEPS, prediction=model.prediction)
    x = system.noise((1, *model.shape), torch.Generator().manual_seed(0))
    paper: dict[str, Any] = {"window": WINDOW, "tolerance": pd.StepNoise(NOISE)}
    specimen = next(each for each in ZOO if each.name == "StableDiffusionPipeline")
    pipe = specimen.build()
    pipe.set_progress_bar_config(disable=True)

    def pipeline() -> None:
        pd.enable_parallel_sampling(pipe)
        pipe(**specimen.inputs() | {"num_inference_steps": STEPS})

    return {
        "the paper's, pd.sample(..., Picard(), window=16, tolerance=StepNoise(0.1))": lambda: pd.sample(
            model.model, system, x, pd.Picard(), generator=torch.Generator().manual_seed(1), **paper
        ),
        "the default, pd.sample(model, system, x)": lambda: pd.sample(model.model, system, x),
        "a pipeline's, enable_parallel_sampling(pipe); pipe(prompt)": pipeline,
    }


# ------------------------------------------------------------------------------------------------------ the sources


@dataclass(frozen=True)
class Function:
    """A function of a source: its lines without the docstring, its parameters, whether a user calls it."""

    name: str
    lines: int
    parameters: int
    public: bool


@dataclass(frozen=True)
class Source:
    """A library as it reads."""

    functions: Sequence[Function]
    classes: dict[str, int]  # lines of each, the docstring left out
    lines: int
    comments: int  # lines that hold a comment and nothing else

    def row(self) -> list[Any]:
        """The numbers of its line in the table."""
        lengths = sorted(f.lines for f in self.functions)
        longest = max(self.functions, key=lambda f: f.lines)
        internal = max((f for f in self.functions if not f.public), key=lambda f: f.parameters)
        biggest = max(self.classes, key=lambda name: self.classes[name])
        return [
            self.lines,
            f"{share([one_word(f.name) for f in self.functions]):.0f} %",
            f"{share([one_word(name.split(':')[1]) for name in self.classes]):.0f} %",
            f"{100 * self.comments / self.lines:.1f} %",
            int(statistics.median(lengths)),
            lengths[int(0.9 * len(lengths))],
            f"{longest.lines} ({longest.name})",
            f"{internal.parameters} ({internal.name})",
            f"{self.classes[biggest]} ({biggest.split(':')[1]})",
        ]


HEAD = ["library", "lines", "one-word functions", "classes", "comment lines", "median function", "90th percentile"]
HEAD += ["longest function", "most internal parameters", "longest class"]


def read(folder: Path) -> Source:
    """Reads a package, its tests left out."""
    functions, classes, lines, comments = list[Function](), dict[str, int](), 0, 0
    public = exported(folder)
    for file in sorted(folder.rglob("*.py")):
        if {"tests", "test"} & set(file.relative_to(folder).parts[:-1]):
            continue
        text = file.read_text()
        lines += len(text.splitlines())
        comments += comment_lines(text)
        visit(ast.parse(text), public, functions, classes, f"{file}:")
    return Source(functions, classes, lines, comments)


def visit(
    node: ast.AST, public: set[str], functions: list[Function], classes: dict[str, int], place: str, owned: bool = False
) -> None:
    """Adds the functions and classes in a node; owned: it is a class that a user may hold."""
    for child in ast.iter_child_nodes(node):
        inside = owned
        if isinstance(child, ast.ClassDef):
            classes[place + child.name] = length(child)
            inside = child.name in public
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            a = child.args
            names = [v.arg for v in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            count = len([v for i, v in enumerate(names) if not (i == 0 and v in ("self", "cls"))])
            count += (a.vararg is not None) + (a.kwarg is not None)
            functions.append(Function(child.name, length(child), count, child.name in public or owned))
            inside = False
        visit(child, public, functions, classes, place, inside)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """The lines of a function or class, without its docstring."""
    first = node.body[0]
    doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return (node.end_lineno or 0) - node.lineno + 1 - ((first.end_lineno or 0) - first.lineno + 1 if doc else 0)


def comment_lines(text: str) -> int:
    """Lines that hold a comment and nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(t.type == tokenize.COMMENT and not t.line[: t.start[1]].strip() for t in tokens)


def exported(folder: Path) -> set[str]:
    """The names that a package's __init__ files import: what a user may call."""
    found: set[str] = set()
    for file in folder.rglob("__init__.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {a.asname or a.name for a in node.names}
    return found


def one_word(name: str) -> bool:
    """Whether a name is one word: without an underscore inside, and with one capital letter group."""
    name = name.strip("_")
    return "_" not in name and len(re.findall(r"[A-Z]+[a-z0-9]*|^[a-z0-9]+", name)) <= 1


def share(each: Sequence[bool]) -> float:
    """How many of them, in per cent."""
    return 100 * sum(each) / max(len(each), 1)


def found(sources: Sequence[str]) -> dict[str, Path]:
    """The packages to read: our own, the anchors that are installed, and NAME=FOLDER. Raises ValueError."""
    folders = {"paradigms": PACKAGE}
    for name in ANCHORS:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            folders[name] = Path(spec.origin).parent
    for given in sources:
        name, _, folder = given.partition("=")
        if not Path(folder, "__init__.py").is_file():
            raise ValueError(f"--source: given {given!r}; needed: NAME=FOLDER, a package; type diffrax=path/to/diffrax")
        folders[name] = Path(folder)
    return folders


def main(out: Path, sources: Sequence[str] = ()) -> None:
    """Measures, prints the tables and writes out/reading.md and out/reading.json."""
    folders = found(sources)
    made = {name: opened(call) for name, call in calls().items()}
    rows = [[name, *o.row()] for name, o in made.items()]
    head = ["call", "files", "lines of these files", "lines that ran", "files without guards", "lines", "that ran"]
    before = [[name, *("-" if v is None else v for v in values)] for name, *values in BEFORE]
    read_as = [[name, *read(folder).row()] for name, folder in folders.items()]
    parts = [
        ("To follow a call one opens", table(head, rows)),
        ("In 0.1.0, before", table(head, before)),
        ("The sources", table(HEAD, read_as)),
        ("The files", "\n".join(f"- {name}: {', '.join(o.files)}" for name, o in made.items())),
    ]
    data = {name: {"files": o.files, "lines": o.lines, "lines that ran": o.lines_run} for name, o in made.items()}
    each = [dict(zip(HEAD, row, strict=True)) for row in read_as]
    print(write(out, "reading", "What one opens, and how it reads", parts, {"calls": data, "sources": each}))
