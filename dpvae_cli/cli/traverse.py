"""`dpvae traverse`: decode lines, sweeps and grids of the latent spaces."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import CheckpointPath, Out, examples
from dpvae_cli.cli.run_io import (
    RunOptions,
    note_units,
    picture_and_arrays,
    with_run_options,
)
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.text import path_exists

if TYPE_CHECKING:
    import numpy as np

    from dpvae_cli.foundation.shapes import Codes
    from dpvae_cli.runs.loaded_run import LoadedRun
    from dpvae_cli.sampling.paths import Space
    from dpvae_cli.sampling.traversal import LatentTraversal

    Arrays = dict[str, np.ndarray]
    Records = list[dict[str, Any]]

Choice = Literal["z0", "z", "both"]
STEPS, GIF_STEPS, SIDE, REACH = 11, 41, 20, 5.0
EXAMPLES = examples(
    "dpvae traverse",
    "dpvae traverse runs/factor_mnist-decoupled-seed0 --between 3 18 --space both --gif",
    "dpvae traverse ckpt.pt --between 3 me.jpg --steps 15 --out walk.pdf",
    "dpvae traverse --dimensions 5 --from 7 --range 3",
    "dpvae traverse --grid --space both",
)


@handle_errors
@with_run_options
def traverse(
    options: RunOptions,
    checkpoint: CheckpointPath = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="I J",
            help="Walk between two examples: numbers in the test split, or picture files.",
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Sweep the N dimensions with the largest deviation under q(z), one at a time.",
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option("--grid", help="Decode a square of the latent space (latent_dim 2 alone)."),
    ] = False,
    space: Annotated[
        Choice | None,
        typer.Option(
            help="Where walks are straight: z0 (generation), z, or both (default: z0, sweeps z)."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Sweep from this example (default: the first of --between, else 0)."
        ),
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option(
            "--range",
            min=0.0,
            max=1e6,
            help="Standard deviations to either side of a sweep (default: 5).",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1_000,
            help="Steps of each walk (default: 11, with --gif 41), points along a side of --grid "
            "(default: 20).",
        ),
    ] = None,
    gif: Annotated[
        bool, typer.Option("--gif", help="Write an animation too, there and back.")
    ] = False,
    out: Out = None,
) -> None:
    """Decode lines between examples and sweeps of single dimensions.

    A line is straight in z0 (a curve in z) or in z. Without options, the command draws the line
    between test examples 0 and 1 and sweeps five dimensions; with --between, --dimensions or --grid
    it does only what they ask for. --between and --dimensions share a picture, --grid has its own.
    An .npz and a .json with the lowest log q(z) on every path are written beside the picture.
    """
    if grid and (between or dimensions):
        raise UsageError(
            "--grid has its own picture; it does not go with --between and --dimensions",
            hint="Run the command twice.",
        )
    if not (between or dimensions or grid):
        between, dimensions = ("0", "1"), 5
    if reach is not None and math.isnan(reach):
        raise UsageError("--range is not a number")
    for option, given, allowed, what in (
        ("--gif", gif, not grid, "--between and --dimensions"),
        ("--range", reach is not None, dimensions, "--dimensions"),
        ("--from", start is not None, dimensions, "--dimensions"),
    ):
        if given and not allowed:
            raise UsageError(f"{option} is for {what}")
    from dpvae_cli.foundation.array_files import write_npz
    from dpvae_cli.foundation.files import write_json
    from dpvae_cli.foundation.results import SCHEMA
    from dpvae_cli.foundation.text import nonfinite_to_none
    from dpvae_cli.plotting import animation, plane, style, traversal
    from dpvae_cli.sampling.samples import drawable

    run = options.load(checkpoint)
    note_units(run)
    parts = {"line": between, "sweep": dimensions, "grid": grid, space: space}
    stem = "-".join(str(name) for name, given in parts.items() if given)
    picture, arrays = picture_and_arrays(out, run.folder.path / "traversals" / f"{stem}.png")
    if grid:
        kind, decoded, draw = "grid", "plane_decoded", plane.figure
        record, summary = _grid(run, _spaces(space, "z0"), steps or SIDE)
    else:
        if gif:
            animation.check_animatable(run.model.example_shape)
        kind, decoded, draw = "walks", "walk_decoded", traversal.figure
        steps = steps or (GIF_STEPS if gif else STEPS)
        record, summary = _walks(run, between, dimensions, space, start, reach, steps)
    shown = record | {decoded: drawable(run.model, record[decoded])}
    paths = style.save(draw(shown, run.label), picture)
    if gif:
        paths.append(animation.save_animation(picture.with_suffix(".gif"), shown, run.label))
    write_npz(arrays, record)
    document = arrays.with_suffix(".json")
    content = {
        "schema": SCHEMA,
        "run": run.label,
        "checkpoint": str(run.path),
        "checkpoint_digest": run.digest,
        "iteration": run.iteration,
        "recipe": run.recipe.name,
        kind: summary,
    }
    write_json(document, nonfinite_to_none(content))
    console.result("\n".join(map(str, [*paths, arrays, document])))


def _spaces(space: Choice | None, default: "Space") -> "list[Space]":
    """Return the spaces in which paths are straight."""
    return ["z0", "z"] if space == "both" else [space or default]


def _walks(
    run: "LoadedRun",
    between: tuple[str, str] | None,
    dimensions: int | None,
    space: Choice | None,
    start: str | None,
    reach: float | None,
    steps: int,
) -> "tuple[Arrays, Records]":
    """Return the arrays of lines and sweeps, and the JSON record of each."""
    from dpvae_cli.sampling.traversal import line, record, sweeps

    ends = [encode_example(run, text, option="--between") for text in between or ()]
    model, aggregate = run.model, run.encoded.aggregate_posterior()
    paths: list[LatentTraversal] = []
    if ends:
        paths += [
            line(model, aggregate, *ends, space=each, steps=steps) for each in _spaces(space, "z0")
        ]
    if dimensions:
        centre = (
            ends[0]
            if start is None and ends
            else encode_example(run, start or "0", option="--from")
        )
        for each in _spaces(space, "z"):
            paths += sweeps(
                model,
                aggregate,
                centre,
                space=each,
                dimensions=dimensions,
                reach=REACH if reach is None else reach,
                steps=steps,
            )
    start = start or (between or "0")[0]
    summaries: Records = []
    for path in paths:
        is_line = path.dimension < 0
        line_or_sweep = (
            f"line that is straight in {path.space}"
            if is_line
            else f"sweep of {path.space}[{path.dimension}]"
        )
        console.note(f"Lowest log q(z) on the {line_or_sweep}: {path.lowest_log_q:.4g} nats.")
        summaries.append(
            {
                "kind": "line" if is_line else "sweep",
                "space": path.space,
                "examples": list(between or ()) if is_line else [start],
                "dimension": None if is_line else path.dimension,
                "standard_deviation": path.standard_deviation,
                "lowest_log_q": path.lowest_log_q,
                "ends_log_q": [float(path.log_q[0]), float(path.log_q[-1])],
            }
        )
    return record(model, aggregate, paths), summaries


def _grid(run: "LoadedRun", spaces: "list[Space]", side: int) -> "tuple[Arrays, Records]":
    """Return the arrays of the decoded plane, and the JSON record of each space."""
    from dpvae_cli.sampling.plane import check_two_dimensional, plane

    check_two_dimensional(run.model)
    record = plane(run.model, run.encoded.aggregate_posterior(), spaces=spaces, side=side)
    lowest = dict(zip(spaces, record["lowest_log_q"].tolist(), strict=True))
    for space, value in lowest.items():
        console.note(f"Lowest log q(z) on the grid in {space}: {value:.4g} nats.")
    return record, [{"space": space, "lowest_log_q": value} for space, value in lowest.items()]


def encode_example(run: "LoadedRun", text: str, *, option: str) -> "Codes":
    """Return the posterior mean of one example, `(1, latent)`.

    Args:
        run: the run.
        text: the number of a test example, from 0 (without the data that of a training example,
            if codes are kept), or an image file, transformed as the data of the recipe transforms
            its images.
        option: for error messages.

    Raises:
        UsageError: there is no such example or image.
    """
    import torch

    from dpvae_cli.data import Split

    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        index = int(text)
        try:
            test = run.load_dataset().test
        except MissingError:
            mean = run.encoded.aggregate_posterior().mean
            what = "training examples whose codes are kept"
            _check_index(index, len(mean), what=what, option=option)
            console.note(f"{option}: without the data, {index} is a training example.")
            return mean[index : index + 1].to(run.model.device, run.model.dtype)
        _check_index(index, len(test), what="test examples", option=option)
        example = Split(test.stored[index : index + 1])
    elif path_exists(Path(text)):
        try:
            example = run.recipe.data.load_image(Path(text))
        except UsageError as error:
            raise UsageError(f"{option}: {error}", hint=error.hint) from error
    else:
        raise UsageError(
            f"{option}: {text} is neither a number nor a file",
            hint="Name a test example by its number, from 0, or an image by its path.",
        )
    with torch.no_grad():
        return run.model.encode(example.examples().to(run.model.device, run.model.dtype)).mean


def _check_index(index: int, count: int, *, what: str, option: str) -> None:

    if not 0 <= index < count:
        raise UsageError(f"{option}: {index} is not among the {count} {what} (from 0)")
