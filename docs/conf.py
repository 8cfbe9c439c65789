"""The documentation site: Sphinx reads the Markdown of this folder; `make docs` builds it, warnings being errors.

Three things are ours: a link to a file of the repository becomes a page that shows it, so that the same Markdown works
in the site and where the repository is browsed; notebooks are read as Markdown, with the outputs that they hold; and
the picture of the architecture is drawn anew from the imports.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT), str(ROOT / "src"), str(ROOT / "weights" / "src")]

import architecture  # noqa: E402  beside this file

import paradigms  # noqa: E402

project = "paradigms"
author = "the authors of paradigms"
version = release = paradigms.__version__
html_title = f"paradigms {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
myst_heading_anchors = 4
default_role = "code"
# Not pages of this site: other projects' names, and internal ones.
nitpick_ignore_regex = [(r"py:.*", r"(torch|collections|paradigms\.\w+)\..*|Coarse|Plan|Round|Record")]
suppress_warnings = ["myst.header"]  # results begin where their page's title ends

html_theme = "furo"
html_static_path: list[str] = []
html_extra_path = ["_static"]  # race.html, the recorded race, as it is
html_copy_source = False
html_show_sphinx = html_show_copyright = False

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

SHOWN = {".py": "python", ".toml": "toml", ".txt": "text", ".json": "json"}
FOLDERS = "src|benchmarks|training|examples|tests|weights"
LINK = re.compile(rf"\]\(((?:\.\./)+)((?:{FOLDERS})/[\w./-]+|[CS][A-Z]+\.md)((?:#[\w-]+)?)\)")


def page_of(path: str) -> str | None:
    """The page that shows a file of the repository; None for a file that the site has no page for."""
    if path in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"):
        return path.removesuffix(".md").lower()
    if path.startswith("benchmarks/results/") and path.endswith(".md"):
        return "benchmarks/" + path.removeprefix("benchmarks/results/").removesuffix(".md").replace("/", "-")
    if path.startswith("weights/") and path.endswith(".md"):
        return "model-cards/" + Path(path).stem
    return f"source/{path}" if Path(path).suffix in SHOWN else None


def read_notebook(app: Any, docname: str, source: list[str]) -> None:
    """A notebook's cells and the outputs that it holds, as Markdown."""
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    parts = []
    for cell in json.loads(source[0])["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text'])}```")
            elif png := output.get("data", {}).get("image/png"):
                parts.append(f"![made by the cell above](data:image/png;base64,{''.join(png.split())})")
    source[0] = "\n\n".join(parts) + "\n"


def rewrite_links(app: Any, docname: str, source: list[str]) -> None:
    """Links to files of the repository lead to their pages: `../src/paradigms/solve.py` to `source/...`."""
    up = "../" * docname.count("/")

    def rewritten(found: re.Match[str]) -> str:
        path, page = found[2], page_of(found[2])
        if page is None or not (ROOT / path).is_file():
            return found[0]
        if page.startswith("source/"):
            app.env.shown = getattr(app.env, "shown", set()) | {path}
            return f"](repository:{up}{page}.html)"
        return f"]({up}{page}.md{found[3]})"

    source[0] = LINK.sub(rewritten, source[0]).replace("](_static/race.html)", f"](repository:{up}race.html)")


myst_url_schemes: dict[str, Any] = {"http": None, "https": None, "mailto": None, "repository": {"url": "{{path}}"}}


def source_pages(app: Any) -> Iterator[tuple[str, dict[str, str], str]]:
    """A page for each file of the package and each other file that is linked."""
    package = (f.relative_to(ROOT).as_posix() for f in (ROOT / "src" / "paradigms").rglob("*.py"))
    linked = {path for path in getattr(app.env, "shown", set()) if (ROOT / path).is_file()}  # a build before had others
    for path in sorted({*package, *linked}):
        lexer = get_lexer_by_name(SHOWN[Path(path).suffix])
        text = highlight((ROOT / path).read_text(), lexer, HtmlFormatter(linenos="inline", lineanchors="L"))
        yield f"source/{path}", {"title": path, "body": f"<h1>{path}</h1>{text}"}, "page.html"


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Where the [source] link beside a name of the API leads; its pages are all one folder deep."""
    found: Any = sys.modules.get(info["module"])
    for part in info["fullname"].split("."):
        found = getattr(found, part, None)
    found = inspect.unwrap(getattr(found, "fget", None) or getattr(found, "func", None) or found)
    try:
        file, line = Path(inspect.getsourcefile(found) or ""), inspect.getsourcelines(found)[1]
    except (OSError, TypeError):
        return None
    inside = file.is_relative_to(ROOT / "src")
    return f"../source/{file.relative_to(ROOT).as_posix()}.html#L-{line}" if inside else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda app: architecture.draw(DOCS / "architecture.svg"))
    app.connect("source-read", read_notebook)
    app.connect("source-read", rewrite_links)
    app.connect("html-collect-pages", source_pages)
