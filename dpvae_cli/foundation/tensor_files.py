"""Files of `torch.save` from anywhere: tensors and text come out of them, and nothing executes."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch


class CodeError(Exception):
    """The file holds more than tensors, text and containers of them; it was not executed."""


class DamagedError(Exception):
    """The file is torn, foreign, or would unpack into far more than it is long."""


def load(path: Path) -> Any:
    """Return what is in a file, on the CPU.

    Raises:
        CodeError: it holds objects that only code can make.
        DamagedError: it cannot be read.
    """
    try:
        _refuse_packed(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on files that are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CodeError(str(error)) from error
    except DamagedError:
        raise
    except Exception as error:  # torch met with a damaged file raises all kinds of errors
        raise DamagedError(str(error) or type(error).__name__) from error


def _refuse_packed(path: Path) -> None:
    """Refuse compressed entries, which torch never writes: they may unpack into terabytes."""
    if not zipfile.is_zipfile(path):
        return  # torch's older format, which is not packed either
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise DamagedError("its entries are compressed, which torch.save does not do")
