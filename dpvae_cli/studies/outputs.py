"""What follows when the cells are done: the study's figures and its report."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.files import write_text
from dpvae_cli.studies.loading import RECORD, study_to_yaml
from dpvae_cli.studies.messages import CellOptions
from dpvae_cli.studies.plan import Plan
from dpvae_cli.studies.records import ReportInputs
from dpvae_cli.studies.report import write_report
from dpvae_cli.studies.run_cell import load_cell
from dpvae_cli.studies.state import cell_state

DRAWABLE = ("trained", "done")


@final
@dataclass(frozen=True)
class StudyOutput:
    """The files that were written, and what could not be."""

    figures: tuple[Path, ...]
    report: tuple[Path, ...]
    problems: tuple[str, ...]


def write_study_record(plan: Plan) -> Path:
    """Write study.yaml, the study as it is run, and return its path."""
    path = plan.folder / RECORD
    write_text(path, study_to_yaml(plan.study))
    return path


def write_outputs(plan: Plan, options: CellOptions) -> StudyOutput:
    """Draw the study's figures of the cells that are there, and write the report.

    A figure that cannot be drawn is a problem; the others and the report are made.
    """
    figures: list[Path] = []
    report: list[Path] = []
    problems: list[str] = []
    for figure in plan.study.figures:
        try:
            cells = [c for c in plan.cells_of(figure) if cell_state(c, options).status in DRAWABLE]
            if cells:
                runs = [load_cell(cell, options, device="cpu") for cell in cells]
                for picture in figure.draw(runs, plan.figures):
                    write_text(picture.with_suffix(".txt"), f"{figure.text}\n")
                    figures.append(picture)
        except DpvaeError as error:
            problems.append(f"figure {figure.stem}: {error}")
    study = plan.study
    folders = tuple(cell.folder for cell in plan.cells if cell.folder.is_dir())
    inputs = ReportInputs(
        title=study.title,
        runs=folders,
        question=study.question,
        metrics=study.metrics or None,
        published=study.published,
        figures=tuple(figures),
        notes=(*study.notes, *filter(None, [plan.left_out])),
        baseline=study.baseline,
    )
    try:
        report += write_report(plan.folder, inputs) if folders else []
    except DpvaeError as error:
        problems.append(f"report: {error}")
    return StudyOutput(tuple(figures), tuple(report), tuple(problems))
