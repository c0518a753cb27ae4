"""What `dpvae traverse` was asked for, and the doing of it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from dpvae_cli.cli import chosen, console, pairs
from dpvae_cli.cli.opening import arrays_beside, outputs

if TYPE_CHECKING:
    import numpy as np

    from dpvae_cli.foundation.shapes import Codes
    from dpvae_cli.runs.loaded_run import LoadedRun
    from dpvae_cli.sampling.paths import Space
    from dpvae_cli.sampling.traversal import LatentTraversal

    Arrays = dict[str, np.ndarray]

STEPS, GIF_STEPS, SIDE, REACH = 11, 41, 20, 5.0


@final
@dataclass(frozen=True)
class Asked:
    """The options; None and False are what was not asked for."""

    between: tuple[str, str] | None
    dimensions: int | None
    grid: bool
    pairs: int | None
    space: Literal["z0", "z", "both"] | None
    start: str | None
    reach: float | None
    steps: int | None
    gif: bool
    seed: int

    @property
    def walks(self) -> bool:
        """Tell whether there is anything to walk."""
        return self.between is not None or self.dimensions is not None

    @property
    def stem(self) -> str:
        """Return the name of the files: `line-sweep`, `line-both`, `grid-z`, `pairs`."""
        parts = {
            "line": self.between,
            "sweep": self.dimensions,
            "grid": self.grid,
            "pairs": self.pairs,
            self.space: self.space,
        }
        return "-".join(str(name) for name, asked in parts.items() if asked)

    def spaces(self, default: "Space") -> "list[Space]":
        """Return the spaces to walk in."""
        return ["z0", "z"] if self.space == "both" else [self.space or default]


def refuse_contradictions(asked: Asked) -> None:
    """Refuse options without what they are for.

    Raises:
        UsageError: at the first of them.
    """
    from dpvae_cli.foundation.errors import UsageError

    if asked.grid and asked.walks:
        raise UsageError(
            "--grid draws a picture of its own, without --between and --dimensions",
            hint="Call the command twice.",
        )
    drawn = "--between, --dimensions and --grid"
    needs = (
        ("--gif", asked.gif, asked.walks, "--between and --dimensions"),
        ("--space", asked.space is not None, asked.walks or asked.grid, drawn),
        ("--steps", asked.steps is not None, asked.walks or asked.grid, drawn),
        ("--range", asked.reach is not None, asked.dimensions is not None, "--dimensions"),
        ("--from", asked.start is not None, asked.dimensions is not None, "--dimensions"),
    )
    if asked.reach is not None and math.isnan(asked.reach):
        raise UsageError("--range is no number")
    for option, given, allowed, what in needs:
        if given and not allowed:
            raise UsageError(f"{option} is for {what}")


def carry_out(asked: Asked, found: "LoadedRun", out: Path | None) -> None:
    """Walk, decode and measure; write the files and print their paths."""
    from dpvae_cli.foundation.files import write_json, write_npz
    from dpvae_cli.foundation.results import nonfinite_to_none

    picture, arrays = _targets(asked, found, out)
    record: Arrays = {}
    said: dict[str, Any] = {}
    paths: list[Path] = []
    if asked.walks:
        record, said["walks"] = _walks(asked, found)
        paths += _draw_walks(asked, found, record, picture)
    if asked.grid:
        record, said["grid"] = _grid(asked, found)
        paths += _draw_grid(found, record, picture)
    if asked.pairs is not None:
        more, said["results"] = pairs.measured(found, asked.pairs, seed=asked.seed)
        record = record | more
    document = arrays.with_suffix(".json")
    write_npz(arrays, record)
    write_json(document, nonfinite_to_none(_header(found) | said))
    console.result("\n".join(map(str, [*paths, arrays, document])))


def _targets(asked: Asked, found: "LoadedRun", out: Path | None) -> tuple[Path, Path]:
    """Return the picture's path, which --pairs alone leaves empty, and that of the .npz."""
    from dpvae_cli.foundation.errors import UsageError

    alone = not (asked.walks or asked.grid)
    if alone and out is not None and out.suffix and not out.is_dir():
        if out.suffix != ".json":
            raise UsageError(
                f"--out {out}: --pairs draws no picture, it writes .json and .npz",
                hint="Name a folder or a .json.",
            )
        return out, arrays_beside(out)
    return outputs(out, default=found.folder.path / "traversals", stem=asked.stem)


def _header(found: "LoadedRun") -> dict[str, Any]:
    from dpvae_cli.foundation.results import SCHEMA

    return {
        "schema": SCHEMA,
        "run": found.label,
        "checkpoint": str(found.path),
        "checkpoint_digest": found.digest,
        "iteration": found.iteration,
        "recipe": found.recipe.name,
    }


def _walks(asked: Asked, found: "LoadedRun") -> "tuple[Arrays, list[dict[str, Any]]]":
    """Return the walks' arrays, and what is to be said of each."""
    from dpvae_cli.plotting import animation
    from dpvae_cli.sampling.traversal import line, record, sweeps

    if asked.gif:
        animation.refuse_other(found.model.example_shape)
    ends = [chosen.code(found, text, option="--between") for text in asked.between or ()]
    steps = asked.steps or (GIF_STEPS if asked.gif else STEPS)
    centre = _centre(asked, found, ends) if asked.dimensions else None
    model, aggregate = found.model, found.encoded.aggregate_posterior()
    walks: list[LatentTraversal] = []
    if ends:
        walks += [
            line(model, aggregate, *ends, space=space, steps=steps) for space in asked.spaces("z0")
        ]
    if asked.dimensions and centre is not None:
        for space in asked.spaces("z"):
            walks += sweeps(
                model,
                aggregate,
                centre,
                space=space,
                dimensions=asked.dimensions,
                reach=REACH if asked.reach is None else asked.reach,
                steps=steps,
            )
    for walk in walks:
        console.note(f"Lowest log q(z) on the {_name(walk)}: {walk.lowest_log_q:.4g} nats.")
    return record(model, aggregate, walks), [_said(asked, walk) for walk in walks]


def _centre(asked: Asked, found: "LoadedRun", ends: "list[Codes]") -> "Codes":
    """Return the code that sweeps start from."""
    if asked.start is None and ends:
        return ends[0]
    return chosen.code(found, asked.start or "0", option="--from")


def _name(walk: "LatentTraversal") -> str:
    if walk.dimension < 0:
        return f"line that is straight in {walk.space}"
    return f"sweep of {walk.space}[{walk.dimension}]"


def _said(asked: Asked, walk: "LatentTraversal") -> dict[str, Any]:
    """Return what the JSON says of a walk."""
    first = asked.between[0] if asked.between else "0"
    is_line = walk.dimension < 0
    return {
        "kind": "line" if is_line else "sweep",
        "space": walk.space,
        "examples": list(asked.between or ()) if is_line else [asked.start or first],
        "dimension": None if is_line else walk.dimension,
        "standard_deviation": walk.standard_deviation,
        "lowest_log_q": walk.lowest_log_q,
        "ends_log_q": [float(walk.log_q[0]), float(walk.log_q[-1])],
    }


def _draw_walks(asked: Asked, found: "LoadedRun", record: "Arrays", picture: Path) -> list[Path]:
    from dpvae_cli.plotting import animation, style, traversal
    from dpvae_cli.sampling.encodings import drawable

    record = record | {"walk_decoded": drawable(found.model, record["walk_decoded"])}
    paths = style.save(traversal.figure(record, found.label), picture)
    if asked.gif:
        paths.append(animation.save(picture.with_suffix(".gif"), record, found.label))
    return paths


def _grid(asked: Asked, found: "LoadedRun") -> "tuple[Arrays, list[dict[str, Any]]]":
    """Return the decoded plane's arrays, and what is to be said of each space."""
    from dpvae_cli.sampling.plane import check_two_dimensional, plane

    check_two_dimensional(found.model)
    aggregate = found.encoded.aggregate_posterior()
    spaces = asked.spaces("z0")
    record = plane(found.model, aggregate, spaces=spaces, side=asked.steps or SIDE)
    lowest = dict(zip(spaces, record["lowest_log_q"].tolist(), strict=True))
    for space, value in lowest.items():
        console.note(f"Lowest log q(z) on the grid in {space}: {value:.4g} nats.")
    return record, [{"space": space, "lowest_log_q": value} for space, value in lowest.items()]


def _draw_grid(found: "LoadedRun", record: "Arrays", picture: Path) -> list[Path]:
    from dpvae_cli.plotting import plane, style
    from dpvae_cli.sampling.encodings import drawable

    record = record | {"plane_decoded": drawable(found.model, record["plane_decoded"])}
    return style.save(plane.figure(record, found.label), picture)
