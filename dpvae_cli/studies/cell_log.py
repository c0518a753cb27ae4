"""The progress of a running cell, from the logs in its folder."""

from typing import final

from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.text import read_json
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.studies.messages import Cell, EventHandler, Outcome


@final
class CellLog:
    """Reports the progress of a running cell from what is in its folder.

    Its start is reported with the first change, since on a cluster it may have to wait. `losses`
    counts the workers that died of it, and it is not to be started before the time `due`.
    """

    def __init__(self, cell: Cell, on_event: EventHandler) -> None:
        self.cell, self._on_event = cell, on_event
        self.losses, self.due = 0, 0.0
        names = ("recipe.yaml", "metrics.jsonl", "metrics.json")
        self._files = [cell.folder / name for name in names]

    def start(self) -> None:
        """Look from now on for changes."""
        self._is_started, self._total = False, 0
        self._resumes = (self.cell.folder / "checkpoint.pt").is_file()
        self._seen = self._stamps()

    def report(self) -> None:
        """Report what has changed since the last call."""
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        self._report_start()
        _, log, results = self._files
        records = list(MetricsLog.read(log))
        if records:
            done, total = records[-1]["iteration"], self.cell.recipe.training.iterations
            paces = [each["steps_per_second"] for each in records if "steps_per_second" in each]
            text = f"training {paces[-1]:.0f} steps/s" if paces else "training"
            if done >= total:
                measured = {str(each["metric"]) for each in read_json(results).get("results", [])}
                done, total = len(measured & {*self.cell.metrics}), len(self.cell.metrics)
                text = "measuring"
            self._total = total or 1
            report_progress(self.cell.name, done, self._total, text)

    def report_end(self, outcome: Outcome) -> None:
        """Report how the cell ended."""
        if outcome.status != "busy":
            self._report_start()
        if self._total:
            report_progress(self.cell.name, self._total, self._total)
        self._on_event(outcome)

    def _report_start(self) -> None:
        if not self._is_started:
            self._is_started = True
            text = "from its checkpoint" * self._resumes
            self._on_event(Outcome(self.cell.name, "started", text))

    def _stamps(self) -> list[tuple[int, int] | None]:
        stats = [path.stat() if path.exists() else None for path in self._files]
        return [each and (each.st_mtime_ns, each.st_size) for each in stats]
