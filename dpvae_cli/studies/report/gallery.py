"""Pictures from run folders: samples, traversals and figures, twins beside each other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from dpvae_cli.foundation.text import sanitize_line
from dpvae_cli.pages.pictures import Picture, first, from_file
from dpvae_cli.studies.grouping import Experiment
from dpvae_cli.studies.report.conclusion import display_name

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
