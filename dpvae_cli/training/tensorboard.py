"""The logged numbers for TensorBoard, where the recipe asks for them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.errors import MissingError, UsageError


@final
class TensorBoard:
    """Writes every number of a record as a scalar named after its place.

    Raises:
        MissingError: TensorBoard is not installed.
    """

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


def _scalars(place: str, record: Mapping[str, Any]) -> list[tuple[str, float]]:
    scalars: list[tuple[str, float]] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            scalars += _scalars(f"{place}/{key}", value)
        elif isinstance(value, (int, float)) and key != "iteration":
            scalars.append((f"{place}/{key}", float(value)))
    return scalars
