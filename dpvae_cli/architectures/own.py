"""Encoder and decoder of the caller's own, which no recipe can build."""

from typing import Literal, NoReturn, final

from dpvae_cli.architectures.base import LatentDim
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.foundation.spec import Spec


@final
class Own(Spec):
    """Encoder and decoder are the caller's Python modules: `dpvae.train(..., model=...)`.

    The recipe in a run folder says so wherever a model was given; the command line cannot build it.
    """

    kind: Literal["own"] = "own"
    latent_dim: LatentDim = 2
    """L, the number of latent dimensions; where it is left out, the model's."""

    def build(self, example_shape: tuple[int, ...]) -> NoReturn:
        """Refuse: the modules exist in the caller's program alone.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "architecture: own means an encoder and a decoder that exist in Python alone",
            hint="Train it there: dpvae.train(recipe, run_dir, model=dpvae.VAE(...)). "
            "Or name another architecture.",
        )
