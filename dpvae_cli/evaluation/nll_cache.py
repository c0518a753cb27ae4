"""Examples whose likelihood is estimated, kept in a file so that an interrupted nll goes on."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch

from dpvae_cli.foundation.array_files import read_cache, write_cache
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.shapes import Examples
from dpvae_cli.version import __version__

WRITE_EVERY = 10.0
"""Seconds of work that a kill may cost."""


class ImportanceEstimate(NamedTuple):
    """One example: nats, standard error over importance samples, effective sample size."""

    nll: float
    standard_error: float
    effective_samples: float


@final
class NllCache:
    """Estimates by what they follow from; those of another checkpoint or version are dropped.

    `path` is the .npz beside the checkpoint with this digest, or None to keep nothing. Of processes
    that measure together one writes.
    """

    def __init__(
        self, path: Path | None = None, *, checkpoint: str = "", writes: bool = True
    ) -> None:
        self._path, self._writes = path, writes
        self._source = f"{checkpoint} dpvae {__version__} torch {torch.__version__}"
        self._written = 0.0
        self._estimates: dict[str, ImportanceEstimate] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Read the file, and write it at the end, also when the work in between stops."""
        self._estimates = {}
        kept = None if self._path is None else read_cache(self._path, checkpoint=self._source)
        if kept is not None:
            with suppress(ValueError, KeyError, TypeError):
                rows = zip(kept["keys"].tolist(), kept["estimates"].tolist(), strict=True)
                self._estimates = {key: ImportanceEstimate(*row) for key, row in rows}
        self._written = time.monotonic()
        before = len(self._estimates)
        try:
            yield
        finally:
            if len(self._estimates) > before:
                self._write()

    def get(self, key: str) -> ImportanceEstimate | None:
        """Return the estimate of that key, or None where it is not finished."""
        return self._estimates.get(key)

    def add(self, estimates: Mapping[str, ImportanceEstimate]) -> None:
        """Keep estimates; write the file now and then."""
        self._estimates.update(estimates)
        if time.monotonic() - self._written > WRITE_EVERY:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._path is None or not self._writes:
            return
        arrays = {
            "keys": np.array(list(self._estimates)),
            "estimates": np.array(list(self._estimates.values()), dtype=np.float64),
        }
        with suppress(UsageError):  # what cannot be kept is found anew, and no result lost
            write_cache(self._path, arrays, checkpoint=self._source)


def cache_key(x: Examples, *position: str | int) -> str:
    """Return what an estimate follows from beside the checkpoint: the example and its draws."""
    values = x.cpu().contiguous().numpy()
    digest = hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()
    return "/".join(map(str, (*position, digest)))
