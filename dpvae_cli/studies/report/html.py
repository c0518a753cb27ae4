"""The report as one HTML file: nothing in it runs, nothing is fetched."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from dpvae_cli.foundation.text import is_inside, read_text, sanitize_line
from dpvae_cli.pages import render_page
from dpvae_cli.pages.pictures import Picture, from_file
from dpvae_cli.recipe import to_yaml
from dpvae_cli.studies.deviations import Deviation, deviations
from dpvae_cli.studies.grouping import Experiment
from dpvae_cli.studies.report import gallery, tables
from dpvae_cli.studies.report.content import Content, display_name
from dpvae_cli.studies.statistics import Comparison

FOLDER = Path(__file__).parent
MOST_PICTURED = 24
"""Settings that a page has pictures of; each takes about a second and 100 kB."""
VERSIONS = ("dpvae", "python", "torch", "numpy", "platform", "device", "threads")


def render_report(content: Content) -> str:
    """Return the whole page; of a study of many experiments the first ones are pictured."""
    pictured = content.experiments[:MOST_PICTURED]
    if left_out := len(content.experiments) - len(pictured):
        note = (
            f"The page has samples, walks and curves of the first {MOST_PICTURED} experiments; "
            f"those of the other {left_out} are in their run folders."
        )
        content = replace(content, notices=(*content.notices, note))
    differences = []
    for metrics in (content.headline, content.further):
        chosen = [each for each in content.differences if each.metric in metrics]
        plots = [plot(each.found) for each in chosen]
        differences.append((tables.differences_table(content, chosen), plots) if chosen else None)
    known = [run.environment for run in content.runs if run.environment]
    machines = Counter(tuple((key, one.get(key, "-")) for key in VERSIONS) for one in known)
    days = sorted(environment["started"][:10] for environment in known if "started" in environment)
    training = [(experiment.label, gallery.training_curves(experiment)) for experiment in pictured]
    return render_page(
        FOLDER / "report.html.j2",
        content=content,
        days=" to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        groups=lambda table: [
            (first, [row[1:] for row in rows]) for first, rows in groupby(table.rows, itemgetter(0))
        ],
        results=tables.results_tables(content),
        differences=differences,
        paper=tables.published_tables(content),
        comparability=tables.comparability(content),
        runs=tables.runs_table(content),
        leakage=gallery.leakage(pictured) if "leak" in content.metrics else [],
        figures=_study_figures(content.figures),
        samples=gallery.samples(pictured),
        walks=gallery.walks(pictured),
        training=[(label, pictures) for label, pictures in training if pictures],
        recipes=[_recipe(experiment) for experiment in content.experiments],
        machines=[(count, dict(values)) for values, count in machines.most_common()],
        versions=VERSIONS,
    )


def plot(found: Comparison) -> dict[str, Any]:
    """Return a paired difference drawn to its own scale: positions from -50 to 50 around zero."""
    ends = found.interval or ()
    reach = max(map(abs, (*ends, *found.differences.values(), found.mean))) or 1.0

    def place(value: float) -> float:
        return round(46 * value / reach, 2)

    look = "better" if found.is_better else "worse" if found.is_worse else "unclear"
    low, high = (place(ends[0]), place(ends[1])) if ends else (None, None)
    side = "below" if found.mean < 0 else "above" if found.mean > 0 else "at"
    return {
        "low": low,
        "high": high,
        "mean": place(found.mean),
        "seeds": [place(value) for value in found.differences.values()],
        "look": look,
        "alt": f"mean {side} zero, {found.verdict.value}",
    }


def _study_figures(paths: Sequence[Path]) -> list[Picture]:
    found = []
    for path in paths:
        name, study = sanitize_line(path.stem), path.parents[1]
        beside, caption = path.with_suffix(".txt"), name
        if is_inside(beside, study):
            with suppress(OSError, ValueError):
                text = read_text(beside, errors="replace")
                caption = sanitize_line(text, longest=2_000) or name
        picture = from_file(path, within=study, alt=f"Figure {name}. {caption}", caption=caption)
        found += [] if picture is None else [picture]
    return found


def _recipe(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment's resolved recipe, and per prior where it is not the packaged one."""
    changes: dict[str, tuple[str, Deviation]] = {}
    for prior in experiment.priors:
        recipe = experiment.runs[prior][min(experiment.runs[prior])].recipe
        for each in (deviations(recipe) if recipe else None) or []:
            whose = f"{display_name(prior)} prior" if each.key.startswith("prior.") else ""
            changes.setdefault(f"{each.key} {whose}", (whose, each))
    return {
        "experiment": experiment.label,
        "priors": [display_name(prior) for prior in experiment.priors],
        "seeds": experiment.seeds,
        "text": to_yaml(experiment.recipe),
        "is_packaged": deviations(experiment.recipe) is not None,
        "changes": list(changes.values()),
    }
