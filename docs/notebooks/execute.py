"""Runs the notebooks of this folder from top to bottom and keeps their outputs: `make notebooks`."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def main() -> None:
    """Each notebook in a kernel of its own; what says when it ran is left out, so that a rerun changes little."""
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, record_timing=False).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":  # libraries' warnings are of this machine
                cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main()
