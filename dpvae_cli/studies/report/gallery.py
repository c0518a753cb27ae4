"""Pictures of a report: of run folders, twins beside each other, and curves over seeds."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from matplotlib.figure import Figure

from dpvae_cli.foundation.errors import DpvaeError
from dpvae_cli.foundation.text import sanitize_line
from dpvae_cli.pages.pictures import Picture, first, from_bytes, from_file
from dpvae_cli.plotting import style, training
from dpvae_cli.plotting.leakage import LeakageCurve, LeakageScores, Numbers, figure4
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.grouping import Experiment
from dpvae_cli.studies.report.content import display_name

SAMPLES = (
    ("Prior samples", ("samples/prior.png", "samples.png")),
    ("Low-posterior samples: from pockets, where q(z) is lowest", ("samples/low_posterior.png",)),
    ("High-posterior samples: from leaks, where p(z) is lowest", ("samples/high_posterior.png",)),
)
OTHERS = ("reconstructions", "figures")
WALKS = ("traversals",)
SUFFIXES = (".png", ".gif", ".jpg")
MOST_FILES = 6
"""Pictures shown of a folder; the rest stays in the run folder."""
RunFolders = dict[str, Path]
"""Run folders by prior."""
MOST_SETTINGS = 6
"""Settings in one figure: the colours of the house style."""


@final
@dataclass(frozen=True)
class ImageRow:
    """Pictures to look at side by side."""

    title: str
    pictures: tuple[Picture, ...]


@final
@dataclass(frozen=True)
class ImageSection:
    """The strips of an experiment, all of one seed."""

    experiment: str
    seed: int
    strips: tuple[ImageRow, ...]


def samples(experiments: Sequence[Experiment]) -> list[ImageSection]:
    """Return the sample pictures of each experiment, of its first seed that has any."""
    return _sections(experiments, _sample_strips)


def walks(experiments: Sequence[Experiment]) -> list[ImageSection]:
    """Return the traversals of each experiment, of its first seed that has any."""
    return _sections(experiments, lambda runs, name: _folder_strips(runs, name, WALKS))


def _sections(
    experiments: Sequence[Experiment], strips: Callable[[RunFolders, str], Iterator[ImageRow]]
) -> list[ImageSection]:
    found = []
    for experiment in experiments:
        for seed in experiment.seeds:
            by_prior = [(prior, experiment.runs[prior]) for prior in experiment.priors]
            runs = {prior: by_seed[seed].path for prior, by_seed in by_prior if seed in by_seed}
            rows = strips(runs, f"{experiment.label}, seed {seed}")
            if shown := tuple(row for row in rows if row.pictures):
                found.append(ImageSection(experiment.label, seed, shown))
                break
    return found


def _sample_strips(runs: RunFolders, name: str) -> Iterator[ImageRow]:
    """Yield a strip of all kinds of samples for each prior, or one strip of the only kind."""
    shown: dict[str, dict[str, Picture]] = {}
    for title, files in SAMPLES:
        for prior, path in runs.items():
            caption = display_name(prior)
            alt = f"{title} of {name}, {caption} prior."
            if picture := first(files, within=path, alt=alt, caption=caption):
                shown.setdefault(title, {})[prior] = picture
    if len(shown) == 1:
        [(title, by_prior)] = shown.items()
        yield ImageRow(title, tuple(by_prior.values()))
    elif shown:
        for prior in runs:
            strip = [replace(of[prior], caption=kind) for kind, of in shown.items() if prior in of]
            yield ImageRow(f"{display_name(prior)} prior", tuple(strip))
    yield from _folder_strips(runs, name, OTHERS)


def _folder_strips(runs: RunFolders, name: str, folders: Sequence[str]) -> Iterator[ImageRow]:
    """Yield a strip for each file name that some of the runs have in these folders."""
    for folder in folders:
        files = set()
        for path in runs.values():
            with suppress(OSError):
                files |= {f.name for f in (path / folder).iterdir() if f.suffix.lower() in SUFFIXES}
        for file in sorted(files)[:MOST_FILES]:
            title = f"{folder.capitalize()}: {sanitize_line(Path(file).stem)}"
            pictures = [
                from_file(
                    path / folder / file,
                    within=path,
                    alt=f"{title}, {name}, {display_name(prior)} prior.",
                    caption=display_name(prior),
                )
                for prior, path in runs.items()
            ]
            yield ImageRow(title, tuple(picture for picture in pictures if picture is not None))


def leakage(experiments: Sequence[Experiment]) -> list[Picture]:
    """Return Figure 4 of these experiments, a figure for each kind of data."""
    pictures = []
    by_data: dict[str, list[Experiment]] = {}
    for experiment in experiments:
        by_data.setdefault(experiment.recipe.data.kind, []).append(experiment)
    for data, group in by_data.items():
        for start in range(0, len(group), MOST_SETTINGS):
            some = group[start : start + MOST_SETTINGS]
            curves = []
            for experiment in some:
                for prior, results in experiment.comparable.get("leak", {}).items():
                    seeds = []
                    for result in results.values():
                        with suppress(KeyError, TypeError, ValueError):
                            seeds.append(LeakageScores.from_details(result.details))
                    if seeds:
                        at_thresholds, at_quantiles = map(mean_curve, zip(*seeds, strict=True))
                        curves.append(
                            LeakageCurve(experiment.label, prior, at_thresholds, at_quantiles)
                        )
            alt = f"Leakage score against its threshold on {data}, a line a recipe and prior."
            caption = (
                "Leakage score, mean over seeds with its standard error (of one seed: the metric's "
                "own). Left against fixed thresholds, right at quantiles of each model's own "
                "log p(z), which is where priors compare. A seed without a sample below counts as "
                "0; a cross: no seed has one."
            )
            pictures += _picture(figure4(curves), alt, caption) if curves else []
    return pictures


def mean_curve(curves: Sequence[LeakageScores]) -> LeakageScores:
    """Return the mean curve of several seeds with its standard error.

    Where no sample lies below in some seed, it counts as 0; in all seeds, the mean is None.
    """
    levels = curves[0].levels
    same = [curve for curve in curves if curve.levels == levels]
    if len(same) == 1:
        return same[0]
    columns = list(zip(*(curve.values for curve in same), strict=True))
    whole = [
        [value or 0.0 for value in column] if any(v is not None for v in column) else []
        for column in columns
    ]
    means: Numbers = [math.fsum(values) / len(values) if values else None for values in whole]
    errors: Numbers = [
        float(np.std(values, ddof=1)) / math.sqrt(len(values)) if values else None
        for values in whole
    ]
    return LeakageScores(levels, means, errors)


def training_curves(experiment: Experiment) -> list[Picture]:
    """Return the training curves of an experiment's first seed, a line a prior."""
    seed = experiment.seeds[0]
    curves = []
    for prior in experiment.priors:
        with suppress(DpvaeError, TypeError, ValueError, AttributeError, KeyError):
            log = RunFolder(experiment.runs[prior][seed].path).metrics_log
            records = MetricsLog.read(log, strict=True)
            made = training.TrainingCurves.from_records(records, experiment.label, prior=prior)
            curves += [made] if made.series else []
    if not curves:
        return []
    alt = f"Training curves of {experiment.label}, seed {seed}: ELBO, sKL and terms of the loss."
    return _picture(training.training_figure(curves), alt, f"{experiment.label}, seed {seed}.")


def _picture(figure: Figure, alt: str, caption: str) -> list[Picture]:
    found = from_bytes(style.png(figure), alt=alt, caption=caption)
    return [] if found is None else [found]
