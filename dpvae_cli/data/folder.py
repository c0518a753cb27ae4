"""The user's own pictures: every picture in a folder and the folders in it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, final

from pydantic import Field

from dpvae_cli.data.base import (
    SPLITS,
    Contents,
    Dataset,
    DataSpec,
    Fraction,
    Split,
    SplitName,
    held_out_shares,
)
from dpvae_cli.data.locations import data_root, not_found
from dpvae_cli.data.picture_cache import OnError, Source, left_out, load_parts
from dpvae_cli.data.pictures import (
    MAX_PIXELS,
    Colour,
    Preparation,
    find_pictures,
    single_picture,
)
from dpvae_cli.data.split_names import split_alike, split_called
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.strangers import expanded, is_there

Parts = dict[SplitName, list[str]]
HINT = (
    "Repair or remove them, or leave them out with data.on_error=skip. "
    "data.max_pixels=N allows larger pictures."
)
LOOKED_AT, DARK = 1_000, 32
"""So many training pictures with no brighter value are hardly photographs."""
WAY_OUT = "If they are not splits: data.splits=deal deals all pictures to the splits anew."


@final
class Folder(DataSpec):
    """Pictures of any sizes, cut to a centre square and resized.

    Folders in it that are called train, validation (val, valid, dev) and test, in any case, are
    the splits; of these, validation or test may be missing and is dealt from train. Else all the
    pictures are dealt out. The order is drawn from their names, the same everywhere.
    """

    kind: Literal["folder"] = "folder"
    path: str
    """The folder, as given or under the data root; the folders in it are searched too."""
    size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Side that the square is resized to, pixels."""
    crop: Annotated[int, Field(ge=1)] | None = None
    """Side of the centre square that is cut out, pixels; null: the largest that fits."""
    colour: Colour = "rgb"
    """`rgb` (3 channels) or `grey` (1)."""
    validation: Fraction = 0.1
    """Share held out for validation where the folder has no splits."""
    test: Fraction = 0.1
    """Share held out for testing where the folder has no splits."""
    splits: Literal["auto", "deal"] = "auto"
    """`auto` takes folders called like splits as such; `deal` takes all pictures as one heap."""
    max_pixels: Annotated[int, Field(ge=1, le=2**31 - 1)] = MAX_PIXELS
    """Pixels of a picture beyond which it is taken for a decompression bomb."""
    on_error: OnError = "refuse"
    """What files that cannot be read do: `refuse` names them and stops, `skip` leaves them out."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return (3, size, size), or (1, size, size) for grey."""
        return self._preparation().shape

    def contents(self, root: Path | None = None) -> Contents:
        """Count the files; none is opened."""
        parts, remarks = self._parts(_find(self.path, root))
        return Contents({name: len(part) for name, part in parts.items()}, remarks)

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the pictures, decoded once into the cache."""
        folder = _find(self.path, root)
        chosen, remarks = self._parts(folder)
        name = folder.name or "folder"
        source = Source(name, folder, chosen, self._preparation(), hint=HINT)
        parts, skipped = load_parts(source, on_error=self.on_error)
        splits = {name: Split(part.stored) for name, part in parts.items()}
        brightest = int(parts["train"].stored[:LOOKED_AT].max())
        if brightest < DARK:
            remarks += (f"no picture is brighter than {brightest} of 255: are these label maps?",)
        return Dataset(
            name,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            eight_bit=True,
            note=left_out(skipped),
            remarks=remarks,
        )

    def picture(self, path: Path) -> Split:
        """Return the picture cut and resized as those in the folder."""
        return single_picture(path, self._preparation())

    def _preparation(self) -> Preparation:
        return Preparation(self.crop, self.size, self.colour, self.max_pixels)

    def _parts(self, folder: Path) -> tuple[Parts, tuple[str, ...]]:
        """Return the names of each split's pictures, and what is to be said about it."""
        found = find_pictures(folder)
        remarks = [] if found.remark is None else [found.remark]
        shares = {"validation": self.validation, "test": self.test}
        if self.splits == "deal":
            return _dealt(found.names, shares), tuple(remarks)
        splits = _split_folders(folder)
        if not splits:
            _check_no_splits(folder, found.names)
            return _dealt(found.names, shares), tuple(remarks)
        parts = _own_splits(folder, splits, found.names)
        remarks.append(f"splits are the folders {', '.join(splits.values())}")
        missing = {split: share for split, share in shares.items() if split not in splits}
        if missing:
            parts |= _dealt(parts["train"], missing)
            remarks.append(f"{' and '.join(missing)} is dealt from {splits['train']}")
        return {split: parts[split] for split in SPLITS}, tuple(remarks)


def _find(path: str, root: Path | None) -> Path:
    tried = [expanded(path), data_root(root) / "folder" / path, data_root(root) / path]
    for candidate in tried:
        if is_there(candidate) and candidate.is_dir():
            return candidate.resolve()
    raise not_found(f"data.path {path} is not a folder", tried)


def _draw(name: str) -> tuple[bytes, str]:
    """Return a name's place in an order that has nothing to do with the alphabet."""
    return (hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), name)


def _dealt(names: Sequence[str], shares: Mapping[str, float]) -> Parts:
    """Return the names dealt to splits of these shares; the others are for training."""
    order = sorted(names, key=_draw)
    cut = held_out_shares(len(order), **shares)
    return {split: order[cut[split]] for split in SPLITS if split in cut}


def _split_folders(folder: Path) -> dict[SplitName, str]:
    """Return the folders that are called like splits, by split.

    Raises:
        UsageError: two are of the same split, or there is none to train on.
    """
    folders = sorted(path.name for path in folder.iterdir() if path.is_dir())
    splits: dict[SplitName, str] = {}
    for name in folders:
        if (split := split_called(name)) is None:
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
            hint=f"Name the folder of training pictures train. {WAY_OUT}",
        )
    return {split: splits[split] for split in SPLITS if split in splits}


def _own_splits(folder: Path, splits: Mapping[SplitName, str], names: Sequence[str]) -> Parts:
    parts = {
        split: [name for name in names if name.startswith(f"{own}/")]
        for split, own in splits.items()
    }
    if empty := [split for split, part in parts.items() if not part]:
        raise MissingError(
            f"{folder / splits[empty[0]]} holds no pictures",
            hint=f"Without that folder {empty[0]} pictures are dealt from the training ones.",
        )
    if outside := sorted(set(names) - {name for part in parts.values() for name in part}):
        raise UsageError(
            f"{folder} has the folders {', '.join(splits.values())}, which are called like splits, "
            f"but {len(outside):,} pictures lie outside of them, {outside[0]} for one",
            hint=f"Move them. {WAY_OUT}",
        )
    return parts


def _check_no_splits(folder: Path, names: Sequence[str]) -> None:
    """Refuse folders that look like splits and are not taken: images/train, val2017.

    Raises:
        UsageError: there are folders of two splits or more.
    """
    alike: dict[int, dict[SplitName, PurePosixPath]] = {}  # by depth
    for parent in sorted({parent for name in names for parent in PurePosixPath(name).parents}):
        if (split := split_alike(parent.name)) is not None:
            alike.setdefault(len(parent.parts), {}).setdefault(split, parent)
    places = next((places for places in alike.values() if len(places) > 1), {})
    if not places:
        return
    above = {place.parent for place in places.values()}
    are_named = all(split_called(place.name) for place in places.values())
    hint = "Rename them train, validation and test."
    if len(above) == 1 and are_named:
        hint = f"Give data.path={folder / above.pop()}."
    raise UsageError(
        f"{folder}: the folders {', '.join(map(str, places.values()))} look like splits, and "
        "would not be taken as such",
        hint=f"{hint} {WAY_OUT}",
    )
