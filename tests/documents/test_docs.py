"""The documentation is complete and true: every public name has an entry, every page is reached, every number held."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import paradigms

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
ENTRY = re.compile(r"^\.\. auto(?:function|class|exception):: (\w+)$", re.M)
TREE = re.compile(r"```\{toctree\}\n(?::[^\n]*\n)*\n?(.*?)```", re.S)

sys.path.insert(0, str(DOCS))
import architecture  # noqa: E402
import reader_test  # noqa: E402


def test_every_public_name_has_one_entry_in_the_reference() -> None:
    entries = [name for page in (DOCS / "api").glob("*.md") for name in ENTRY.findall(page.read_text())]
    assert sorted(entries) == sorted(paradigms.__all__), "docs/api: one autodoc line for each of paradigms.__all__"


def test_every_result_and_every_model_card_has_a_page() -> None:
    results = ROOT / "benchmarks" / "results"
    wanted = {f"benchmarks/{'-'.join(f.relative_to(results).with_suffix('').parts)}" for f in results.rglob("*.md")}
    wanted |= {f"model-cards/{f.stem}" for f in (ROOT / "weights" / "src").rglob("*.md")}
    assert wanted <= {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES}


def test_every_page_is_reached_from_the_first() -> None:
    reached, todo = set[Path](), [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page.with_suffix(".ipynb").is_file():
            continue
        reached.add(page)
        for names in TREE.findall(page.read_text()):
            todo += [page.parent / f"{name}.md" for name in re.findall(r"([\w/-]+)>?$", names, re.M)]
    assert reached == set(PAGES)


@pytest.mark.parametrize("name", paradigms.__all__)
def test_every_argument_of_a_public_name_is_explained(name: str) -> None:
    thing: Any = getattr(paradigms, name)
    if inspect.isclass(thing) and (issubclass(thing, Exception) or getattr(thing, "_is_protocol", False)):
        return
    text = inspect.getdoc(thing) or ""
    for argument in inspect.signature(thing).parameters:
        assert re.search(rf"^    (?:\w+, )*\*{{0,2}}{argument}(?:, \w+)*:", text, re.M), f"{name}: {argument}"


@pytest.mark.parametrize("name", paradigms.__all__)
def test_a_docstring_begins_with_one_sentence(name: str) -> None:
    first = (inspect.getdoc(getattr(paradigms, name)) or "").split("\n\n")[0]
    assert first.endswith(".") and len(first) <= 120, first


def test_arrows_of_the_picture_point_downward() -> None:
    arrows = architecture.arrows()
    layer = architecture.layers(arrows)
    assert all(layer[other] < layer[here] for here, others in arrows.items() for other in others)


def test_the_picture_is_of_the_imports_as_they_are() -> None:
    drawn = set(re.findall(r'id="([\w/]+ imports [\w/]+)"', (DOCS / "architecture.svg").read_text()))
    shown = architecture.shown(architecture.arrows())
    wanted = {f"{here} imports {other}" for here, others in shown.items() for other in others}
    assert drawn == wanted, "draw it again: python docs/architecture.py"


def test_the_path_of_a_call_names_files_and_functions_that_exist() -> None:
    link = r"\[`([\w/]+\.py)`\]\(\.\./src/paradigms/([\w/]+\.py)\)(?:[^\n|;\[]*?`(\w+)\()?"
    steps = re.findall(link, (DOCS / "architecture.md").read_text())
    assert len(steps) > 10
    for shown, linked, function in steps:
        assert shown == linked
        if function:
            assert re.search(rf"def {function}\(", (ROOT / "src" / "paradigms" / linked).read_text()), (
                linked,
                function,
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_numbers_of_the_stopping_rule_are_the_codes(page: Path) -> None:
    text = page.read_text()
    for margin in re.findall(r"multiplied by (\d+) \(`FinalError\(margin", text):
        assert float(margin) == paradigms.FinalError(0.01).margin
    for early in re.findall(r"more than ([\d.]+) of its size is not finished \(`early`\)", text):
        assert float(early) == paradigms.FinalError(0.01).early


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_no_private_words_are_left(page: Path) -> None:
    private = r"\b(heeds?|tongue|lives|riddle|pace of|told of|stand-ins?|at a fork|looked at twice|ventured?)\b"
    if page.parent.name not in ("benchmarks", "model-cards") and page.name not in ("changelog.md", "reader-test.md"):
        assert not re.findall(private, page.read_text())


def test_a_reader_finds_most_answers_by_names_and_first_lines() -> None:
    tries = [n for _, n in reader_test.answered(ROOT, reader_test.QUESTIONS).values()]
    assert sum(n == 1 for n in tries) >= 12, "python docs/reader_test.py says which questions are not found any more"
    assert sum(n <= 3 for n in tries) >= 16


def test_the_table_of_questions_is_the_programs() -> None:
    text = (DOCS / "reader-test.md").read_text()
    assert set(re.findall(r"^\| ([^|]+\?) \|", text, re.M)) == set(reader_test.QUESTIONS)
