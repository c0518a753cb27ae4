"""The tables as text, the same in every format: heads, rows, and which cells are the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from dpvae_cli.foundation.numbers import number, with_error
from dpvae_cli.studies.report.answer import words
from dpvae_cli.studies.report.content import Cell, Content, Difference, Line
from dpvae_cli.studies.statistics import p_text, sentence

DAGGER = "†"
ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}


@final
@dataclass(frozen=True)
class Entry:
    """A cell's text, and whether it is printed bold, a number, or one of the paper's."""

    text: str
    is_best: bool = False
    is_number: bool = True
    is_published: bool = False


@final
@dataclass(frozen=True)
class Table:
    """A table of text."""

    caption: str
    heads: tuple[Entry, ...]
    rows: tuple[tuple[Entry, ...], ...]


def _words(text: str) -> Entry:
    return Entry(text, is_number=False)


def results(content: Content, metrics: Sequence[str], *, caption: str) -> Table:
    """Return the table of metrics: a row a setting and prior, the paper's numbers beside ours."""
    beside = [metric for metric in metrics if metric in content.with_published]
    heads = [_words("recipe"), _words("prior"), Entry("n")]
    for metric in metrics:
        heads.append(Entry(_head(content, metric)))
        if metric in beside:
            heads.append(Entry(_paper_head(content, metric), is_published=True))
    rows = [tuple(_row(line, metrics, beside)) for line in content.lines]
    return Table(caption, tuple(heads), tuple(rows))


def _head(content: Content, metric: str) -> str:
    known, unit = content.facts[metric], content.units[metric]
    arrow = ARROWS[known.better.value]
    return " ".join(filter(None, [known.title, f"[{unit}]" if unit else "", arrow]))


def _paper_head(content: Content, metric: str) -> str:
    columns = content.published.columns if content.published else ()
    compares = any(c.metric == metric and c.comparable != "no" for c in columns)
    return "paper" if compares else f"paper {DAGGER}"


def _row(line: Line, metrics: Sequence[str], beside: Sequence[str]) -> list[Entry]:
    entries = [_words(line.setting), _words(words(line.prior)), Entry(str(len(line.seeds)))]
    for metric in metrics:
        cell = line.cells[metric]
        entries.append(Entry(_value(cell, len(line.seeds)), is_best=cell.is_best))
        if metric in beside:
            text = "-" if cell.published is None else f"{cell.published:g}"
            entries.append(Entry(text, is_published=True))
    return entries


def _value(cell: Cell, seeds: int) -> str:
    if cell.summary is None:
        return number(None)
    text = with_error(cell.summary.mean, cell.summary.standard_deviation)
    return text if cell.summary.n == seeds else f"{text} (n = {cell.summary.n})"


def differences(content: Content, chosen: Sequence[Difference]) -> Table:
    """Return the table of paired differences with a sentence each."""
    several = len({each.prior for each in content.differences}) > 1
    heads = [
        _words("metric"),
        _words("recipe"),
        *([_words("prior")] if several else []),
        Entry("difference"),
        Entry("better in"),
        Entry("sign test p"),
        _words("in words"),
    ]
    rows = []
    for each in chosen:
        found = each.found
        entries = [
            _words(content.facts[each.metric].title),
            _words(each.setting),
            *([_words(words(each.prior))] if several else []),
            Entry(with_error(found.mean, found.half_width, sign=True), is_best=found.is_better),
            Entry("-" if found.wins is None else f"{found.wins} of {found.n}"),
            Entry(p_text(found.p_value)),
            _words(sentence(found)),
        ]
        rows.append(tuple(entries))
    caption = (
        f"Paired differences, seed by seed: the prior minus the {words(content.baseline)} one, "
        "mean with the half width of its 95 % interval (Student's t). Bold: better, and the "
        "interval excludes zero."
    )
    return Table(caption, tuple(heads), tuple(rows))


def paper(content: Content) -> list[Table]:
    """Return the published table's parts on the data sets of the runs, a table each."""
    if content.published is None:
        return []
    kinds = dict.fromkeys(setting.recipe.data.kind for setting in content.settings)
    shown = [kind for kind in kinds if kind in ("mnist", "svhn", "celeba")]
    columns, source = content.published.columns, content.published.source
    return [
        Table(
            f"{source.table} of {source.authors} ({source.year}), {kind}: as printed.",
            (_words("method"), *(Entry(column.title, is_published=True) for column in columns)),
            tuple(
                (
                    _words(row.method),
                    *(Entry(f"{v:g}", is_published=True) for v in getattr(row, kind)),
                )
                for row in content.published.rows
            ),
        )
        for kind in shown
    ]


def runs(content: Content) -> Table:
    """Return the list of runs: how far each came, and on what."""
    heads = [_words(head) for head in ("run", "recipe", "prior")]
    heads += [
        Entry("seed"),
        Entry("iterations"),
        _words("state"),
        _words("device"),
        _words("started"),
    ]
    rows = []
    for run in content.runs:
        recipe, environment = run.recipe, run.environment or {}
        state = f"{run.state.value}: {run.reason}" if run.reason else run.state.value
        rows.append(
            (
                _words(run.label),
                _words(recipe.name if recipe else "-"),
                _words(words(recipe.prior_name) if recipe else "-"),
                Entry(str(recipe.seed) if recipe else "-"),
                Entry("-" if run.iteration is None else f"{run.iteration:,}"),
                _words(state),
                _words(environment.get("device", "-")),
                _words(environment.get("started", "-")[:10]),
            )
        )
    return Table("All runs.", tuple(heads), tuple(rows))


MEAN = "Mean over n seeds ± standard deviation."
BOLD = (
    "Bold: better than its twin, and the 95 % interval of the paired difference excludes zero, "
    "which takes three seeds at least."
)


def main(content: Content) -> Table:
    """Return the first table."""
    return results(content, content.headline, caption=" ".join([MEAN, BOLD, *_arrows(content)]))


def _arrows(content: Content) -> list[str]:
    told = ["Arrows: ↓ lower is better, ↑ higher is better."]
    if content.with_published:
        told.append(f"Paper: the published number; {DAGGER} does not compare with ours.")
    return told


def further(content: Content) -> Table | None:
    """Return the table of the other metrics, None where there are none."""
    if not content.further:
        return None
    return results(content, content.further, caption=f"Further metrics. {MEAN} {BOLD}")


def comparability(content: Content) -> list[tuple[str, str, str]]:
    """Return (column, how it compares, why) for the paper's columns that the runs stand beside."""
    if content.published is None or not paper(content):
        return []
    said = {
        "yes": "comparable",
        "direction": "comparable in direction only",
        "no": "not comparable",
    }
    return [
        (column.title, said[column.comparable], column.note) for column in content.published.columns
    ]
