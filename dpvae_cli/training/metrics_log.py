"""metrics.jsonl: one line for every logged step and every validation."""

import json
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, final

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.files import write_text
from dpvae_cli.foundation.results import finite
from dpvae_cli.foundation.strangers import parse_json, read_text


@final
class MetricsLog:
    """Appends records; on a resume the lines after the checkpoint are dropped first.

    Args:
        path: the .jsonl file.
        keep_until: keep existing lines up to this iteration; 0 starts anew.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        kept = [line for line in _lines(path) if line["iteration"] <= keep_until]
        write_text(path, "".join(json.dumps(finite(line)) + "\n" for line in kept if keep_until))
        self._path = path
        try:
            self._file = FileIO(path, "a")  # unbuffered: what failed is not tried again at the end
        except OSError as error:
            raise self._complaint(error) from error

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, whole or not at all; numbers that are not finite become null.

        Raises:
            UsageError: the file cannot be written.
        """
        left = (json.dumps(finite(record)) + "\n").encode()
        size = os.fstat(self._file.fileno()).st_size
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(size)
            raise self._complaint(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _complaint(self, error: OSError) -> UsageError:
        return UsageError(
            f"cannot write {self._path}: {error.strerror or error}",
            hint="Free some space; the last checkpoint is untouched and --resume starts from it.",
        )


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of the file; a line cut short by a crash is left out."""
    if not path.is_file():
        return []
    records = []
    for line in read_text(path, errors="replace").splitlines():
        try:
            records.append(parse_json(line))
        except ValueError:
            continue
    return [record for record in records if _is_record(record)]


def _is_record(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("iteration"), int)
