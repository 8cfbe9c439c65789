"""A reader who knows nothing but names, headings and first lines: `python docs/reader_test.py` asks twenty questions.

    score(place, question) = sum_w idf(w) [w in place] / sqrt(words of place),    idf(w) = log(places / places with w)

A place is a section of a document (its page's title, its heading, the first words of its text), a file of the package
(its path and the first paragraph of its docstring). The place with the highest score is the first try. It is right
where the place is one of those that answer the question; these were written down before the first run.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections import Counter
from pathlib import Path

WORDS_READ = 60  # of a section's text: about what a glance takes in
ENDINGS = re.compile(r"(?:ing|ed|es|s|e|d|n|t)$")  # of words of more than four letters: "chosen", "choose", "chooses"
COMMON = """
a an and are as at be by can do does for from has have how i if in is it its me my not of on or so than that the their
them then there these they this to was what when where which who why will with you your
"""
QUESTIONS: dict[str, set[str]] = {
    "Where is the stride decided?": {
        "docs/architecture.md", "docs/how-it-works.md", "window/loop.py", "stopping/final_error.py",
    },
    "How do I add a rule?": {"CONTRIBUTING.md", "docs/architecture.md", "rules/schedule_rules.py"},
    "How do I add a method of my own?": {"CONTRIBUTING.md", "docs/architecture.md", "docs/own-method.md"},
    "Why did it step one by one?": {"docs/window.md", "docs/pipelines.md", "docs/policies.md", "docs/start.md"},
    "What does the report's residual mean?": {
        "docs/pipelines.md", "docs/glossary.md", "adapters/report.py", "solution.py",
    },
    "Which method should I use?": {"docs/choose.md"},
    "What does a tolerance of 0 give me?": {"docs/choose.md", "docs/pipelines.md"},
    "What must my model do?": {"docs/models.md"},
    "Which file calls the model on a batch?": {"execution/evaluate.py", "docs/architecture.md"},
    "What happens when memory is short?": {"docs/devices.md", "execution/chunked.py"},
    "What happens when a rank fails?": {"docs/devices.md", "distributed/failures.py"},
    "Do I get the same sample for the same seed?": {
        "docs/pipelines.md", "docs/devices.md", "docs/window.md", "docs/policies.md", "docs/choose.md",
    },
    "Where is the first guess of a state made?": {"methods/guess.py", "docs/how-it-works.md"},
    "How is a diffusers scheduler turned into a table?": {"adapters/schedulers/table.py", "docs/api/samplers.md"},
    "Which file rewrites a pipeline's loop?": {"adapters/pipelines/code/rewrite.py", "docs/architecture.md"},
    "How is the window chosen?": {"docs/window.md", "docs/how-it-works.md", "window/auto/controller.py"},
    "What is a warm start?": {"docs/policies.md", "adapters/policies/warm_start.py"},
    "How do I install it?": {"docs/start.md", "README.md"},
    "How do I run a benchmark?": {"CONTRIBUTING.md", "docs/benchmarks/index.md", "docs/results.md"},
    "When is parallel sampling not worth it?": {"docs/choose.md", "README.md"},
}  # fmt: skip

# Asked once, after the documents had been changed for the questions above: nothing was changed for these.
UNSEEN: dict[str, set[str]] = {
    "Where are changes below rounding ignored?": {"stopping/rounding.py", "docs/choose.md"},
    "How do I use several GPUs?": {"docs/devices.md", "docs/start.md"},
    "Which pipelines are not parallel?": {"docs/pipelines.md", "benchmarks/census"},
    "Where does the noise of a step come from?": {"noise.py"},
    "How do I sample in half precision?": {"docs/choose.md", "docs/policies.md"},
    "What does the first sample print?": {"docs/start.md"},
    "Where is Anderson acceleration?": {"methods/anderson.py"},
    "How was the PushT policy trained?": {"docs/pusht.md"},
    "How do I guide a model with classes?": {"docs/models.md", "execution/guidance.py"},
    "How fast would it be on eight devices?": {"docs/plan.md", "distributed/plan.py"},
}


def words(text: str) -> list[str]:
    """The words of a text without endings, as a reader takes `window` and `windows` for one."""
    found = re.findall(r"[a-z0-9]+", text.lower().replace("_", " "))
    return [ENDINGS.sub("", w) if len(w) > 4 else w for w in found if w not in COMMON.split()]


def places(root: Path) -> list[tuple[str, list[str]]]:
    """What a reader can open, and the words that he sees of it from outside."""
    found: list[tuple[str, list[str]]] = []
    pages = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("docs/benchmarks/index.md")]
    for page in sorted(pages):
        name = page.relative_to(root).as_posix()
        if name in ("docs/reader-test.md", "docs/changelog.md", "docs/contributing.md", "CHANGELOG.md"):
            continue
        text = re.sub(r"```.*?```|\]\([^)]*\)", " ", page.read_text(), flags=re.S)
        title, *sections = re.split(r"^#+ ", text, flags=re.M)[1:] or [text]
        for section in (title, *sections):
            heading, _, body = section.partition("\n")
            seen = f"{title.splitlines()[0]} {heading} {heading} {' '.join(body.split()[:WORDS_READ])}"
            found.append((name, words(seen)))
    package = root / "src" / "paradigms"
    for file in sorted(package.rglob("*.py")):
        said = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0]
        name = file.relative_to(package).as_posix()
        found.append((name, words(f"{name.removesuffix('.py')} {file.stem} {said}")))
    return found


def ranked(question: str, known: list[tuple[str, list[str]]]) -> list[str]:
    """The places in the order in which the reader tries them."""
    holding = Counter(w for _, seen in known for w in set(seen))
    weight = {w: math.log(len(known) / holding[w]) for w in words(question) if holding[w]}

    def score(seen: list[str]) -> float:
        return sum(v for w, v in weight.items() if w in seen) / math.sqrt(max(len(set(seen)), 12))

    order = sorted(known, key=lambda place: -score(place[1]))
    return list(dict.fromkeys(name for name, _ in order))


def answered(root: Path, questions: dict[str, set[str]]) -> dict[str, tuple[list[str], int]]:
    """For each question the first three tries, and at which try the answer is found, counted from 1."""
    known = places(root)
    result = {}
    for question, right in questions.items():
        order = ranked(question, known)
        tries = next((k + 1 for k, name in enumerate(order) if name in right), len(order))
        result[question] = order[:3], tries
    return result


def main() -> None:
    """Prints the tries, and how many were right."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    for questions in (QUESTIONS, UNSEEN):
        result = answered(root, questions)
        for question, (first, tries) in result.items():
            print(f"{tries:4}  {question:52} {', '.join(first)}")
        print(sum(tries == 1 for _, tries in result.values()), "of", len(result), "at the first try")
        print(sum(tries <= 3 for _, tries in result.values()), "of", len(result), "within three")


if __name__ == "__main__":
    main()
