"""Files of tensors and one JSON text, written atomically and read without running any code.

The text names the format of the file and its version. Files were once what `torch.save` makes of
`{"json": str, "tensors": {name: tensor}}`; those are still read.
"""

import hashlib
import json
import pickle
import shlex
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, final

import safetensors.torch as safe
import torch
from torch import Tensor

from dpvae_cli.foundation.errors import CheckpointError, MissingError, WrongFileTypeError
from dpvae_cli.foundation.files import write_atomically
from dpvae_cli.foundation.memory import is_out_of_memory
from dpvae_cli.foundation.text import parse_json, sanitize_line
from dpvae_cli.version import __version__

T = TypeVar("T")
MALFORMED_ERRORS = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading the text of a malformed file raises."""
ZIP = b"PK\x03\x04"
"""The first bytes of a file of torch.save."""
LENGTH = 8
"""Bytes of a safetensors file before its header, which are the header's length."""
JSON, DIGEST = "json", "sha256"
CODES_HINT = "Codes of any VAE go to dpvae fit-prior --codes, and to diagnose and eval --codes."


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
        content = pack_tensors({**head, **meta}, tensors)
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
        except CorruptFileError as error:
            raise CheckpointError(f"{path} {error}", hint=error.hint or self.again) from None
        except UnsafePickleError:
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
                    hint=f"dpvae sample {shlex.quote(str(path))} draws from it; metrics, ranks and "
                    "pictures need a checkpoint.",
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
        if not is_torch_file(file):
            return *unpack_tensors(file.read()), digest
        content = expect_type(dict, load_torch_file(file))
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


class UnsafePickleError(Exception):
    """The file holds objects other than tensors, text and containers; no code was run."""


class CorruptFileError(Exception):
    """The file is truncated, changed, foreign, or would unpack into far more than its size."""

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(problem)
        self.hint = hint


def pack_tensors(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Return the content of a file of tensors and a JSON object; nothing is lost but strides.

    Raises:
        ValueError: a number in the object is not finite.
    """
    plain = {  # copies, since weights may share memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps({**meta, DIGEST: _digest(meta, plain)}, allow_nan=False)
    return safe.save(plain, {JSON: text})


def unpack_tensors(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the object and the tensors, on the CPU, after comparing them with their digest.

    Raises:
        CorruptFileError: they differ from it, or the content is cut short or changed.
        KeyError, TypeError, ValueError: it is another kind of file.
    """
    if not content:
        raise CorruptFileError("is empty")
    if content[LENGTH : LENGTH + 1] != b"{":
        raise ValueError("not a safetensors file")
    try:
        tensors = safe.load(content)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise CorruptFileError("is damaged: cut short or changed") from error
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")
    meta = parse_json(parse_json(content[LENGTH:end].decode())["__metadata__"][JSON])
    if meta.pop(DIGEST) != _digest(meta, tensors):
        raise CorruptFileError("is damaged: its checksum is wrong")
    return meta, tensors


def _digest(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(json.dumps(meta).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_torch_file(file: BinaryIO) -> Any:
    """Return what `torch.save` wrote, on the CPU.

    Every part is compared with its checksum, which `torch.load` does not look at.

    Raises:
        UnsafePickleError: it holds objects that only code can make.
        CorruptFileError: it cannot be read; the text is a predicate, such as "is empty".
        RuntimeError: memory ran out.
    """
    _check_archive(file)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about files that are rejected anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafePickleError(str(error)) from None
    except Exception as error:  # torch raises all kinds of errors at a corrupt file
        if is_out_of_memory(error):
            raise
        raise CorruptFileError("is damaged, or not a PyTorch checkpoint") from error


def is_torch_file(file: BinaryIO) -> bool:
    """Tell whether `torch.save` wrote a file, opened at its beginning; it stays there."""
    head = file.read(len(ZIP))
    file.seek(0)
    return head == ZIP


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
            is_npz = all(name.endswith(".npy") for name in archive.namelist())
    except MemoryError:
        raise
    except Exception as error:  # a corrupt directory raises all kinds of errors
        raise CorruptFileError("is damaged: cut short or changed") from error
    if is_npz:
        raise CorruptFileError("is an .npz of arrays", hint=CODES_HINT)
    if problem:
        raise CorruptFileError(f"is damaged: {problem}")


def read_state_dict(file: Path, *, hint: str) -> dict[str, Tensor]:
    """Return a state dict that `torch.save` wrote, on the CPU; nothing in the file can execute.

    Raises:
        MissingError: it cannot be read, or holds something else.
    """
    try:
        with file.open("rb") as opened:
            state: Any = load_torch_file(opened)
    except UnsafePickleError:
        raise MissingError(f"{file} is not loaded: it holds more than tensors", hint=hint) from None
    except CorruptFileError as error:
        raise MissingError(f"{file} {error}", hint=hint) from None
    except OSError as error:
        reason = error.strerror or error
        raise MissingError(f"{file} cannot be read: {reason}", hint=hint) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise MissingError(f"{file} holds no state dict", hint=hint)
    return dict(state)
