"""Files of weights that others trained, read without running any code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dpvae_cli.foundation import serialization
from dpvae_cli.foundation.errors import MissingError


def read_state_dict(file: Path, *, hint: str) -> dict[str, Tensor]:
    """Return a state dict that `torch.save` wrote, on the CPU; nothing in the file can execute.

    Raises:
        MissingError: it cannot be read, or holds something else.
    """
    try:
        with file.open("rb") as opened:
            state: Any = serialization.load_torch_file(opened)
    except serialization.UnsafePickleError:
        raise MissingError(f"{file} is not loaded: it holds more than tensors", hint=hint) from None
    except serialization.CorruptFileError as error:
        raise MissingError(f"{file} {error}", hint=hint) from None
    except OSError as error:
        reason = error.strerror or error
        raise MissingError(f"{file} cannot be read: {reason}", hint=hint) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise MissingError(f"{file} holds no state dict", hint=hint)
    return dict(state)
