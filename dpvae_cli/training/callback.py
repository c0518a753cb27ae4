"""What happens during training, for whoever shows or records it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpvae_cli.runs.run_folder import RunFolder


class Callback:
    """Called by `train` in the main process; override what is needed."""

    def on_train_start(self, run: RunFolder, *, iteration: int, iterations: int) -> None:
        """Training starts, or continues, at `iteration` of `iterations`."""

    def on_step(self, iteration: int) -> None:
        """`iteration` optimizer steps are done."""

    def on_log(self, record: Mapping[str, Any]) -> None:
        """A record was written to metrics.jsonl."""

    def on_checkpoint(self, path: Path, *, iteration: int) -> None:
        """A checkpoint was written."""
