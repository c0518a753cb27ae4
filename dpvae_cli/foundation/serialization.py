"""Our own files of weights: tensors and one JSON text, written whole, read without executing.

A file is what `torch.save` makes of `{"json": str, "tensors": {name: tensor}}`. The text says which
format and which version of it the file is of.
"""

import json
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
"""What reading the text of a foreign file raises."""


@final
@dataclass(frozen=True)
class FileFormat:
    """A kind of file.

    Args:
        format: as the file says it.
        version: the newest one that is read.
        noun: as errors say it, such as "checkpoint".
        make: what to type to have one.
        again: what to type where it cannot be used.
    """

    format: str
    version: int
    noun: str
    make: str
    again: str

    def wrong_format(self, path: Path) -> CheckpointError:
        """Return the error that a file of torch's is none of ours."""
        return CheckpointError(
            f"{path} is a PyTorch file but no dpvae {self.noun}", hint=self.again
        )

    def write(
        self,
        path: Path,
        meta: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        previous: Path | None = None,
    ) -> None:
        """Write a file atomically; what was there is kept as `previous`, where that is named."""
        versions = {"dpvae": __version__, "torch": torch.__version__}
        head = {"format": self.format, "version": self.version, **versions}
        text = json.dumps({**head, **meta}, allow_nan=False)
        plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        content = {"json": text, "tensors": plain}
        write_atomically(path, lambda file: torch.save(content, file), previous=previous)

    def read(self, path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
        """Return the text, the dense tensors by name, on the CPU, and the file's digest.

        Raises:
            WrongFileTypeError: it is a dpvae file of another format.
            CheckpointError: missing, damaged, foreign, or of a newer version.
        """
        content, digest = self._content(path)
        try:
            meta = expect_type(dict, parse_json(content["json"]))
            self._refuse_others(path, meta)
            return meta, _tensors(content["tensors"]), digest
        except MALFORMED_ERRORS as error:
            raise self.wrong_format(path) from error

    def _content(self, path: Path) -> tuple[dict[str, Any], str]:
        try:
            content, digest = tensor_files.load(path)
        except (FileNotFoundError, NotADirectoryError):
            raise CheckpointError(f"there is no {self.noun} at {path}", hint=self.make) from None
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be read: {error.strerror or error}", hint=self.again
            ) from None
        except tensor_files.CorruptFileError as error:
            raise CheckpointError(f"{path} {error}", hint=self.again) from None
        except tensor_files.UnsafePickleError:
            raise CheckpointError(
                f"{path} is no dpvae {self.noun}: it holds something else than tensors and text",
                hint=self.again,
            ) from None
        if not isinstance(content, dict):
            raise self.wrong_format(path)
        return content, digest

    def _refuse_others(self, path: Path, meta: Mapping[str, Any]) -> None:
        found = expect_type(str, meta["format"])
        if found != self.format:
            message = f"{path} is no dpvae {self.noun}"
            if found.startswith("dpvae-"):
                name = sanitize_line(found).removeprefix("dpvae-")
                raise WrongFileTypeError(
                    f"{message} but a {name} file",
                    format=found,
                    hint=f"dpvae sample {shlex.quote(str(path))} draws from it.",
                )
            raise CheckpointError(message, hint=self.again)
        version = meta["version"]
        if version > self.version:
            raise CheckpointError(
                f"{path} was written by a newer dpvae ({self.noun} version {version}, "
                f"this one reads up to {self.version})",
                hint="Upgrade: pip install --upgrade dpvae-cli.",
            )


def expect_type(kind: type[T], value: Any) -> T:
    """Refuse a value of another type.

    Raises:
        TypeError: it is.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} is expected")
    return value


def expect_count(value: Any) -> int:
    """Return a count.

    Raises:
        TypeError: it is no integer.
        ValueError: it counts nothing.
    """
    if not 0 <= expect_type(int, value) < 2**63:
        raise ValueError(f"{value} counts nothing")
    return int(value)


def _tensors(value: Any) -> dict[str, Tensor]:
    """Check that there are named dense tensors on the CPU alone, each with all its numbers stored.

    A view that repeats a few stored numbers would take its full size once it is copied.
    """
    for name, tensor in expect_type(dict, value).items():
        expect_type(str, name)
        if expect_type(Tensor, tensor).layout != torch.strided or tensor.device.type != "cpu":
            raise TypeError(f"{name} is not a dense tensor")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} has more elements than the file stores")
    return dict(value)
