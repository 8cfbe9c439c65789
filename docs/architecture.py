"""The picture of the architecture, drawn from the imports: `python docs/architecture.py` writes architecture.svg.

    layer(folder) = min layer(what imports it) - 1,  and at the top the length of the longest way down

Folders that import each other, of which there should be none, share a layer. An arrow points from a folder to one that
it imports, and so downward; arrows that a longer way through other folders says already are left out.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "paradigms"
Arrows = dict[str, set[str]]  # folder -> the folders that it imports

# What each box says below its name. A folder without a line here shows its name alone.
SAYS = {
    "tables": "system, rules, schedule,\ndenoiser, noise, ...",
    "solve": "sample, iterate, sequential;\nproblem, solution",
    "methods": "Picard, Spectral, ...:\ncorrect the states",
    "stopping": "which steps are settled",
    "checks": "what is refused,\nand what to type",
    "window": "the loop of a round,\nand its arrays",
    "window/auto": "how wide the window is",
    "execution": "calls the model\nin batches",
    "distributed": "ranks and the exchange\nbetween them",
    "adapters": "parallelize: whatever it is given,\nmade parallel",
    "adapters/report": "what a call is\nasked, and costs",
    "adapters/loops": "sampling loops\nof one's own",
    "adapters/pipelines": "diffusers pipelines",
    "adapters/policies": "diffusion policies",
    "adapters/schedulers": "diffusers schedulers\nas tables",
    "integrations": "sbi, k-diffusion and others",
    "models": "the models that ship",
    "policies": "the policies that ship,\nand their tasks",
    "viz": "pictures",
    "cli": "the command line",
}
# The modules at the root are drawn as two boxes: what describes a sampler, and what solves it.
AT_ROOT = {
    "problem": "solve",
    "solution": "solve",
    "solve": "solve",
    "steps": "solve",
    "files": "files",
    "validate": "validate",
}
JOINED = {"policies/tasks": "policies", "models/latent": "models"}
JOINED |= {f"adapters/pipelines/{part}": "adapters/pipelines" for part in ("code", "state", "networks", "loop")}
# Three files do not belong where they stand: the options and the report of both kinds of adapters, and a mesh's entry.
MOVED = {
    "adapters/options.py": "adapters/report",
    "adapters/report.py": "adapters/report",
    "execution/mesh.py": "solve",
}
NO_FOLDER = {"tables", "solve", "adapters/report"}
LEFT_OUT = {"validate", "files", "__init__", "__main__", "public"}  # everybody may import the first two


def folder_of(file: Path) -> str:
    """The box that a file of the package belongs to."""
    inside = file.relative_to(PACKAGE)
    if inside.as_posix() in MOVED:
        return MOVED[inside.as_posix()]
    if len(inside.parts) == 1:
        return inside.stem if inside.stem in LEFT_OUT else AT_ROOT.get(inside.stem, "tables")
    return JOINED.get(inside.parent.as_posix(), inside.parent.as_posix())


def imported(file: Path) -> set[Path]:
    """The files of the package that a file imports."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            at = file.parents[node.level - 1] / (node.module or "").replace(".", "/")
            for name in (alias.name for alias in node.names):
                places = (at / f"{name}.py", at.with_suffix(".py"), at / name / "__init__.py", at / "__init__.py")
                found |= set([place for place in places if place.is_file()][:1])
    return found


def arrows() -> Arrows:
    """Which folder imports which."""
    found: Arrows = defaultdict(set)
    for file in sorted(PACKAGE.rglob("*.py")):
        here = folder_of(file)
        if here not in LEFT_OUT:
            found[here] |= {folder_of(other) for other in imported(file)} - LEFT_OUT - {here}
    return dict(found)


def reachable(found: Arrows, start: str) -> set[str]:
    """All that a folder imports, directly or through others."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = found.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def layers(found: Arrows) -> dict[str, int]:
    """The layer of each folder, 0 at the bottom: as high as the folders that import it allow."""
    below = {here: {other for other in reachable(found, here) if here not in reachable(found, other)} for here in found}
    above = {here: [other for other in found if here in below[other]] for here in found}

    @cache
    def low(here: str) -> int:
        return max((1 + low(other) for other in below[here]), default=0)

    @cache
    def high(here: str) -> int:
        return min((high(other) - 1 for other in above[here]), default=low(here))

    return {here: high(here) for here in found}


def places(found: Arrows) -> dict[str, tuple[float, float]]:
    """Where the middle of each box is: rows are layers, and in a row boxes stand below those that import them."""
    layer, place = layers(found), dict[str, tuple[float, float]]()

    def wanted(here: str) -> float:
        users = [place[other][0] for other in place if here in shown(found)[other]]
        return sum(users) / len(users) if users else 0.0

    for height in range(max(layer.values()), -1, -1):
        row = sorted((here for here in found if layer[here] == height), key=lambda here: (wanted(here), here))
        for k, here in enumerate(row):
            place[here] = (4.0 * (k - (len(row) - 1) / 2), 1.8 * height)
    return place


def shown(found: Arrows) -> Arrows:
    """The arrows without those that a longer way says already."""
    return {
        here: {other for other in others if not any(other in reachable(found, via) for via in others - {other})}
        for here, others in found.items()
    }


def draw(path: Path) -> None:
    """Writes the picture to `path`, an SVG whose arrows are named "FROM imports TO"."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    found = arrows()
    place = places(found)
    width, tall = 3.1, 1.15
    with plt.rc_context({"svg.hashsalt": "paradigms", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(figsize=(8, 1.0 * (1 + len({y for _, y in place.values()}))))
        for here, others in sorted(shown(found).items()):
            for other in sorted(others):
                (x0, y0), (x1, y1) = place[here], place[other]
                ends = (x0, y0 - tall / 2), (x1, y1 + tall / 2)
                arrow = FancyArrowPatch(
                    *ends, arrowstyle="-|>", mutation_scale=10, color="#8a94a6", shrinkA=0, zorder=1
                )
                arrow.set_gid(f"{here} imports {other}")
                axes.add_patch(arrow)
        for here, (x, y) in place.items():
            box = FancyBboxPatch(
                (x - width / 2, y - tall / 2), width, tall, boxstyle="round,pad=0.02,rounding_size=0.12",
                fc="#eef3fb", ec="#3b5b92", lw=1, zorder=2,
            )  # fmt: skip
            axes.add_patch(box)
            name = here if here in NO_FOLDER else f"{here}/"
            axes.text(x, y + 0.33, name, ha="center", va="center", weight="bold", size=9, zorder=3)
            axes.text(x, y - 0.16, SAYS.get(here, ""), ha="center", va="center", size=7.5, zorder=3)
        xs, ys = zip(*place.values(), strict=True)
        axes.set_xlim(min(xs) - width / 2 - 0.1, max(xs) + width / 2 + 0.1)
        axes.set_ylim(min(ys) - tall / 2 - 0.1, max(ys) + tall / 2 + 0.1)
        axes.set_axis_off()
        figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None, "Creator": None})
        plt.close(figure)


if __name__ == "__main__":
    draw(Path(__file__).parent / "architecture.svg")
