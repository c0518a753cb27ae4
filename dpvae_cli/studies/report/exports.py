"""The report's tables as Markdown, LaTeX, CSV and JSON; text from runs stays text in each."""

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from dpvae_cli.foundation.results import nonfinite_to_none
from dpvae_cli.studies.report import tables
from dpvae_cli.studies.report.content import Content, PairedDifference, ResultRow
from dpvae_cli.studies.report.tables import ReportTable, TableCell
from dpvae_cli.studies.statistics import describe_comparison
from dpvae_cli.version import __version__

SCHEMA = 1
MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$!])")
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": "$-$",
    "†": r"\dag{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "β": r"$\beta$",
    "é": r"\'e",
    "…": r"\ldots{}",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_markdown(content: Content) -> str:
    """Return the report without its pictures as Markdown."""
    parts = [f"# {_md(content.title)}"]
    parts += [_md(content.question)] if content.question else []
    parts += ["## Answer", _md(" ".join(content.answer))]
    parts += [f"**{_md(term)}**" for term in content.terms]
    parts += _md_list("Shortened, subsampled or changed", content.notices)
    unfinished = [f"{run.label}: {run.status.value}, {run.reason}" for run in content.unfinished]
    parts += [*_md_list("Not in the tables", unfinished), "## Results"]
    parts += [_md_table(table) for table in _tables(content)]
    for column, how, why in tables.comparability(content):
        parts.append(f"- **{_md(column)}** of the paper: {how}. {_md(why)}")
    parts += ["## Runs", _md_table(tables.runs_table(content)), f"Made with dpvae {__version__}."]
    return "\n\n".join(parts) + "\n"


def _tables(content: Content) -> list[ReportTable]:
    further = tables.further_table(content)
    return [
        tables.main_table(content),
        *([further] if further else []),
        *([tables.differences_table(content, content.differences)] if content.differences else []),
        *tables.published_tables(content),
    ]


def _md(text: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\1", html.escape(text, quote=False))


def _md_list(title: str, items: Sequence[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {_md(item)}" for item in items)] if items else []


def _md_table(table: ReportTable) -> str:
    def row(entries: Iterable[TableCell]) -> str:
        cells = (f"**{_md(e.text)}**" if e.is_best else _md(e.text) for e in entries)
        return f"| {' | '.join(cells)} |"

    rule = "|".join("---:" if entry.is_number else "---" for entry in table.heads)
    lines = [row(table.heads), f"|{rule}|", *(row(each) for each in table.rows)]
    return "\n".join([*lines, "", f"*{_md(table.caption)}*"])


def to_latex(content: Content) -> str:
    """Return the tables as LaTeX floats, to be put into a document that loads booktabs."""
    head = ["% \\usepackage{booktabs} \\usepackage{graphicx} (for \\resizebox)"]
    head += [f"% {_tex(term)}" for term in content.terms]
    return "\n\n".join([*head, *(_tex_table(table) for table in _tables(content))]) + "\n"


def _tex(text: str) -> str:
    """Return text with what LaTeX would read as its own taken literally; other signs become ?."""
    return "".join(
        LATEX_SPECIAL.get(c, c if c.isascii() and c.isprintable() else "?") for c in text
    )


def _tex_table(table: ReportTable) -> str:
    def row(entries: Sequence[TableCell]) -> str:
        minus = re.compile(r"(?<![\w.])-(?=\d)")
        texts = [_tex(minus.sub("−", e.text) if e.is_number else e.text) for e in entries]
        bold = (
            f"\\textbf{{{text}}}" if entry.is_best else text
            for entry, text in zip(entries, texts, strict=True)
        )
        return " & ".join(bold) + r" \\"

    columns = "".join("r" if entry.is_number else "l" for entry in table.heads)
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{_tex(table.caption)}}}",
            r"  \resizebox{\linewidth}{!}{%",
            f"  \\begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            f"    {row(table.heads)}",
            r"    \midrule",
            *(f"    {row(each)}" for each in table.rows),
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table}",
        ]
    )


CSV_HEAD = (
    "recipe", "prior", "metric", "unit", "better", "n", "mean", "standard_deviation",
    "interval_low", "interval_high", "is_best", "published", "baseline", "pairs",
    "difference", "difference_low", "difference_high", "wins", "sign_test_p", "in_words",
    "standard_error", "without_leak", "t_test_p", "adjusted_p", "difference_standard_error",
)  # fmt: skip


def to_csv(content: Content) -> str:
    """Return a row for each experiment, prior and metric, with the paired difference beside it."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for row in _records(content):
        writer.writerow([_csv(row[column]) for column in CSV_HEAD])
    return written.getvalue()


def _csv(value: Any) -> Any:
    """Return a value as a spreadsheet may open it: text that would be a formula gets a quote."""
    if isinstance(value, str) and value.lstrip().startswith(FORMULA):
        return f"'{value}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value


def _records(content: Content) -> list[dict[str, Any]]:
    found = {(each.experiment, each.prior, each.metric): each for each in content.differences}
    return [
        _record(content, line, metric, found.get((line.experiment, line.prior, metric)))
        for line in content.lines
        for metric in content.metrics
    ]


def _record(
    content: Content, line: ResultRow, metric: str, difference: PairedDifference | None
) -> dict[str, Any]:
    cell = line.cells[metric]
    mean = cell.summary
    low, high = (mean.interval if mean else None) or (None, None)
    pair = difference.found if difference else None
    pair_low, pair_high = (pair.interval if pair else None) or (None, None)
    return {
        "recipe": line.experiment,
        "prior": line.prior,
        "metric": metric,
        "unit": content.units[metric],
        "better": content.facts[metric].better.value,
        "n": mean.n if mean else 0,
        "mean": mean.mean if mean else None,
        "standard_deviation": mean.standard_deviation if mean else None,
        "interval_low": low,
        "interval_high": high,
        "is_best": cell.is_best,
        "published": cell.published,
        "baseline": difference.baseline if difference else None,
        "pairs": pair.n if pair else None,
        "difference": pair.mean if pair else None,
        "difference_low": pair_low,
        "difference_high": pair_high,
        "wins": pair.wins if pair else None,
        "sign_test_p": pair.p_value if pair else None,
        "in_words": describe_comparison(pair) if pair else None,
        "standard_error": cell.own_error,
        "without_leak": cell.without_leak,
        "t_test_p": pair.t_test_p if pair else None,
        "adjusted_p": difference.adjusted_p if difference else None,
        "difference_standard_error": pair.own_error if pair else None,
    }


def to_json(content: Content) -> str:
    """Return everything but the pictures as JSON; `docs/report.md` describes it."""
    experiments = {each.label: each for each in reversed(content.experiments)}
    differences = {
        (each.experiment, each.prior, each.metric): each.found.to_json()["differences"]
        for each in content.differences
    }
    document = {
        "schema": SCHEMA,
        "dpvae": __version__,
        "title": content.title,
        "question": content.question,
        "answer": list(content.answer),
        "notices": list(content.notices),
        "terms": list(content.terms),
        "results": [
            {
                **record,
                "values": {
                    str(seed): value
                    for seed, value in experiments[record["recipe"]]
                    .values(record["metric"], record["prior"])
                    .items()
                },
                "differences": differences.get(
                    (record["recipe"], record["prior"], record["metric"]), {}
                ),
            }
            for record in _records(content)
        ],
        "published": content.published.model_dump(mode="json") if content.published else None,
        "runs": [
            {
                "run": run.label,
                "path": str(run.path),
                "state": run.status.value,
                "reason": run.reason or None,
                "recipe": run.recipe.name if run.recipe else None,
                "prior": run.recipe.prior_name if run.recipe else None,
                "seed": run.recipe.seed if run.recipe else None,
                "iteration": run.iteration,
                "environment": run.environment,
            }
            for run in content.runs
        ],
    }
    return (
        json.dumps(nonfinite_to_none(document), indent=2, allow_nan=False, ensure_ascii=False)
        + "\n"
    )
