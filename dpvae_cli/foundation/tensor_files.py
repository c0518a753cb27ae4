"""Read and write files of tensors that cannot be trusted, without running any code.

A file of ours is a safetensors file whose metadata has one entry, `json`: an object with the
SHA-256 of all tensors and of the rest of the object. Files of `torch.save` are only read.
"""

import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import safetensors.torch as safe
import torch
from torch import Tensor

from dpvae_cli.foundation.memory import is_out_of_memory
from dpvae_cli.foundation.text_files import parse_json

ZIP = b"PK\x03\x04"
"""The first bytes of a file of torch.save."""
LENGTH = 8
"""Bytes of a safetensors file before its header, which are the header's length."""
JSON, DIGEST = "json", "sha256"


class UnsafePickleError(Exception):
    """The file holds objects other than tensors, text and containers; no code was run."""


class CorruptFileError(Exception):
    """The file is truncated, changed, foreign, or would unpack into far more than its size."""


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
    except MemoryError:
        raise
    except Exception as error:  # a corrupt directory raises all kinds of errors
        raise CorruptFileError("is damaged: cut short or changed") from error
    if problem:
        raise CorruptFileError(f"is damaged: {problem}")
