"""The logged numbers for TensorBoard, where the recipe asks for them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

from dpvae_cli.foundation.errors import MissingError, UsageError


@runtime_checkable
class Board(Protocol):
    """Takes the records that go to metrics.jsonl."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take one record."""

    def close(self) -> None:
        """Close the files."""


@final
class NoBoard:
    """Takes everything and keeps nothing."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Close nothing."""


@final
class TensorBoard:
    """Writes every number of a record as a scalar named after its place."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (optional)
        except ImportError:
            raise MissingError(
                "training.tensorboard is true but TensorBoard is not installed",
                hint="Install it: pip install tensorboard.",
            ) from None
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record's numbers under its kind.

        Raises:
            UsageError: the file cannot be written.
        """
        try:
            for name, value in _scalars(record["kind"], record):
                self._writer.add_scalar(name, value, record["iteration"])
        except OSError as error:
            raise UsageError(
                f"cannot write for TensorBoard: {error.strerror or error}",
                hint="Free some space; the last checkpoint is untouched.",
            ) from None

    def close(self) -> None:
        """Flush and close the event file; what cannot be written is lost to TensorBoard alone."""
        with suppress(OSError):
            self._writer.close()


def open_board(folder: Path, *, wanted: bool) -> Board:
    """Return a writer into `folder`, or one that does nothing.

    Raises:
        MissingError: wanted, but TensorBoard is not installed.
    """
    return TensorBoard(folder) if wanted else NoBoard()


def _scalars(place: str, record: Mapping[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            found += _scalars(f"{place}/{key}", value)
        elif isinstance(value, (int, float)) and key != "iteration":
            found.append((f"{place}/{key}", float(value)))
    return found
