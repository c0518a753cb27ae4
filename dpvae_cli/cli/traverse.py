"""`dpvae traverse`: decode lines, sweeps and grids of the latent spaces."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import typer

from dpvae_cli.cli import console
from dpvae_cli.cli.errors import handle_errors
from dpvae_cli.cli.options import CheckpointPath, Out, SpaceChoice, examples
from dpvae_cli.cli.run_io import (
    RunOptions,
    note_units,
    picture_and_arrays,
    with_run_options,
)

if TYPE_CHECKING:
    import numpy as np

    from dpvae_cli.foundation.shapes import Codes
    from dpvae_cli.runs.loaded_run import LoadedRun
    from dpvae_cli.sampling.paths import Space
    from dpvae_cli.sampling.traversal import LatentTraversal

    Arrays = dict[str, np.ndarray]
    Records = list[dict[str, Any]]

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
            show_default=False,
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Sweep the N dimensions with the largest deviation under q(z), one at a time.",
            show_default=False,
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option("--grid", help="Decode a square of the latent space (latent_dim 2 alone)."),
    ] = False,
    space: Annotated[
        SpaceChoice | None,
        typer.Option(
            help="Where walks are straight: z0 (generation), z, or both (default: z0, sweeps z).",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Sweep from this example (default: the first of --between, else 0).",
            show_default=False,
        ),
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option(
            "--range",
            min=0.0,
            max=1e6,
            help="Standard deviations to either side of a sweep (default: 5).",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1_000,
            help="Steps of each walk (default: 11, with --gif 41), points along a side of --grid "
            "(default: 20).",
            show_default=False,
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
    is_default = not (between or dimensions or grid)
    asked = TraverseOptions(
        between=("0", "1") if is_default else between,
        dimensions=5 if is_default else dimensions,
        grid=grid,
        space=None if space is None else space.value,
        start=start,
        reach=reach,
        steps=steps,
        gif=gif,
    )
    check_options(asked)
    run = options.load(checkpoint)
    note_units(run)
    _traverse(asked, run, out)


@final
@dataclass(frozen=True)
class TraverseOptions:
    """The options; None and False where one was not given."""

    between: tuple[str, str] | None
    dimensions: int | None
    grid: bool
    space: Literal["z0", "z", "both"] | None
    start: str | None
    reach: float | None
    steps: int | None
    gif: bool

    @property
    def has_paths(self) -> bool:
        """Whether lines or sweeps are asked for."""
        return self.between is not None or self.dimensions is not None

    @property
    def stem(self) -> str:
        """The name of the files: `line-sweep`, `line-both`, `grid-z`."""
        parts = {
            "line": self.between,
            "sweep": self.dimensions,
            "grid": self.grid,
            self.space: self.space,
        }
        return "-".join(str(name) for name, asked in parts.items() if asked)

    def spaces(self, default: "Space") -> "list[Space]":
        """Return the spaces in which paths are straight."""
        return ["z0", "z"] if self.space == "both" else [self.space or default]


def check_options(asked: TraverseOptions) -> None:
    """Check that every option has the one that it is for.

    Raises:
        UsageError: for the first that has not.
    """
    from dpvae_cli.foundation.errors import UsageError

    if asked.grid and asked.has_paths:
        raise UsageError(
            "--grid has its own picture; it does not go with --between and --dimensions",
            hint="Run the command twice.",
        )
    needs = (
        ("--gif", asked.gif, asked.has_paths, "--between and --dimensions"),
        ("--range", asked.reach is not None, asked.dimensions is not None, "--dimensions"),
        ("--from", asked.start is not None, asked.dimensions is not None, "--dimensions"),
    )
    if asked.reach is not None and math.isnan(asked.reach):
        raise UsageError("--range is not a number")
    for option, given, allowed, what in needs:
        if given and not allowed:
            raise UsageError(f"{option} is for {what}")


def _traverse(asked: TraverseOptions, run: "LoadedRun", out: Path | None) -> None:
    """Decode and measure the paths; write the files and print their names."""
    from dpvae_cli.foundation.array_files import write_npz
    from dpvae_cli.foundation.files import write_json
    from dpvae_cli.foundation.results import SCHEMA
    from dpvae_cli.foundation.text import nonfinite_to_none
    from dpvae_cli.sampling.samples import drawable

    default = run.folder.path / "traversals" / f"{asked.stem}.png"
    picture, arrays = picture_and_arrays(out, default)
    record: Arrays = {}
    summary: dict[str, Any] = {}
    paths: list[Path] = []
    if asked.has_paths:
        from dpvae_cli.plotting import animation, style, traversal

        record, summary["walks"] = _paths(asked, run)
        walks = record | {"walk_decoded": drawable(run.model, record["walk_decoded"])}
        paths += style.save(traversal.figure(walks, run.label), picture)
        if asked.gif:
            paths.append(animation.save_animation(picture.with_suffix(".gif"), walks, run.label))
    if asked.grid:
        from dpvae_cli.plotting import plane, style

        record, summary["grid"] = _grid(asked, run)
        squares = record | {"plane_decoded": drawable(run.model, record["plane_decoded"])}
        paths += style.save(plane.figure(squares, run.label), picture)
    document = arrays.with_suffix(".json")
    write_npz(arrays, record)
    header = {
        "schema": SCHEMA,
        "run": run.label,
        "checkpoint": str(run.path),
        "checkpoint_digest": run.digest,
        "iteration": run.iteration,
        "recipe": run.recipe.name,
    }
    write_json(document, nonfinite_to_none(header | summary))
    console.result("\n".join(map(str, [*paths, arrays, document])))


def _paths(asked: TraverseOptions, run: "LoadedRun") -> "tuple[Arrays, Records]":
    """Return the arrays of lines and sweeps, and the JSON record of each."""
    from dpvae_cli.plotting import animation
    from dpvae_cli.sampling.traversal import line, record, sweeps

    if asked.gif:
        animation.check_animatable(run.model.example_shape)
    ends = [encode_example(run, text, option="--between") for text in asked.between or ()]
    steps = asked.steps or (GIF_STEPS if asked.gif else STEPS)
    model, aggregate = run.model, run.encoded.aggregate_posterior()
    paths: list[LatentTraversal] = []
    if ends:
        paths += [
            line(model, aggregate, *ends, space=space, steps=steps) for space in asked.spaces("z0")
        ]
    if asked.dimensions:
        centre = (
            ends[0]
            if asked.start is None and ends
            else encode_example(run, asked.start or "0", option="--from")
        )
        for space in asked.spaces("z"):
            paths += sweeps(
                model,
                aggregate,
                centre,
                space=space,
                dimensions=asked.dimensions,
                reach=REACH if asked.reach is None else asked.reach,
                steps=steps,
            )
    start = asked.start or (asked.between[0] if asked.between else "0")
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
                "examples": list(asked.between or ()) if is_line else [start],
                "dimension": None if is_line else path.dimension,
                "standard_deviation": path.standard_deviation,
                "lowest_log_q": path.lowest_log_q,
                "ends_log_q": [float(path.log_q[0]), float(path.log_q[-1])],
            }
        )
    return record(model, aggregate, paths), summaries


def _grid(asked: TraverseOptions, run: "LoadedRun") -> "tuple[Arrays, Records]":
    """Return the arrays of the decoded plane, and the JSON record of each space."""
    from dpvae_cli.sampling.plane import check_two_dimensional, plane

    check_two_dimensional(run.model)
    aggregate = run.encoded.aggregate_posterior()
    spaces = asked.spaces("z0")
    record = plane(run.model, aggregate, spaces=spaces, side=asked.steps or SIDE)
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
    from dpvae_cli.foundation.errors import MissingError, UsageError
    from dpvae_cli.foundation.text import path_exists

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
    from dpvae_cli.foundation.errors import UsageError

    if not 0 <= index < count:
        raise UsageError(f"{option}: {index} is not among the {count} {what} (from 0)")
