"""What a training run tells the outside; the console shows it, the library by itself is silent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

from dpvae_cli.data import Dataset


@runtime_checkable
class Listener(Protocol):
    """Hears of a run's progress."""

    def loaded(self, dataset: Dataset) -> None:
        """Hear which data a run trains on."""

    def started(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Hear that training begins, or goes on, at `iteration` of `iterations`."""

    def stepped(self, iteration: int) -> None:
        """Hear that `iteration` optimizer steps are done."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """Hear that a record was written to metrics.jsonl."""

    def saved(self, path: Path, *, iteration: int) -> None:
        """Hear that a checkpoint was written."""


@final
class Silent:
    """Hears everything and says nothing."""

    def loaded(self, dataset: Dataset) -> None:
        """Say nothing."""

    def started(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Say nothing."""

    def stepped(self, iteration: int) -> None:
        """Say nothing."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """Say nothing."""

    def saved(self, path: Path, *, iteration: int) -> None:
        """Say nothing."""
