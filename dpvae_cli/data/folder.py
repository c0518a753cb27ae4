"""The user's own images: every image in a folder and the folders in it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, final

from pydantic import Field

from dpvae_cli.data.base import DataSpec, Fraction, hold_out_shares
from dpvae_cli.data.dataset import SPLITS, Dataset, DatasetSummary, Split, SplitName
from dpvae_cli.data.image_cache import FileNames, ImageSource, OnError, load_splits, skipped_note
from dpvae_cli.data.images import MAX_PIXELS, Colour, ImageTransform, find_images
from dpvae_cli.data.locations import find_path
from dpvae_cli.data.split_names import split_for_name, split_in_name
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.spec import former_name

HINT = (
    "Repair or remove them, or leave them out with data.on_error=skip. "
    "data.max_pixels=N allows larger images."
)
BRIGHTNESS_SAMPLES, DARK_LEVEL = 1_000, 32
"""Training images that are looked at; photographs have a value above the level."""
WAY_OUT = "If they are not splits: data.splits=random splits all images anew."


@final
class Folder(DataSpec):
    """Images of any size, cropped to a centre square and resized.

    Folders in it that are called train, validation (val, valid, dev) and test, in any case, are
    the splits; validation or test may be missing and is then split off from train. Without such
    folders all images are split, in an order hashed from their names: the same everywhere.
    """

    kind: Literal["folder"] = "folder"
    path: str
    """The folder, as given or under the data root; the folders in it are searched too."""
    size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Side of the resized image in pixels."""
    crop: Annotated[int, Field(ge=1)] | None = None
    """Side of the centre crop in pixels; null: the largest that fits."""
    colour: Colour = "rgb"
    """`rgb` (3 channels) or `grey` (1)."""
    validation: Fraction = 0.1
    """Fraction held out for validation where the folder has no splits."""
    test: Fraction = 0.1
    """Fraction held out for testing where the folder has no splits."""
    splits: Annotated[Literal["auto", "random"], former_name("deal", "random")] = "auto"
    """`auto`: folders named like splits are the splits; `random`: images are split at random."""
    max_pixels: Annotated[int, Field(ge=1, le=2**31 - 1)] = MAX_PIXELS
    """Number of pixels above which an image is rejected as a decompression bomb."""
    on_error: OnError = "raise"
    """Unreadable files: `raise` lists them and stops, `skip` ignores them."""

    @property
    def image_transform(self) -> ImageTransform:
        """Return the centre square, resized, in the section's colour."""
        return ImageTransform(self.crop, self.size, self.colour, self.max_pixels)

    def summary(self, root: Path | None = None) -> DatasetSummary:
        """Count the files; none is opened."""
        parts, remarks = self._parts(self._find(root))
        return DatasetSummary({name: len(part) for name, part in parts.items()}, remarks)

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the images, decoded once into the cache."""
        folder = self._find(root)
        names, remarks = self._parts(folder)
        label = folder.name or "folder"
        source = ImageSource(label, folder, names, self.image_transform, hint=HINT)
        parts, skipped = load_splits(source, on_error=self.on_error)
        brightest = int(parts["train"].stored[:BRIGHTNESS_SAMPLES].max())
        if brightest < DARK_LEVEL:
            remarks += (f"no image is brighter than {brightest} of 255: are these label maps?",)
        return Dataset(
            label,
            *(Split(parts[name].stored) for name in SPLITS),
            eight_bit=True,
            note=skipped_note(skipped),
            remarks=remarks,
        )

    def _find(self, root: Path | None) -> Path:
        problem = f"data.path {self.path} is not a folder"
        return find_path(self.path, "folder", root, problem, Path.is_dir).resolve()

    def _parts(self, folder: Path) -> tuple[FileNames, tuple[str, ...]]:
        """Return the names of each split's images, and what is to be said about it."""
        found = find_images(folder)
        remarks = [] if found.remark is None else [found.remark]
        shares = {"validation": self.validation, "test": self.test}
        splits = {} if self.splits == "random" else _split_folders(folder)
        if not splits:
            if self.splits == "auto":
                _check_no_splits(folder, found.names)
            return _split_names(found.names, shares), tuple(remarks)
        parts = {
            split: [name for name in found.names if name.startswith(f"{own}/")]
            for split, own in splits.items()
        }
        if empty := [split for split, part in parts.items() if not part]:
            raise MissingError(
                f"{folder / splits[empty[0]]} holds no images",
                hint=f"Without that folder {empty[0]} images are split off from the training ones.",
            )
        if outside := sorted(set(found.names) - {n for part in parts.values() for n in part}):
            raise UsageError(
                f"{folder} has the folders {', '.join(splits.values())}, which are called like "
                f"splits, but {len(outside):,} images lie outside of them, {outside[0]} for one",
                hint=f"Move them. {WAY_OUT}",
            )
        remarks.append(f"splits are the folders {', '.join(splits.values())}")
        missing = {split: share for split, share in shares.items() if split not in splits}
        if missing:
            parts |= _split_names(parts["train"], missing)
            remarks.append(f"{' and '.join(missing)} is split off from {splits['train']}")
        return {split: parts[split] for split in SPLITS}, tuple(remarks)


def _split_names(names: Sequence[str], shares: Mapping[str, float]) -> FileNames:
    """Return the names of splits of these shares; the others are for training."""

    def digest(name: str) -> tuple[bytes, str]:  # has nothing to do with the alphabet
        return (hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), name)

    order = sorted(names, key=digest)
    cut = hold_out_shares(len(order), **shares)
    return {split: order[cut[split]] for split in SPLITS if split in cut}


def _split_folders(folder: Path) -> dict[SplitName, str]:
    """Return the folders that are called like splits, by split."""
    splits: dict[SplitName, str] = {}
    for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        if (split := split_for_name(name)) is None:
            continue
        if split in splits:
            raise UsageError(
                f"{folder} has two folders for the {split} split, {splits[split]} and {name}",
                hint=f"Join them, or rename one. {WAY_OUT}",
            )
        splits[split] = name
    if splits and "train" not in splits:
        raise UsageError(
            f"{folder} has a folder {next(iter(splits.values()))}, and none called train",
            hint=f"Name the folder of training images train. {WAY_OUT}",
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def _check_no_splits(folder: Path, names: Sequence[str]) -> None:
    """Refuse folders that look like splits and are not taken: images/train, val2017."""
    alike: dict[int, dict[SplitName, PurePosixPath]] = {}  # by depth
    for parent in sorted({parent for name in names for parent in PurePosixPath(name).parents}):
        if (split := split_in_name(parent.name)) is not None:
            alike.setdefault(len(parent.parts), {}).setdefault(split, parent)
    places = next((places.values() for places in alike.values() if len(places) > 1), None)
    if places is None:
        return
    above = {place.parent for place in places}
    hint = "Rename them train, validation and test."
    if len(above) == 1 and all(split_for_name(place.name) for place in places):
        hint = f"Give data.path={folder / above.pop()}."
    raise UsageError(
        f"{folder}: the folders {', '.join(map(str, places))} look like splits, and "
        "would not be taken as such",
        hint=f"{hint} {WAY_OUT}",
    )
