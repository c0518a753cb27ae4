"""Files of tensors and one JSON text, written atomically and read without running any code.

The text names the format of the file and its version. Files were once what `torch.save` makes of
`{"json": str, "tensors": {name: tensor}}`; those are still read.
"""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from dpvae_cli.foundation import tensor_files
from dpvae_cli.foundation.errors import CheckpointError, WrongFileTypeError
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.foundation.sanitize import sanitize_line
from dpvae_cli.foundation.text_files import parse_json
from dpvae_cli.version import __version__

T = TypeVar("T")
MALFORMED_ERRORS = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading the text of a malformed file raises."""


@final
@dataclass(frozen=True)
class FileFormat:
    """A format of files, such as checkpoints.

    Args:
        format: its name in the file.
        version: the newest version that is read.
        noun: the name in errors, such as "checkpoint".
        make: hint where there is no file.
        again: hint where the file cannot be used.
    """

    format: str
    version: int
    noun: str
    make: str
    again: str

    def wrong_format(self, path: Path) -> CheckpointError:
        """Return the error that a file does not have this format."""
        return CheckpointError(f"{path} is not a dpvae {self.noun}", hint=self.again)

    def write(
        self,
        path: Path,
        meta: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        previous: Path | None = None,
    ) -> None:
        """Write a file atomically; keep the file that it replaces as `previous`, if given."""
        versions = {"dpvae": __version__, "torch": torch.__version__}
        head = {"format": self.format, "version": self.version, **versions}
        content = tensor_files.pack_tensors({**head, **meta}, tensors)
        write_atomically(path, lambda file: file.write(content), previous=previous)

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
        """Return the text, the dense tensors by name on the CPU, and the digest of the file.

        Raises:
            WrongFileTypeError: it is a dpvae file of another format.
            CheckpointError: missing, corrupt, of another format, or of a newer version.
        """
        try:
            meta, tensors, digest = _read(path)
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(f"there is no {self.noun} at {path}", hint=self.make) from None
        except OSError as error:
            reason = error.strerror or error
            raise CheckpointError(f"{path} cannot be read: {reason}", hint=self.again) from None
        except tensor_files.CorruptFileError as error:
            raise CheckpointError(f"{path} {error}", hint=self.again) from None
        except tensor_files.UnsafePickleError:
            raise CheckpointError(
                f"{path} is not a dpvae {self.noun}: it holds objects other than tensors and text",
                hint=self.again,
            ) from None
        except MALFORMED_ERRORS as error:
            raise self.wrong_format(path) from error
        try:
            format, version = expect_type(str, meta["format"]), meta["version"]
            if format.startswith("dpvae-") and format != self.format:
                name = sanitize_line(format).removeprefix("dpvae-")
                raise WrongFileTypeError(
                    f"{path} is not a dpvae {self.noun} but a {name} file",
                    format=format,
                    hint=f"dpvae sample {shlex.quote(str(path))} draws from it.",
                )
            if format != self.format:
                raise self.wrong_format(path)
            if version > self.version:
                raise CheckpointError(
                    f"{path} was written by a newer dpvae ({self.noun} version {version}, "
                    f"this one reads up to {self.version})",
                    hint="Upgrade: pip install --upgrade dpvae-cli.",
                )
        except MALFORMED_ERRORS as error:
            raise self.wrong_format(path) from error
        return meta, tensors, digest


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Return the JSON, the tensors and the digest of a file, opened once as it may be replaced."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if not tensor_files.is_torch_file(file):
            return *tensor_files.unpack_tensors(file.read()), digest
        content = expect_type(dict, tensor_files.load_torch_file(file))
    meta = expect_type(dict, parse_json(content["json"]))
    return meta, _dense_tensors(content["tensors"]), digest


def expect_type(kind: type[T], value: Any) -> T:
    """Return the value.

    Raises:
        TypeError: it has another type.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} is expected")
    return value


def expect_count(value: Any) -> int:
    """Return the value.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is negative or has more than 63 bits.
    """
    if not 0 <= expect_type(int, value) < 2**63:
        raise ValueError(f"{value} is not a count")
    return int(value)


def _dense_tensors(value: Any) -> dict[str, Tensor]:
    """Check that the values are dense CPU tensors whose numbers are all stored.

    A view that repeats a few stored numbers would take its full size once it is copied.
    """
    for name, tensor in expect_type(dict, value).items():
        expect_type(str, name)
        if expect_type(Tensor, tensor).layout != torch.strided or tensor.device.type != "cpu":
            raise TypeError(f"{name} is not a dense tensor")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} has more elements than the file stores")
    return dict(value)
