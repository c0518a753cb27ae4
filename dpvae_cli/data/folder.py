"""The user's own pictures: every picture in a folder and the folders in it."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, final

from pydantic import Field

from dpvae_cli.data.base import (
    SPLITS,
    Dataset,
    DataSpec,
    Fraction,
    Split,
    SplitName,
    held_out_shares,
)
from dpvae_cli.data.locations import VARIABLE, data_root
from dpvae_cli.data.picture_cache import OnError, Source, left_out, load_parts
from dpvae_cli.data.pictures import Colour, Preparation, picture_names, single_picture
from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.strangers import expanded, is_there


@final
class Folder(DataSpec):
    """Pictures of any sizes, cut to a centre square and resized.

    The folders train, validation and test in it, where there are all three, are the splits. Else
    the pictures are dealt out in an order drawn from their names, the same everywhere.
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
    on_error: OnError = "refuse"
    """What files that cannot be read do: `refuse` names them and stops, `skip` leaves them out."""

    def example_shape(self, root: Path | None = None) -> tuple[int, ...]:
        """Return (3, size, size), or (1, size, size) for grey."""
        return self._preparation().shape

    def load(self, root: Path | None = None, *, download: bool = True) -> Dataset:
        """Read the pictures, decoded once into the cache."""
        folder = _find(self.path, root)
        source = Source(
            folder.name or "folder",
            folder,
            self._split(folder, picture_names(folder)),
            self._preparation(),
        )
        parts, skipped = load_parts(source, on_error=self.on_error)
        splits = {name: Split(part.stored) for name, part in parts.items()}
        return Dataset(
            source.name,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            eight_bit=True,
            note=left_out(skipped),
        )

    def picture(self, path: Path) -> Split:
        """Return the picture cut and resized as those in the folder."""
        return single_picture(path, self._preparation())

    def _preparation(self) -> Preparation:
        return Preparation(self.crop, self.size, self.colour)

    def _split(self, folder: Path, names: Sequence[str]) -> dict[SplitName, list[str]]:
        if all((folder / split).is_dir() for split in SPLITS):
            return _own_splits(folder, names)
        dealt = sorted(names, key=_draw)
        cut = held_out_shares(len(names), validation=self.validation, test=self.test)
        return {split: dealt[cut[split]] for split in SPLITS}


def _find(path: str, root: Path | None) -> Path:
    tried = [expanded(path), data_root(root) / "folder" / path, data_root(root) / path]
    for candidate in tried:
        if is_there(candidate) and candidate.is_dir():
            return candidate.resolve()
    raise MissingError(
        f"data.path {path} is no folder; looked at " + ", ".join(map(str, tried)),
        hint=f"Give a full path, or name the folder above it with --data-root or {VARIABLE}.",
    )


def _draw(name: str) -> tuple[bytes, str]:
    """Return a name's place in an order that has nothing to do with the alphabet."""
    return (hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), name)


def _own_splits(folder: Path, names: Sequence[str]) -> dict[SplitName, list[str]]:
    parts = {split: [n for n in names if n.startswith(f"{split}/")] for split in SPLITS}
    if empty := [split for split, part in parts.items() if not part]:
        raise MissingError(f"{folder / empty[0]} holds no pictures")
    if outside := sorted(set(names) - {name for part in parts.values() for name in part}):
        raise UsageError(
            f"{folder} has folders train, validation and test, but {len(outside):,} pictures lie "
            f"outside of them, {outside[0]} for one",
            hint="Move them into one of the three, or the three into a folder of their own.",
        )
    return parts
