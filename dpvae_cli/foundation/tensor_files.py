"""Files of `torch.save` from anywhere: tensors and text come out of them, and nothing executes."""

import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dpvae_cli.foundation.memory import is_out_of_memory

ZIP = b"PK\x03\x04"
"""What a file of torch.save begins with."""


class UnsafePickleError(Exception):
    """The file holds more than tensors, text and containers of them; it was not executed."""


class CorruptFileError(Exception):
    """The file is torn, changed, foreign, or would unpack into far more than it is long."""


def load(path: Path) -> tuple[Any, str]:
    """Return what is in a file, on the CPU, and the file's SHA-256.

    Every part is compared with its checksum.
    The file is opened once: one that is replaced meanwhile gives the older content and its digest.

    Raises:
        UnsafePickleError: it holds objects that only code can make.
        CorruptFileError: it cannot be read; says what it is, as in "is empty".
        OSError: the system refuses to open it.
        RuntimeError: memory ran out.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        _check_parts(file)
        file.seek(0)
        return _load(file), digest


def _load(file: BinaryIO) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on files that are refused anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafePickleError(str(error)) from None
    except Exception as error:  # torch met with a damaged file raises all kinds of errors
        if is_out_of_memory(error):
            raise
        raise CorruptFileError("is damaged, or no checkpoint of PyTorch's") from error


def _check_parts(file: BinaryIO) -> None:
    """Compare every part of the file with its checksum, which `torch.load` does not look at."""
    head = file.read(len(ZIP))
    if not head:
        raise CorruptFileError("is empty")
    if head != ZIP:
        return  # torch's older format, which has no checksums, or nothing of torch's
    try:
        fault = _fault(file)
    except MemoryError:
        raise
    except Exception as error:  # a damaged table of contents raises all kinds of errors
        raise CorruptFileError("is damaged: cut short or changed") from error
    if fault is not None:
        raise CorruptFileError(f"is damaged: {fault}")


def _fault(file: BinaryIO) -> str | None:
    """Return what is wrong with the parts of a zip, if anything."""
    with zipfile.ZipFile(file) as archive:
        # torch never compresses; what others compress may unpack into terabytes
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            return "its entries are compressed"
        wrong = archive.testzip()
    return None if wrong is None else f"the checksum of {wrong} is wrong"
