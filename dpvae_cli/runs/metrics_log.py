"""metrics.jsonl: a line of JSON for every logged step and every validation."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, final

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.foundation.text import nonfinite_to_none, parse_json, read_lines

MIN_VALIDATIONS, CHANGES = 4, 3
"""Validations from the best one on, and typical changes, that an ELBO must fall by."""


@final
class MetricsLog:
    """Append records; on a resume the lines after the checkpoint are dropped first.

    `keep_until` keeps existing lines up to this iteration; 0 starts anew.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        records = MetricsLog.read(path) if keep_until else iter(())
        lines = (_line(record) for record in records if record["iteration"] <= keep_until)
        write_atomically(path, lambda file: file.writelines(lines))
        self._path = path
        try:
            self._file = FileIO(path, "a")  # unbuffered: a failed write is not repeated at the end
        except OSError as error:
            raise self._write_error(error) from None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, whole or not at all; numbers that are not finite become null.

        Raises:
            UsageError: the file cannot be written.
        """
        left = _line(record)
        size = os.fstat(self._file.fileno()).st_size
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(size)
            raise self._write_error(error) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @staticmethod
    def read(path: Path, *, strict: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the records of a log; a last line that a crash cut short is left out.

        `strict` raises at a missing file and at malformed lines before the last, else left out.

        Raises:
            UsageError: `strict` says so.
        """
        malformed: UsageError | None = None
        try:
            for number, line in enumerate(read_lines(path), start=1):
                if malformed is not None and strict:
                    raise malformed
                record: Any = None
                with suppress(ValueError):
                    record = parse_json(line)
                iteration = record.get("iteration") if isinstance(record, dict) else None
                if isinstance(iteration, int) and abs(iteration) < 2**63:
                    yield record
                else:
                    text = f"{path}:{number}: not a training record: {line[:60]!r}"
                    malformed = UsageError(text)
        except OSError as error:
            if strict:
                raise UsageError(
                    f"cannot read {path}: {error.strerror or error}",
                    hint="Name a run folder that training has written to.",
                ) from None

    def _write_error(self, error: OSError) -> UsageError:
        return UsageError(
            f"cannot write {self._path}: {error.strerror or error}",
            hint="Free some space; the last checkpoint is untouched and --resume starts from it.",
        )


def overfitting_start(path: Path, *, until: int) -> int | None:
    """Return the iteration of the best validation ELBO if it has fallen ever since, else None.

    That is: at least three validations follow, and the last one is lower by more than three times
    the median change from one validation to the next.
    """
    elbos = [
        (record["iteration"], float(record["elbo"]))
        for record in MetricsLog.read(path)
        if record.get("kind") == "validation"
        and record["iteration"] <= until
        and isinstance(record.get("elbo"), int | float)
    ]
    if not elbos:
        return None
    best = max(range(len(elbos)), key=lambda index: elbos[index][1])
    later = [elbo for _, elbo in elbos[best:]]
    if len(later) < MIN_VALIDATIONS:
        return None
    change = median(abs(a - b) for a, b in pairwise(later))
    return elbos[best][0] if later[0] - later[-1] > CHANGES * change else None


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(nonfinite_to_none(record)) + "\n").encode()
