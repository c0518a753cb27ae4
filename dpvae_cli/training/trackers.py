"""The logged numbers for experiment trackers, where the recipe asks for them.

All of them write into the run folder. Nothing goes over the network unless an environment variable
asks for it: WANDB_MODE=online, or MLFLOW_TRACKING_URI with the address of a server.
"""

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.errors import MissingError, UsageError
from dpvae_cli.foundation.files import write_json
from dpvae_cli.foundation.text import read_json

PROJECT = "dpvae"
"""The experiment of MLflow, the project of W&B."""
IDS = "trackers.json"
"""The file with the trackers' names of a run, so that a resumed run goes on in the same place."""


class Tracker(ABC):
    """Writes the numbers of one run; opened with what the recipe says, key by key."""

    module: str
    """What must be installed."""

    @abstractmethod
    def open(self, folder: Path, settings: Mapping[str, Any], known_id: str | None) -> str | None:
        """Open the run of that id, or a new one, and return its id where the tracker has one."""

    @abstractmethod
    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write numbers by name."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""


@final
class TensorBoard(Tracker):
    """Event files in the folder `tensorboard`."""

    module = "torch.utils.tensorboard"

    def open(self, folder: Path, settings: Mapping[str, Any], known_id: str | None) -> None:
        """Open a new event file; TensorBoard reads all of a folder."""
        self._writer = import_module(self.module).SummaryWriter(str(folder / "tensorboard"))

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


@final
class MLflow(Tracker):
    """A file store in the folder `mlflow`, or the server of MLFLOW_TRACKING_URI."""

    module = "mlflow"

    def open(self, folder: Path, settings: Mapping[str, Any], known_id: str | None) -> str:
        """Open the run, with the recipe as its parameters."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow = import_module(self.module)
        place = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlflow").resolve().as_uri()
        self._metric = mlflow.entities.Metric
        self._client = mlflow.MlflowClient(tracking_uri=place)
        if known_id is not None:
            self._id: str = known_id
            self._client.update_run(known_id, "RUNNING")
            return known_id
        experiment = self._client.get_experiment_by_name(PROJECT)
        experiment_id = (
            self._client.create_experiment(PROJECT)
            if experiment is None
            else experiment.experiment_id
        )
        self._id = self._client.create_run(experiment_id, run_name=folder.name).info.run_id
        params = [mlflow.entities.Param(key, str(value)) for key, value in settings.items()]
        self._client.log_batch(self._id, params=params)
        return self._id

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write metrics."""
        metrics = [self._metric(name, value, 0, iteration) for name, value in scalars.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._id)


@final
class WandB(Tracker):
    """Offline files in the folder `wandb` for `wandb sync`, or with WANDB_MODE=online a server."""

    module = "wandb"

    def open(self, folder: Path, settings: Mapping[str, Any], known_id: str | None) -> str:
        """Open the run, with the recipe as its configuration."""
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = import_module(self.module)
        name = known_id or secrets.token_hex(4)
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
        self._run = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=name,
            resume="allow",
            dir=str(folder),
            config=dict(settings),
            settings=quiet,
        )
        return name

    def write(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Write a row."""
        self._run.log(dict(scalars), step=iteration)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Turn any error of a tracker, each of which has its own, into one for the user."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot write for {name}: {reason}",
            hint="Free some space, or leave it out of training.trackers; the last checkpoint is "
            "untouched.",
        ) from error


def _leaves(place: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what is not a mapping with the keys that lead to it."""
    for key, value in values.items():
        name = f"{place}/{key}" if place else key
        if isinstance(value, Mapping):
            yield from _leaves(name, value)
        else:
            yield name, value


@final
class Trackers:
    """Writes every number of a record, as a scalar named after its place, to several trackers.

    Raises:
        MissingError: a tracker is not installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._open: dict[str, Tracker] = {}
        self._waiting: list[Mapping[str, Any]] = []
        self._made = {name: TRACKERS[name]() for name in names}
        for name, tracker in self._made.items():
            try:
                import_module(tracker.module)
            except ImportError:
                raise MissingError(
                    f"the recipe asks for {name}, which is not installed",
                    hint=f"Install it: pip install 'dpvae-cli[{name}]'.",
                ) from None

    def open(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        """Open all, and write what came before."""
        known = read_json(folder / IDS)
        ids: dict[str, str] = {}
        settings = dict(_leaves("", recipe))
        for name, tracker in self._made.items():
            known_id = known.get(name)
            with _errors_of(name):
                made = tracker.open(folder, settings, known_id if type(known_id) is str else None)
            self._open[name] = tracker
            ids |= {} if made is None else {name: made}
        if ids:
            write_json(folder / IDS, ids)
        for record in self._waiting:
            self.write(record)
        self._waiting.clear()

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record's numbers under its kind, now or once the trackers are open.

        Raises:
            UsageError: a tracker cannot write.
        """
        if len(self._open) < len(self._made):
            self._waiting.append(record)
            return
        scalars = {
            name: float(value)
            for name, value in _leaves(record["kind"], record)
            if isinstance(value, int | float) and not name.endswith("/iteration")
        }
        for name, tracker in self._open.items():
            with _errors_of(name):
                tracker.write(record["iteration"], scalars)

    def close(self) -> None:
        """Close all; what cannot be written is lost to the tracker alone."""
        for tracker in self._open.values():
            with suppress(Exception):
                tracker.close()
        self._open.clear()
