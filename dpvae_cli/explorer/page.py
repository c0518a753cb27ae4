"""The page: its content, thinned where it would be too large, in one HTML file."""

import base64
import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from torch import nn

from dpvae_cli.explorer.content import RunContent, gather, opening_path
from dpvae_cli.explorer.packing import CODE_BYTES, FEWER_CODE_BYTES
from dpvae_cli.explorer.runtime import runtime_scripts
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import write_text
from dpvae_cli.foundation.randomness import stream
from dpvae_cli.foundation.text import escape_unprintable, sanitize_line
from dpvae_cli.pages import render_page
from dpvae_cli.runs.loaded_run import LoadedRun, load_run

FOLDER = Path(__file__).parent
FILES = ("explore.css", "latent.js", "drawing.js", "explore.js")
"""The style, and the parts of the page's one module in their order."""
MAX_BYTES = 12_000_000
"""Of a page; of a larger one q(z) is over fewer codes."""
MIN_CODES = 1_000
"""Of a page, even where it is too large."""
ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def explore(
    run: Path | str,
    twin: Path | str | None = None,
    *,
    out: Path | str | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Path:
    """Write a page on which one walks through z, z0 and x in a browser, and return its path.

    The page is one file with the model inside, and loads nothing.

    Args:
        run: a checkpoint or a run folder.
        twin: a second run of the same data, on the same page.
        out: the page; by default explore.html in the run folder.
        encoder: made like the one that was trained, where it was the caller's own.
        decoder: the same of the decoder.

    Raises:
        CheckpointError: missing, damaged or newer; or encoder and decoder are missing, superfluous
            or of other weights.
        UsageError: the runs have different data, there are too few training examples, or the page
            cannot be written.

    Example:
        >>> import dpvae_cli as dpvae
        >>> dpvae.explore("beta_h_moons-decoupled")  # doctest: +SKIP
        PosixPath('explore.html')
    """
    runs = [load_run(Path(run), encoder=encoder, decoder=decoder)]
    runs += [] if twin is None else [load_run(Path(twin))]
    path = runs[0].folder.path / "explore.html" if out is None else Path(out)
    write_explore_page(path, runs, names=[shlex.quote(str(each.path.parent)) for each in runs])
    return path


def explore_page(runs: Sequence[LoadedRun], *, names: Sequence[str]) -> tuple[str, list[str]]:
    """Return the page of a run, or of two that were trained on the same data, and its notes.

    Args:
        runs: one or two.
        names: what `dpvae traverse` calls them.

    Raises:
        UsageError: two runs have different data, or there are too few training examples.
    """
    check_same_data(runs)
    contents = [gather(run) for run in runs]
    ends = opening_path(contents)
    graphs = [each.graphs for each in contents]
    runtime = runtime_scripts() if any(graphs) else {}
    rows = all_rows = torch.randperm(
        len(contents[0].aggregate), generator=stream(0, "explore", "rows")
    )
    while True:
        size = CODE_BYTES if len(rows) == len(all_rows) else FEWER_CODE_BYTES
        records = [each.to_json(rows, ends, code_bytes=size) for each in contents]
        notes = _notes(contents, len(rows), len(all_rows))
        page = _render(contents, records, names, notes, runtime)
        excess = len(page.encode()) - MAX_BYTES
        if excess <= 0 or len(rows) <= MIN_CODES:
            return page, notes
        per_code = sum(2 * size * each.model.latent_dim for each in contents)
        # gzip and base64 about cancel out; the two roundings of the first turn are another half
        fewer = (len(rows) * size - 1.02 * excess * size / per_code) / FEWER_CODE_BYTES
        rows = all_rows[: max(MIN_CODES, min(int(fewer), len(rows) - 1))]


def check_same_data(runs: Sequence[LoadedRun]) -> None:
    """Check that runs were trained on the same data, so that examples link their spaces.

    Raises:
        UsageError: they were not.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.recipe.data != first.recipe.data:
            raise UsageError(
                f"{run.label} was trained on other data than {first.label}: a page of two runs "
                "shows the same examples in both",
                hint="Write a page for each of them.",
            )


def _notes(contents: Sequence[RunContent], kept: int, total: int) -> list[str]:
    notes = []
    if kept < total:
        notes.append(
            f"To keep this page within {MAX_BYTES // 10**6} MB, q(z) in it is over {kept:,} of the "
            f"{total:,} codes; the maps that it opens with are over all of them."
        )
    for each in contents:
        if each.reason is not None:
            notes.append(
                f"{each.run.label}: {each.reason} The page shows pictures that were decoded "
                "beforehand, and z0 is left out."
            )
        if each.dataset is None:
            notes.append(
                f"{each.run.label}: its data was not found, so training codes stand in for test "
                "examples, and there are no labels."
            )
        for note in (each.run.data_note, each.run.units_note):
            if note is not None:
                notes.append(note)
    return list(dict.fromkeys(notes))


def _render(
    contents: Sequence[RunContent],
    records: list[dict[str, Any]],
    names: Sequence[str],
    notes: list[str],
    runtime: dict[str, str],
) -> str:
    style, *scripts = ((FOLDER / name).read_text(encoding="utf-8") for name in FILES)
    script = "\n".join(scripts)
    for record, name in zip(records, names, strict=True):
        record["traverse"] = sanitize_line(name, longest=2_000)
    labels = [sanitize_line(each.run.label) for each in contents]
    return render_page(
        FOLDER / "explore.html.j2",
        title=f"{' and '.join(labels)} explored",
        runs=[
            {
                "label": label,
                "record": record,
                "sentence": each.shares.sentence(),
                "sweeps": _sweeps(record["spaces"]["z"]),
                "recipe": sanitize_line(each.run.recipe.name),
                "iteration": each.run.iteration,
            }
            for label, record, each in zip(labels, records, contents, strict=True)
        ],
        notes=[sanitize_line(note, longest=1_000) for note in notes],
        content=json_text({"runs": records}),
        runtime={name: Markup(text) for name, text in runtime.items()},  # noqa: S704 - our own files
        script=Markup(script),  # noqa: S704
        script_digest=_digest(script),
        style_sheet=Markup(style),  # noqa: S704
        style_sheet_digest=_digest(style),
    )


def _sweeps(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the dimensions by their standard deviation under q(z), the widest first."""
    keys = ("deviations", "low", "high")
    rows = zip(*(space[key] for key in keys), strict=True)
    named = [
        {"dimension": dimension, **dict(zip(keys, values, strict=True))}
        for dimension, values in enumerate(rows)
    ]
    return sorted(named, key=lambda each: -each["deviations"])


def json_text(content: Any) -> Markup:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(ESCAPES))  # noqa: S704 - nothing in it ends the element


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def write_explore_page(path: Path, runs: Sequence[LoadedRun], *, names: Sequence[str]) -> list[str]:
    """Write the page of one run or two, and return its notes; arguments as of `explore_page`.

    Raises:
        UsageError: as `explore_page`, or the folder cannot be written to.
    """
    page, notes = explore_page(runs, names=names)
    write_text(path, escape_unprintable(page))
    return notes
