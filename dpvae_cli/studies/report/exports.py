"""The report's tables as Markdown, LaTeX, CSV and JSON; text from runs stays text in each."""

import csv
import html
import io
import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dpvae_cli.foundation.text import nonfinite_to_none
from dpvae_cli.studies.report import tables
from dpvae_cli.studies.report.content import Content
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
NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_markdown(content: Content) -> str:
    """Return the report without its pictures as Markdown."""
    return _render(
        "report.md.j2",
        lambda text: MARKDOWN_SPECIAL.sub(r"\\\1", html.escape(text, quote=False)),
        content,
        unfinished=[f"{r.label}: {r.status.value}, {r.reason}" for r in content.unfinished_runs],
        comparability=tables.comparability(content),
        runs=tables.runs_table(content),
    )


def to_latex(content: Content) -> str:
    """Return the tables as LaTeX floats, to be put into a document that loads booktabs.

    What LaTeX would read as its own is taken literally; signs it does not know become ?.
    """

    def quote(text: str) -> str:
        return "".join(
            LATEX_SPECIAL.get(c, c if c.isascii() and c.isprintable() else "?") for c in text
        )

    return _render("report.tex.j2", quote, content)


def _render(template: str, quote: Callable[[str], str], content: Content, **more: Any) -> str:
    """Return a template with the report's tables; its filter `quote` makes text literal."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - not HTML
    )
    environment.filters |= {"quote": quote, "minus": lambda text: NEGATIVE.sub("−", text)}
    shown = [
        *tables.results_tables(content),
        *([tables.differences_table(content, content.differences)] if content.differences else []),
        *tables.published_tables(content),
    ]
    more |= {"content": content, "tables": shown, "version": __version__}
    return environment.get_template(template).render(**more)


def to_csv(content: Content) -> str:
    """Return a row for each experiment, prior and metric, with the paired difference beside it."""
    records = _records(content)
    written = io.StringIO()
    writer = csv.DictWriter(written, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _spreadsheet_value(v) for key, v in each.items()} for each in records)
    return written.getvalue()


def _spreadsheet_value(value: Any) -> Any:
    """Return a value as a spreadsheet may open it: text that would be a formula gets a quote."""
    if isinstance(value, str) and value.lstrip().startswith(FORMULA):
        return f"'{value}"
    return str(value).lower() if isinstance(value, bool) else value


def _records(content: Content) -> list[dict[str, Any]]:
    """Return a mapping for each experiment, prior and metric: columns of the CSV, keys of JSON."""
    pairs = {(each.experiment, each.prior, each.metric): each for each in content.differences}
    records = []
    for line, metric in product(content.lines, content.metrics):
        cell, difference = line.cells[metric], pairs.get((line.experiment, line.prior, metric))
        mean, pair = cell.summary, difference.found if difference else None
        low, high = (mean and mean.interval) or (None, None)
        pair_low, pair_high = (pair and pair.interval) or (None, None)
        record = {
            "recipe": line.experiment,
            "prior": line.prior,
            "metric": metric,
            "unit": content.units[metric],
            "better": content.facts[metric].better.value,
            "n": mean.n if mean else 0,
            "mean": mean and mean.mean,
            "standard_deviation": mean and mean.standard_deviation,
            "interval_low": low,
            "interval_high": high,
            "is_best": cell.is_best,
            "published": cell.published,
            "baseline": difference and difference.baseline,
            "pairs": pair and pair.n,
            "difference": pair and pair.mean,
            "difference_low": pair_low,
            "difference_high": pair_high,
            "wins": pair and pair.wins,
            "sign_test_p": pair and pair.p_value,
            "in_words": pair and describe_comparison(pair),
            "standard_error": cell.own_error,
            "without_leak": cell.without_leak,
            "t_test_p": pair and pair.t_test_p,
            "adjusted_p": difference and difference.adjusted_p,
            "difference_standard_error": pair and pair.own_error,
        }
        records.append(record)
    return records


def to_json(content: Content) -> str:
    """Return everything but the pictures as JSON; `docs/report.md` describes it."""
    experiments = {each.label: each for each in reversed(content.experiments)}
    pairs = {(each.experiment, each.prior, each.metric): each for each in content.differences}
    results = []
    for record in _records(content):
        metric, prior = record["metric"], record["prior"]
        values = experiments[record["recipe"]].values(metric, prior)
        pair = pairs.get((record["recipe"], prior, metric))
        differences = pair.found.differences if pair else {}
        results.append(record | {"values": values, "differences": differences})
    document = {
        "schema": SCHEMA,
        "dpvae": __version__,
        "title": content.title,
        "question": content.question,
        "answer": list(content.answer),
        "notices": list(content.notices),
        "terms": list(content.terms),
        "results": results,
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
