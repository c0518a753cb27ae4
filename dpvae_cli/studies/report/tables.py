"""The tables as text, the same in every format: heads, rows, and which cells are the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from dpvae_cli.foundation.text import format_number, format_with_error
from dpvae_cli.studies.report.content import Content, MetricCell, PairedDifference, display_name
from dpvae_cli.studies.statistics import FALSE_DISCOVERY_RATE, describe_comparison

DAGGER = "†"
ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}


@final
@dataclass(frozen=True)
class Column:
    """A column's head, and whether it holds numbers, or what is published."""

    text: str
    is_number: bool = True
    is_published: bool = False


@final
@dataclass(frozen=True)
class TableCell:
    """A cell's text, and whether it is printed bold."""

    text: str
    is_best: bool = False


@final
@dataclass(frozen=True)
class ReportTable:
    """A table of text."""

    caption: str
    heads: Sequence[Column]
    rows: Sequence[Sequence[TableCell]]


def _words(*heads: str) -> list[Column]:
    return [Column(head, is_number=False) for head in heads]


def results_tables(content: Content) -> list[ReportTable]:
    """Return the first table, and that of further metrics where there are any."""
    found = [_results_table(content, content.headline)]
    if content.further:
        found.append(_results_table(content, content.further, "Further metrics. "))
    return found


def _results_table(content: Content, metrics: Sequence[str], title: str = "") -> ReportTable:
    """Return the table of metrics: a row for each experiment and prior."""
    beside = [metric for metric in metrics if metric in content.with_published]
    columns = content.published.columns if content.published else ()
    comparable = [column.metric for column in columns if column.comparable != "no"]
    heads = [*_words("recipe", "prior"), Column("n")]
    for metric in metrics:
        known, unit = content.facts[metric], content.units[metric]
        parts = [known.title, f"[{unit}]" if unit else "", ARROWS[known.better.value]]
        heads.append(Column(" ".join(filter(None, parts))))
        if metric in beside:
            paper = "paper" if metric in comparable else f"paper {DAGGER}"
            heads.append(Column(paper, is_published=True))
    rows = []
    for line in content.lines:
        texts = (line.experiment, display_name(line.prior), str(len(line.seeds)))
        row = [TableCell(text) for text in texts]
        for metric in metrics:
            cell = line.cells[metric]
            row.append(TableCell(_value(cell, len(line.seeds)), is_best=cell.is_best))
            if metric in beside:
                text = "-" if cell.published is None else f"{cell.published:g}"
                row.append(TableCell(text))
        rows.append(row)
    return ReportTable(title + _caption(content, metrics), heads, rows)


def _value(cell: MetricCell, seeds: int) -> str:
    if cell.summary is None:
        return format_number(None)
    n = cell.summary.n
    error = cell.own_error if n == 1 else cell.summary.standard_deviation
    notes = [f"n = {n}"] if n != seeds else []
    notes += [f"no leak in {cell.without_leak} of {n}"] if cell.without_leak else []
    text = format_with_error(cell.summary.mean, error)
    return f"{text} ({'; '.join(notes)})" if notes else text


def differences_table(content: Content, chosen: Sequence[PairedDifference]) -> ReportTable:
    """Return the table of paired differences with a sentence each."""
    several = len({each.prior for each in content.differences}) > 1
    heads = [
        *_words("metric", "recipe", *(["prior"] if several else [])),
        *map(Column, ("difference", "better in", "sign test p")),
        *([Column("adjusted p")] if content.comparisons else []),
        *_words("in words"),
    ]
    rows = []
    for each in chosen:
        found, known = each.found, content.facts[each.metric]
        difference = format_with_error(found.mean, found.uncertainty, sign=True)
        texts = [
            *(known.title, each.experiment, *([display_name(each.prior)] if several else [])),
            difference,
            "-" if found.wins is None else f"{found.wins} of {found.n}",
            _p_value(found.p_value),
            *([_p_value(each.adjusted_p)] if content.comparisons else []),
            describe_comparison(found),
        ]
        rows.append([TableCell(t, is_best=found.is_better and t is difference) for t in texts])
    caption = (
        f"Paired differences, seed by seed: the prior minus the "
        f"{display_name(content.baseline)} one, "
        "mean with the half width of its 95 % interval (Student's t). Bold: better, and the "
        "interval excludes zero."
    )
    if any(each.found.own_error is not None for each in chosen):
        caption += (
            " Of one seed: the standard error of the difference over draws and examples, paired "
            "where both runs share them; it says nothing of another training seed."
        )
    if content.comparisons:
        caption += (
            " Adjusted p: of Student's test, for all "
            f"{content.comparisons} comparisons of this report (Benjamini and Hochberg); those at "
            f"most {FALSE_DISCOVERY_RATE:g} hold at a false discovery rate of "
            f"{100 * FALSE_DISCOVERY_RATE:g} %."
        )
    return ReportTable(caption, heads, rows)


def _p_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def published_tables(content: Content) -> list[ReportTable]:
    """Return the published table's parts on the data sets of the runs, a table each."""
    if content.published is None:
        return []
    kinds = dict.fromkeys(experiment.recipe.data.kind for experiment in content.experiments)
    shown = [kind for kind in kinds if kind in ("mnist", "svhn", "celeba")]
    columns, source = content.published.columns, content.published.source
    return [
        ReportTable(
            f"{source['table']} of {source['authors']} ({source['year']}), {kind}: as printed.",
            [*_words("method"), *(Column(each.title, is_published=True) for each in columns)],
            [
                [TableCell(row.method), *(TableCell(f"{v:g}") for v in getattr(row, kind))]
                for row in content.published.rows
            ],
        )
        for kind in shown
    ]


def runs_table(content: Content) -> ReportTable:
    """Return the list of runs: how far each came, and on what."""
    heads = [
        *_words("run", "recipe", "prior"),
        *(Column("seed"), Column("iterations")),
        *_words("state", "device", "started"),
    ]
    rows = []
    for run in content.runs:
        recipe, environment = run.recipe, run.environment or {}
        row = (
            run.label,
            recipe.name if recipe else "-",
            display_name(recipe.prior_name) if recipe else "-",
            str(recipe.seed) if recipe else "-",
            "-" if run.iteration is None else f"{run.iteration:,}",
            f"{run.status.value}: {run.reason}" if run.reason else run.status.value,
            environment.get("device", "-"),
            environment.get("started", "-")[:10],
        )
        rows.append([TableCell(text) for text in row])
    return ReportTable("All runs.", heads, rows)


MEAN = "Mean over n seeds ± standard deviation."
ONE_SEED = (
    "With n = 1, value ± the metric's own standard error, which covers its own sampling only, "
    "not other training seeds."
)
NO_LEAK = (
    "No leak in some seeds: no draw of q(z) lies below the threshold there, and the score is 0."
)
BOLD = (
    "Bold: better than its twin, and the 95 % interval of the paired difference excludes zero, "
    "which takes three seeds at least."
)


def _caption(content: Content, metrics: Sequence[str]) -> str:
    """Return what the numbers of a table are."""
    cells = [line.cells[metric] for line in content.lines for metric in metrics]
    known = [cell for cell in cells if cell.summary is not None]
    several = any(cell.summary.n > 1 for cell in known if cell.summary)
    parts = [MEAN] if several else []
    parts += [ONE_SEED] if any(c.summary.n == 1 for c in known if c.summary) else []
    parts += [BOLD] if several else []
    parts += [NO_LEAK] if any(cell.without_leak for cell in known) else []
    parts.append("Arrows: ↓ lower is better, ↑ higher is better.")
    if any(metric in content.with_published for metric in metrics):
        parts.append(f"Paper: the published number; {DAGGER} does not compare with ours.")
    elif published_tables(content) and metrics == content.headline:
        parts.append("The paper's numbers stand by themselves below: no run here has its settings.")
    return " ".join(parts)


def comparability(content: Content) -> list[tuple[str, str, str]]:
    """Return (column, how it compares, why) for the paper's columns that the runs stand beside."""
    if content.published is None or not published_tables(content):
        return []
    words = {
        "yes": "comparable",
        "direction": "comparable in direction only",
        "no": "not comparable",
    }
    columns = content.published.columns
    return [(column.title, words[column.comparable], column.note) for column in columns]
