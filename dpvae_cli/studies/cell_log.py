"""The progress of a running cell, from the logs in its folder."""

import json
from contextlib import suppress
from pathlib import Path
from typing import final

from dpvae_cli.studies.messages import Cell, Event, EventHandler

LOG_TAIL = 8_192
"""Bytes read from the end of a log for its last record."""


@final
class CellLog:
    """Reports the progress of a running cell from what is in its folder.

    Its start is reported with the first change, since on a cluster it may have to wait.
    """

    def __init__(self, cell: Cell, on_event: EventHandler) -> None:
        self.cell, self._on_event, self._is_started = cell, on_event, False
        folder = Path(cell.folder)
        self._log, self._results = folder / "metrics.jsonl", folder / "cell.json"
        self._files = (folder / "recipe.yaml", self._log, self._results)
        self._resumes = (folder / "checkpoint.pt").is_file()
        self._seen = self._stamps()

    def report_start(self) -> None:
        """Report once that the cell has started."""
        if not self._is_started:
            self._is_started = True
            self._on_event(Event(self.cell.name, "started", "from its checkpoint" * self._resumes))

    def report(self) -> None:
        """Report what has changed since the last call."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        self.report_start()
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            with self._log.open("rb") as file:
                file.seek(max(0, self._log.stat().st_size - LOG_TAIL))
                lines = file.read().splitlines()[-3:]
            records = [json.loads(line) for line in lines if line[:1] == b"{"]
            name, total = self.cell.name, self.cell.recipe["training"]["iterations"]
            if (iteration := records[-1]["iteration"]) < total:
                paces = [each["steps_per_second"] for each in records if each["kind"] == "train"]
                text = f"{paces[-1]:.0f} steps/s" if paces else ""
                self._on_event(Event(name, "training", text, iteration, total))
                return
            done = len(json.loads(self._results.read_text())["metrics"]) if stamps[2] else 0
            self._on_event(Event(name, "measuring", "", done, len(self.cell.metrics)))

    def _stamps(self) -> list[tuple[int, int] | None]:
        stamps: list[tuple[int, int] | None] = []
        for path in self._files:
            try:
                status = path.stat()
                stamps.append((status.st_mtime_ns, status.st_size))
            except OSError:
                stamps.append(None)
        return stamps
