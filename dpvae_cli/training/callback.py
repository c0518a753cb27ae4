"""What happens during training, for whoever shows or records it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpvae_cli.data import Dataset


class Callback:
    """Called by `train` in the main process; does nothing. Override what is needed."""

    def on_data_loaded(self, dataset: "Dataset") -> None:
        """Handle that the data is loaded."""

    def on_train_start(self, run_dir: Path, *, iteration: int, iterations: int) -> None:
        """Handle that training starts, or continues, at `iteration` of `iterations`."""

    def on_step(self, iteration: int) -> None:
        """Handle that `iteration` optimizer steps are done."""

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Handle a record that was written to metrics.jsonl."""

    def on_checkpoint(self, path: Path, *, iteration: int) -> None:
        """Handle that a checkpoint was written."""
