"""What a report says, before it is HTML, Markdown, LaTeX, CSV or JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from dpvae_cli.foundation.sanitize import sanitize_line
from dpvae_cli.studies import published as published_tables
from dpvae_cli.studies.arrangement import BASELINE, Setting, arrange
from dpvae_cli.studies.departures import is_as_published, notices
from dpvae_cli.studies.metrics import MetricFacts, facts, in_order, is_asked
from dpvae_cli.studies.published import Published
from dpvae_cli.studies.records import RunRecord
from dpvae_cli.studies.report.answer import answer, discoveries
from dpvae_cli.studies.statistics import Comparison, Summary, adjust

CELEBA_TERMS = (
    "This report shows pictures of CelebA or of models trained on it. CelebA is for non-commercial "
    "research only; neither its images nor parts or derived data of it may be copied, published or "
    "passed on. Do not commit, publish or redistribute this file."
)


@final
@dataclass(frozen=True)
class Cell:
    """A metric of one prior over its seeds, and the published number beside it.

    `own_error` is the metric's own, of one seed alone; `without_leak` counts the seeds in which no
    draw lies below a leakage score's threshold, which are 0.
    """

    summary: Summary | None
    is_best: bool
    published: float | None
    own_error: float | None = None
    without_leak: int = 0


@final
@dataclass(frozen=True)
class Line:
    """A line of the tables: a setting with one prior, its cells by metric."""

    setting: str
    prior: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]


@final
@dataclass(frozen=True)
class Difference:
    """A metric of a setting: one prior minus the baseline.

    `adjusted_p` is the p-value of Student's test, adjusted for all comparisons of the report.
    """

    setting: str
    metric: str
    prior: str
    baseline: str
    found: Comparison
    adjusted_p: float | None


@final
@dataclass(frozen=True)
class Content:
    """All that a report says; `settings` hold the runs that pictures and recipes come from."""

    title: str
    question: str | None
    baseline: str
    answer: tuple[str, ...]
    notices: tuple[str, ...]
    terms: tuple[str, ...]
    metrics: tuple[str, ...]
    units: Mapping[str, str]
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    published: Published | None
    settings: tuple[Setting, ...]
    runs: tuple[RunRecord, ...]
    figures: tuple[Path, ...]

    @property
    def facts(self) -> dict[str, MetricFacts]:
        """Return what is known of the metrics shown."""
        return {metric: facts(metric) for metric in self.metrics}

    @property
    def headline(self) -> tuple[str, ...]:
        """Return the metrics of the first table; all, where none of them is a headline."""
        found = tuple(metric for metric in self.metrics if facts(metric).is_headline)
        return found or self.metrics

    @property
    def further(self) -> tuple[str, ...]:
        """Return the metrics of the second table."""
        return tuple(metric for metric in self.metrics if metric not in self.headline)

    @property
    def with_published(self) -> tuple[str, ...]:
        """Return the metrics beside which a published number stands."""
        return tuple(
            metric
            for metric in self.metrics
            if any(line.cells[metric].published is not None for line in self.lines)
        )

    @property
    def tested(self) -> int:
        """Return how many comparisons have an interval."""
        return sum(each.found.t_test_p is not None for each in self.differences)

    @property
    def unfinished(self) -> tuple[RunRecord, ...]:
        """Return the runs whose numbers are in no table."""
        return tuple(run for run in self.runs if not run.counts)


def compose(
    records: Sequence[RunRecord],
    *,
    title: str,
    question: str | None = None,
    metrics: Sequence[str] | None = None,
    published: str | None = None,
    figures: Sequence[Path] = (),
    notes: Sequence[str] = (),
    baseline: str = BASELINE,
) -> Content:
    """Return what a report of these runs says.

    Args:
        records: the runs, finished or not.
        title: of the report.
        question: what the study asks.
        metrics: which to show; all that the runs have by default.
        published: name of the published table to put beside ours.
        figures: files of figures over several runs.
        notes: what was truncate or subsampled, beside what the runs tell themselves.
        baseline: name of the prior that others are compared with.
    """
    settings, left_out = arrange(records)
    counted = [kept for setting in settings if (kept := _counted(setting)) is not None]
    table = published_tables.read(published) if published else None
    shown = _metrics(counted, metrics)
    differences = tuple(_differences(counted, shown, baseline))
    return Content(
        title=sanitize_line(title),
        question=sanitize_line(question) if question else None,
        baseline=baseline,
        answer=(
            *answer([(d.setting, d.metric, d.prior, d.found) for d in differences], baseline),
            *discoveries([d.adjusted_p for d in differences], [d.found for d in differences]),
        ),
        notices=tuple(dict.fromkeys([*map(sanitize_line, notes), *notices(counted), *left_out])),
        terms=_terms(records),
        metrics=tuple(shown),
        units={metric: _unit(counted, metric) for metric in shown},
        lines=tuple(_lines(counted, shown, table)),
        differences=differences,
        published=table,
        settings=tuple(settings),
        runs=tuple(records),
        figures=tuple(figures),
    )


def _counted(setting: Setting) -> Setting | None:
    """Return the setting with the runs alone whose numbers count."""
    runs = {
        prior: {seed: run for seed, run in by_seed.items() if run.counts}
        for prior, by_seed in setting.runs.items()
    }
    kept = {prior: by_seed for prior, by_seed in runs.items() if by_seed}
    return Setting(setting.label, setting.recipe, kept) if kept else None


def _metrics(settings: Sequence[Setting], asked: Sequence[str] | None) -> list[str]:
    found = {metric for setting in settings for metric in setting.measured}
    wanted = found if asked is None else {m for m in found if m in asked or is_asked(m, asked)}
    return in_order(wanted or found)


def _unit(settings: Sequence[Setting], metric: str) -> str:
    return next((unit for setting in settings if (unit := setting.unit(metric))), "")


def _lines(
    settings: Sequence[Setting], metrics: Sequence[str], table: Published | None
) -> Iterator[Line]:
    for setting in settings:
        for prior in setting.priors:
            cells = {
                metric: Cell(
                    setting.summary(metric, prior),
                    setting.is_best(metric, prior),
                    _published(table, metric, setting, prior),
                    setting.own_error(metric, prior),
                    setting.without_leak(metric, prior),
                )
                for metric in metrics
            }
            yield Line(setting.label, prior, tuple(sorted(setting.runs[prior])), cells)


def _published(table: Published | None, metric: str, setting: Setting, prior: str) -> float | None:
    """Return the published number, None where the runs have not the settings it was made with."""
    if table is None or not is_as_published(setting, metric, prior):
        return None
    data, regularizer = setting.recipe.data.kind, setting.recipe.regularizer.kind
    return table.value(metric, data=data, regularizer=regularizer, prior=prior)


def _differences(
    settings: Sequence[Setting], metrics: Sequence[str], baseline: str
) -> Iterator[Difference]:
    compared = [
        (setting.label, metric, prior, baseline, found)
        for metric in metrics
        for setting in settings
        if baseline in setting.runs
        for prior in setting.priors
        if prior != baseline
        and (found := setting.compare(metric, prior, baseline=baseline)) is not None
    ]
    adjusted = adjust([found.t_test_p for *_, found in compared])
    for each, p in zip(compared, adjusted, strict=True):
        yield Difference(*each, p)


def _terms(records: Sequence[RunRecord]) -> tuple[str, ...]:
    shows_faces = any(r.recipe is not None and r.recipe.data.kind == "celeba" for r in records)
    return (CELEBA_TERMS,) if shows_faces else ()
