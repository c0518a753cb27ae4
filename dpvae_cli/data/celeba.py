"""CelebA's aligned faces, read from img_align_celeba (paper, section 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from dpvae_cli.data.base import DataSpec, hold_out_shares
from dpvae_cli.data.dataset import SPLITS, Dataset, DatasetSummary, Split, SplitName
from dpvae_cli.data.image_cache import FileNames, ImageSource, OnError, load_splits, skipped_note
from dpvae_cli.data.images import CropError, ImageTransform, find_images
from dpvae_cli.data.locations import VARIABLE, candidate_folders
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.text import read_text

IMAGES, PARTITION, ATTRIBUTES = (
    "img_align_celeba",
    "list_eval_partition.txt",
    "list_attr_celeba.txt",
)
OFFICIAL_COUNT, OFFICIAL_WIDTH = 202_599, 178


@final
class Celeba(DataSpec):
    """Faces, 178x218 RGB, centre-cropped and resized; 162,770 + 19,867 + 19,962 of them.

    The splits are the official ones of list_eval_partition.txt. Where that file is missing, or
    leaves a split empty, the first 80 % of the files are for training, the next 10 % for
    validation and the last 10 % for testing. Labels are the 40 attributes, 1 where one holds.
    """

    may_have_labels: ClassVar[bool] = True

    kind: Literal["celeba"] = "celeba"
    crop: Annotated[int, Field(ge=1)] = 148
    """Side of the centre crop in pixels; images of half the size take 74."""
    size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Side of the resized image in pixels."""
    on_error: OnError = "raise"
    """Unreadable files: `raise` lists them and stops, `skip` ignores them."""

    @property
    def image_transform(self) -> ImageTransform:
        """Return the centre square, resized, in colour."""
        return ImageTransform(self.crop, self.size, "rgb")

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Count the files; none is opened."""
        base = _find(root)
        found = find_images(base / IMAGES)
        parts, notes = _split(base, found.names)
        remarks = notes if found.remark is None else [*notes, found.remark]
        return DatasetSummary({name: len(part) for name, part in parts.items()}, tuple(remarks))

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the faces, decoded once into the cache; nothing is ever downloaded."""
        base = _find(root)
        found = find_images(base / IMAGES)
        chosen, notes = _split(base, found.names)
        source = ImageSource("celeba", base / IMAGES, chosen, self.image_transform)
        try:
            parts, skipped = load_splits(source, on_error=self.on_error)
        except CropError as error:
            side = min(error.crop * error.width // OFFICIAL_WIDTH, error.width, error.height)
            raise UsageError(
                str(error),
                hint="The official images are 178x218. For images of "
                f"{error.width}x{error.height} give data.crop={max(1, side)}.",
            ) from None
        if len(found.names) != OFFICIAL_COUNT:
            notes.insert(0, f"{len(found.names):,} of CelebA's {OFFICIAL_COUNT:,} images")
        if (remark := skipped_note(skipped)) is not None:
            notes.append(remark)
        attributes = _attributes(base)

        def split(name: SplitName) -> Split:
            part = parts[name]
            if attributes is None:
                return Split(part.stored)
            rows = [_entry(attributes, file, base / ATTRIBUTES).split() for file in part.names]
            return Split(part.stored, torch.from_numpy((np.array(rows) == "1").astype(np.uint8)))

        return Dataset(
            "celeba",
            *map(split, SPLITS),
            eight_bit=True,
            note=f"{'; '.join(notes)}: no published number compares" if notes else None,
            remarks=() if found.remark is None else (found.remark,),
        )


def _find(root: Path | None) -> Path:
    """Return the folder that holds the folder of images."""
    tried = candidate_folders("celeba", root)
    if found := next((base for base in tried if (base / IMAGES).is_dir()), None):
        return found
    raise MissingError(
        f"CelebA was not found; looked for {' and '.join(str(base / IMAGES) for base in tried)}",
        hint=f"dpvae never downloads it. Get {IMAGES}.zip and {PARTITION} (and {ATTRIBUTES} for "
        f"labels) from its authors, unpack the images to {tried[0] / IMAGES}/000001.jpg and so on, "
        f"put the lists into {tried[0]}, or name another folder with --data-root or {VARIABLE}.",
    )


def _split(base: Path, names: Sequence[str]) -> tuple[FileNames, list[str]]:
    """Return the names of each split, and notes on how it was found."""
    reason = f"there is no {PARTITION}"
    if (partition := _annotations(base, PARTITION)) is not None:
        path, lines = partition
        code: dict[str, str] = {}  # 0 is train, 1 validation, 2 test
        for number, line in enumerate(lines, 1):
            words = line.split()
            if len(words) != 2 or words[1] not in ("0", "1", "2"):
                raise MissingError(f"{path}:{number}: {line!r} is not a file name and 0, 1 or 2")
            code[words[0]] = words[1]
        parts: FileNames = {name: [] for name in SPLITS}
        for name in names:
            parts[SPLITS[int(_entry(code, name, path))]].append(name)
        if all(parts.values()):
            return parts, []
        empty = " and ".join(name for name, part in parts.items() if not part)
        reason = f"{PARTITION} leaves {empty} empty"
    cut = hold_out_shares(len(names), validation=0.1, test=0.1)
    ours: FileNames = {name: list(names[cut[name]]) for name in SPLITS}
    return ours, [f"{reason}, so the files are split 80/10/10 in their order"]


def _attributes(base: Path) -> dict[str, str] | None:
    """Return each image's line of attributes: the count, the 40 names, then a row an image."""
    annotations = _annotations(base, ATTRIBUTES)
    if annotations is None:
        return None
    path, lines = annotations
    width = len(lines[1].split()) if len(lines) > 1 else 0
    if not width or lines[0].strip() != str(len(lines) - 2):
        raise MissingError(
            f"{path} is damaged: {max(len(lines) - 2, 0):,} rows, its first line says "
            f"{lines[0].strip() if lines else 'nothing'}"
        )
    rows: dict[str, str] = {}
    for number, line in enumerate(lines[2:], 3):
        name, _, values = line.partition(" ")
        words = values.split()
        if len(words) != width or not set(words) <= {"1", "-1"}:
            raise MissingError(f"{path}:{number}: not a file name and {width} values 1 or -1")
        rows[name] = values
    return rows


def _entry(entries: Mapping[str, str], name: str, path: Path) -> str:
    file = PurePosixPath(name).name
    if file not in entries:
        raise MissingError(f"{path} says nothing about {file}")
    return entries[file]


def _annotations(base: Path, name: str) -> tuple[Path, list[str]] | None:
    """Return a list and its lines: beside the images, or where its authors put it."""
    for path in (base / name, base / "Eval" / name, base / "Anno" / name):
        if path.is_file():
            try:
                return path, read_text(path).splitlines()
            except (OSError, ValueError) as error:
                raise MissingError(f"{path} cannot be read: {error}") from None
    return None
