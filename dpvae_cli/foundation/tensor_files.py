"""Load files of `torch.save` that cannot be trusted, without running any code."""

import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dpvae_cli.foundation.memory import is_out_of_memory

ZIP = b"PK\x03\x04"
"""The first bytes of a file of torch.save."""


class UnsafePickleError(Exception):
    """The file holds objects other than tensors, text and containers; no code was run."""


class CorruptFileError(Exception):
    """The file is truncated, changed, foreign, or would unpack into far more than its size."""


def load_tensors(path: Path) -> tuple[Any, str]:
    """Return the content of a file, on the CPU, and the SHA-256 of the file.

    Every part is compared with its checksum, which `torch.load` does not look at. The file is
    opened once: if it is replaced meanwhile, content and digest are both of the old file.

    Raises:
        UnsafePickleError: it holds objects that only code can make.
        CorruptFileError: it cannot be read; the text is a predicate, such as "is empty".
        OSError: the system refuses to open it.
        RuntimeError: memory ran out.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        _check_archive(file)
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about files that are rejected anyway
                return torch.load(file, map_location="cpu", weights_only=True), digest
        except pickle.UnpicklingError as error:
            raise UnsafePickleError(str(error)) from None
        except Exception as error:  # torch raises all kinds of errors at a corrupt file
            if is_out_of_memory(error):
                raise
            raise CorruptFileError("is damaged, or not a PyTorch checkpoint") from error


def _check_archive(file: BinaryIO) -> None:
    head = file.read(len(ZIP))
    if not head:
        raise CorruptFileError("is empty")
    if head != ZIP:
        return  # torch's older format, which has no checksums, or another kind of file
    problem = "its entries are compressed"
    try:
        with zipfile.ZipFile(file) as archive:
            # torch never compresses; what others compress may unpack into terabytes
            if all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist()):
                wrong = archive.testzip()
                problem = f"the checksum of {wrong} is wrong" if wrong else ""
    except MemoryError:
        raise
    except Exception as error:  # a corrupt directory raises all kinds of errors
        raise CorruptFileError("is damaged: cut short or changed") from error
    if problem:
        raise CorruptFileError(f"is damaged: {problem}")
