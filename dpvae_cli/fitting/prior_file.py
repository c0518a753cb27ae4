"""Prior files: a fitted prior without its model, for decoders of other libraries."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dpvae_cli.fitting.record import FitRecord
from dpvae_cli.foundation.devices import shape_mismatch
from dpvae_cli.foundation.errors import CheckpointError, UsageError
from dpvae_cli.foundation.serialization import (
    MALFORMED_ERRORS,
    FileFormat,
    expect_count,
    expect_type,
)
from dpvae_cli.priors import LearnedPrior, Prior
from dpvae_cli.priors.base import PriorSpec
from dpvae_cli.priors.class_conditional import build_saved_prior

FORMAT = FileFormat(
    format="dpvae-prior",
    version=3,
    noun="prior",
    make="Fit one first: dpvae fit-prior --codes codes.npz.",
    again="Fit it again, or name another prior file.",
)


def write_prior(path: Path, prior: Prior, record: FitRecord) -> None:
    """Write a prior with its record atomically.

    Raises:
        UsageError: the prior needs an encoder or has no spec, or the file cannot be written.
    """
    spec = prior.spec
    if spec is None or spec.needs_encoder:
        what = type(prior).__name__ if spec is None else f"{spec.kind} prior"
        raise UsageError(
            f"a {what} cannot be saved in a file of its own",
            hint="Fit another kind, such as decoupled, spline or mixture.",
        )
    meta = {
        "prior": spec.model_dump(mode="json", by_alias=True),
        "latent_dim": prior.latent_dim,
        "record": record.to_dict(),
    }
    FORMAT.write(path, meta, prior.state_dict())


def check_is_prior_file(path: Path) -> None:
    """Check that a file is a prior file: nothing else is ever replaced.

    Raises:
        UsageError: it is not a prior file.
    """
    try:
        FORMAT.read(path)
    except CheckpointError as error:
        raise UsageError(
            f"{path} is not a prior file; --overwrite replaces only those",
            hint="Move it away, or name another --out.",
        ) from error


def read_prior(path: Path) -> tuple[Prior, FitRecord]:
    """Return the prior of a file, in evaluation mode, and its record, without running any code.

    Raises:
        CheckpointError: missing, corrupt, of another format, or of a newer version.
    """
    meta, tensors, _ = FORMAT.read(path)
    try:
        spec: PriorSpec = TypeAdapter[Any](LearnedPrior).validate_python(meta["prior"])
        record = FitRecord.from_dict(expect_type(dict, meta["record"]))
        latent_dim = expect_count(meta["latent_dim"])
        if not 1 <= latent_dim <= sum(tensor.numel() for tensor in tensors.values()):
            raise ValueError(f"a prior in {latent_dim} dimensions has other weights")

        def make() -> Prior:
            return build_saved_prior(spec, tensors, latent_dim)

        if (mismatch := shape_mismatch(make, tensors)) is not None:
            raise CheckpointError(
                f"{path}: its weights are not those of its prior: {mismatch}", hint=FORMAT.again
            )
        prior = make()
    except (*MALFORMED_ERRORS, UsageError) as error:
        raise FORMAT.wrong_format(path) from error
    types = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(types) == 1:
        prior = prior.to(types.pop())
    try:
        prior.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights are not those of its prior: {error}", hint=FORMAT.again
        ) from error
    return prior.eval(), record
