"""A run in one of `bench.config.options.FORMATS`, as text or written to a path."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from bench.errors import UserError
from bench.store import results_json
from bench.store.files import write_whole
from reports.formats import junit, markdown
from reports.llmd import llmd_reports
from reports.result_files import comparisons_csv
from reports.run import Run


def check_output(name: str | None, output: Path | None) -> None:
    """Raise UserError for a format and an output that do not go together."""
    if output is not None and name is None:
        raise UserError(f"--output {output} needs --format, which says what to write")
    if name == "llmd" and output is None:
        raise UserError("--format llmd writes several files: give a new folder as --output")
    # Reports that are there already would be read as further blocks of this run.
    if name == "llmd" and output is not None and os.access(output, os.F_OK):
        raise UserError(f"{output} exists; choose a new folder for the reports")


def export(run: Run, name: str, output: Path | None, *, undecided_passes: bool = False) -> str:
    """The run in format `name`. With `output` it is written there, and a line says so.

    Raises UserError when it cannot be written, or the format cannot have this run.
    """
    if output is None:
        return text_of(name, run, undecided_passes=undecided_passes)
    if name == "llmd":
        files = {output / path: text for path, text in llmd_reports(run).items()}
        if not files:
            raise UserError("nothing to write: format llmd needs the trials of a complete block")
    else:
        files = {output: text_of(name, run, undecided_passes=undecided_passes)}
    for path, text in files.items():
        write_whole(path, text.encode())
    return f"{name}: {output}\n"


def text_of(name: str, run: Run, *, undecided_passes: bool = False) -> str:
    """The run in a format that is one text: any but llmd."""
    match name:
        case "md":
            return markdown(run)
        case "junit":
            return junit(run, undecided_passes=undecided_passes)
        case "csv":
            return comparisons_csv(run.judgements)
        case "html":
            # The image of the bench has nothing that draws.
            page: str = import_module("reports.page").render_page(run)
            return page
        case _:
            facts = {**run.facts, "provenance": run.provenance}
            return results_json(Path("latest.json"), run.judgements, facts, run.factorials).decode()
