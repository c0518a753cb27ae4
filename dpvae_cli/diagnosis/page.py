"""A diagnosis as one HTML file, and as JSON beside it."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, final

from dpvae_cli.diagnosis import Diagnosis
from dpvae_cli.diagnosis.null import ALARMS
from dpvae_cli.diagnosis.record import LEVEL, Quantity, sees
from dpvae_cli.diagnosis.verdict import (
    TITLES,
    amount,
    describe_dimensions,
    percent,
    recommendation,
    summarize,
)
from dpvae_cli.foundation.files import write_json, write_text
from dpvae_cli.foundation.notebook import html_table
from dpvae_cli.foundation.text import (
    escape_unprintable,
    format_number,
    format_with_error,
    sanitize_line,
)
from dpvae_cli.pages import render_page
from dpvae_cli.pages.pictures import Picture, from_bytes
from dpvae_cli.plotting import diagnosis as figures
from dpvae_cli.plotting import style

TEMPLATE = Path(__file__).parent / "diagnosis.html.j2"
DENSITIES = (
    "Left: log q(z) of the prior's samples beside that of codes that q(z) has not seen; samples "
    "left of the dashed line lie in pockets. Right: log p(z) of such codes beside that of samples; "
    "codes left of the dashed line leak."
)
PLANE = (
    "Left: samples of the prior on the density of the codes. Right: codes on the density of the "
    "prior. Black points are those left of the dashed lines above."
)
GRIDS = (
    "Decoded samples: of the prior as it is, those of them with the lowest log q(z), which the "
    "decoder knows least, and of the prior that is recommended, where one is."
)
SUPPORT = (
    "Precision and density see pockets, recall and coverage see leaks; samples as good as data "
    "reach the value of held-out examples."
)


@final
@dataclass(frozen=True)
class About:
    """The run that was diagnosed, and its checkpoint.

    `command` fits a prior, `{options}` in it stands for which, and how; `comparison` is a command
    that draws samples, those of `fitted` too, which `command` makes. Codes without a model have no
    iteration.
    """

    run: str
    checkpoint: str
    checkpoint_digest: str
    iteration: int | None
    recipe: str
    command: str
    comparison: str
    data_note: str | None = None
    fitted: str = "runs/latest"

    def comparison_after(self, command: str | None) -> str:
        """Return the command that draws samples, and with them those of the run that fits made."""
        return self.comparison if command is None else f"{self.comparison} {self.fitted}"


def document(diagnosis: Diagnosis, about: About) -> dict[str, Any]:
    """Return the content of diagnosis.json."""
    advice, command = recommendation(diagnosis, about.command)
    return {
        **{key: getattr(about, key) for key in ("run", "checkpoint", "checkpoint_digest")},
        **{key: getattr(about, key) for key in ("iteration", "recipe", "data_note")},
        "headline": summarize(diagnosis),
        "about_dimensions": describe_dimensions(diagnosis),
        "remedy": advice,
        "command": command,
        "comparison": about.comparison_after(command),
        **diagnosis.to_json(),
    }


def notebook_view(diagnosis: Diagnosis) -> str:
    """Return the answer, its tables and its pictures as HTML for a notebook."""
    found = [quantities(diagnosis)]
    found += [repairs(diagnosis)] if diagnosis.repairs else []
    parts = [f"<p><strong>{escape(summarize(diagnosis))}</strong></p>"]
    parts += [html_table(*table) for table in found]
    for picture in _pictures(diagnosis):
        parts += [f'<img src="{picture.uri}" alt="">', f"<p>{escape(picture.caption)}</p>"]
    return "\n".join(parts)


def diagnosis_page(diagnosis: Diagnosis, about: About) -> str:
    """Return the HTML page."""
    advice, command = recommendation(diagnosis, about.command)
    grids = figures.grids(diagnosis.arrays) if "samples" in diagnosis.arrays else None
    return render_page(
        TEMPLATE,
        title=sanitize_line(f"Diagnosis of {about.run}"),
        about=about,
        found=diagnosis,
        level=f"{LEVEL:g}",
        once_in=f"{1 / ALARMS:.0f}",
        headline=summarize(diagnosis),
        dimensions_said=describe_dimensions(diagnosis),
        advice=advice,
        command=None if command is None else sanitize_line(command, longest=2_000),
        comparison=sanitize_line(about.comparison_after(command), longest=2_000),
        grids=grids and from_bytes(style.png(grids), alt=GRIDS, caption=GRIDS),
        quantities=quantities(diagnosis),
        dimensions=dimensions(diagnosis),
        repairs=repairs(diagnosis) if diagnosis.repairs else None,
        low=low_posterior_table(diagnosis),
        support=support(diagnosis) if diagnosis.support else None,
        about_support=SUPPORT,
        pictures=_pictures(diagnosis),
    )


def _pictures(diagnosis: Diagnosis) -> list[Picture]:
    drawn = [(figures.densities(diagnosis.arrays, diagnosis.prior), DENSITIES)]
    if "grid_x" in diagnosis.arrays:
        drawn.append((figures.latent_plane(diagnosis.arrays, diagnosis.prior), PLANE))
    pictures = (from_bytes(style.png(each), alt=text, caption=text) for each, text in drawn)
    return [picture for picture in pictures if picture is not None]


def write_diagnosis(diagnosis: Diagnosis, about: About, path: Path) -> list[Path]:
    """Write the page, and the JSON beside it.

    `path` is that of the page; the JSON has its stem.

    Raises:
        UsageError: the folder cannot be written to.
    """
    beside = path.with_suffix(".json")
    write_text(path, escape_unprintable(diagnosis_page(diagnosis, about)))
    write_json(beside, document(diagnosis, about))
    return [path, beside]


class Table(NamedTuple):
    """Columns and rows of text."""

    columns: list[str]
    rows: list[list[str]]


def quantities(diagnosis: Diagnosis) -> Table:
    """Return every quantity with its null, its limit and the verdict."""
    columns = ["what is measured", "this model", "null", "off above", "verdict"]

    def row(each: Quantity) -> list[str]:
        amounts = [amount(each, value) for value in (each.value, each.null, each.limit)]
        return [TITLES[each.name], *amounts, "off" if each.is_off else "within the null"]

    return Table(columns, [row(each) for each in diagnosis.quantities])


def dimensions(diagnosis: Diagnosis) -> Table:
    """Return every dimension."""
    columns = ["dimension", "distance", "null", "off above", "variance of means", "verdict"]
    rows = []
    for each in diagnosis.dimensions:
        states = [("off", each.mismatch.is_off), ("inactive", not each.is_active)]
        verdict = ", ".join(state for state, holds in states if holds) or "within the null"
        distances = (each.mismatch.value, each.mismatch.null, each.mismatch.limit)
        variance = format_number(each.variance_of_means)
        rows.append([str(each.index), *(f"{d:.3f}" for d in distances), variance, verdict])
    return Table(columns, rows)


def repairs(diagnosis: Diagnosis) -> Table:
    """Return the priors tried, and in the first row the model's own."""
    columns = ["prior", "gain [nats per code]", "samples in pockets", "codes leaked", "seconds"]
    own = [percent(diagnosis[name].value) for name in ("pocket_share", "leak_share")]
    rows = [[f"{diagnosis.prior} (as it is)", "-", *own, "-"]]
    for each in diagnosis.repairs:
        gain = format_with_error(each.gain, each.standard_error, sign=True)
        shares = [percent(each.pocket_share), percent(each.leak_share)]
        rows.append([each.prior, gain, *shares, f"{each.seconds:.0f}"])
    return Table(columns, rows)


def support(diagnosis: Diagnosis) -> Table:
    """Return precision, recall, density and coverage with those of held-out examples."""
    rows = []
    for each in diagnosis.support:
        amounts = [
            format_with_error(each.value, each.standard_error),
            _format_record(each.details.get("held_out")),
        ]
        rows.append([each.metric, *amounts, str(sees(each.metric))])
    return Table(["samples and examples", "this model", "held-out examples", "sees"], rows)


def _format_record(given: object) -> str:
    """Return value and error of a record in details, in which a file may have anything."""
    found = given if isinstance(given, dict) else {}
    numbers = (found.get(name) for name in ("value", "standard_error"))
    return format_with_error(*(float(n) if isinstance(n, int | float) else None for n in numbers))


def low_posterior_table(diagnosis: Diagnosis) -> Table | None:
    """Return decoded samples compared with the data; None if they were not."""
    random, lowest = diagnosis.low_posterior.random, diagnosis.low_posterior.lowest
    if random is None or lowest is None:
        return None
    rows = [
        ["random samples", format_with_error(random.value, random.standard_error)],
        ["those with the lowest log q(z)", format_with_error(lowest.value, lowest.standard_error)],
        ["null: those with the lowest log p(z)", _format_record(lowest.details.get("null"))],
    ]
    return Table(["samples", f"{random.metric} [{random.unit}]"], rows)
