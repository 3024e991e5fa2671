"""Run a notebook over a lake and write it as one HTML file that loads nothing.

`python -m notebooks.render --lake DIR --out FILE.html [--notebook PATH]`
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbconvert.filters.highlight import Highlight2HTML
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
FLEET_DAY = HERE / "fleet_day.ipynb"
TEMPLATE = "page.html.j2"
PARAMETERS, FIGURES = "parameters", "figures"
CELL_TIMEOUT_S = 1800
NO_LAKE, FAILED = 2, 1


def execute(notebook: Path, parameters: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The notebook, run with `parameters` in place of those of its cell tagged `parameters`.

    Raises ValueError where the notebook has no such cell, CellExecutionError where a cell fails.
    """
    book = nbformat.read(notebook, as_version=4)
    _tagged(book, PARAMETERS).source += "".join(
        f"\n{name} = {value!r}" for name, value in parameters.items()
    )
    known = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    with tempfile.TemporaryDirectory(prefix="odograph-") as sockets:
        connection = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        client = NotebookClient(
            book,
            config=Config(KernelManager=connection),
            kernel_name="python3",
            timeout=CELL_TIMEOUT_S,
            resources={"metadata": {"path": str(notebook.resolve().parent)}},
        )
        client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known))})
    return book


def figures(book: nbformat.NotebookNode) -> dict[str, Any]:
    """The key figures of an executed notebook: the JSON shown by its cell tagged `figures`."""
    outputs = _tagged(book, FIGURES).outputs
    return next(
        dict(output.data["application/json"])
        for output in outputs
        if "application/json" in output.get("data", {})
    )


def page(book: nbformat.NotebookNode) -> str:
    """An executed notebook as HTML: no script, no address, code folded away."""
    exporter = HTMLExporter(
        template_file=TEMPLATE,
        extra_template_basedirs=[str(HERE)],
        template_paths=[str(HERE), *HTMLExporter().template_paths],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3"))
    styles = HtmlFormatter(style="friendly", nobackground=True).get_style_defs(".highlight")
    body, _ = exporter.from_notebook_node(book, resources={"code_styles": styles})
    return body


@click.command()
@click.option("--lake", required=True, metavar="DIR", help="Folder of the lake.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--notebook",
    default=FLEET_DAY,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Default: the fleet day.",
)
def main(lake: str, out: Path, notebook: Path) -> None:
    """Run a notebook over a lake and write one HTML file. Exit code 2: there is no such lake."""
    folder = Path(lake)
    if not folder.is_dir():
        click.echo(f"--lake {lake}: there is no such folder (a lake on S3: copy the day first)",
                   err=True)  # fmt: skip
        sys.exit(NO_LAKE)
    try:
        book = execute(notebook, {"lake": str(folder.resolve())})
    except CellExecutionError as error:
        click.echo(f"{notebook.name} failed: {error.ename}: {error.evalue}", err=True)
        sys.exit(FAILED)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(book), encoding="utf-8")
    click.echo(f"{notebook.name} drawn: {out}")


def _tagged(book: nbformat.NotebookNode, tag: str) -> nbformat.NotebookNode:
    for cell in book.cells:
        if tag in cell.metadata.get("tags", []):
            return cell
    raise ValueError(f"the notebook has no cell tagged {tag!r}")


if __name__ == "__main__":
    main()
