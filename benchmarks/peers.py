"""Other packages, called as their users call them; packages that are not installed are skipped."""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.measure import Absent, Variant, timed

INSTALL = "make bench installs it"


def peer(package: str, make: Callable[[], Variant]) -> Variant | Absent:
    """Return the variant, or the name of the missing package."""
    try:
        return make()
    except ModuleNotFoundError as error:
        return Absent(f"no module {error.name}, which {package} needs; {INSTALL}")


def pythae(
    encoder: nn.Module,
    decoder: nn.Module,
    examples: Tensor,
    *,
    latent_dim: int,
    batch_size: int,
    steps: int,
    device: torch.device,
) -> Variant:
    """Return steps of Pythae's plain VAE around two networks: its own trainer's `train_step`.

    Its data loader is as the trainer makes it but that an epoch ends after `steps` batches; the
    progress bar and the console are left out.
    """
    from pythae.data.datasets import BaseDataset, collate_dataset_output  # noqa: PLC0415
    from pythae.models import VAE, VAEConfig  # noqa: PLC0415
    from pythae.trainers import BaseTrainer, BaseTrainerConfig  # noqa: PLC0415
    from pythae.trainers.training_callbacks import (  # noqa: PLC0415
        CallbackHandler,
        TrainingCallback,
    )

    logging.disable(logging.INFO)
    config = VAEConfig(input_dim=tuple(examples.shape[1:]), latent_dim=latent_dim)
    model = VAE(config, *_pythae_networks(encoder, decoder))
    dataset = BaseDataset(examples, torch.zeros(len(examples)))
    settings = BaseTrainerConfig(
        output_dir="unused",
        per_device_train_batch_size=batch_size,
        no_cuda=device.type != "cuda",
    )
    trainer = BaseTrainer(model, dataset, training_config=settings)
    trainer.train_loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=RandomSampler(dataset, num_samples=steps * batch_size),
        collate_fn=collate_dataset_output,
    )
    trainer.callback_handler = CallbackHandler([TrainingCallback()], model)
    trainer.set_optimizer()
    return timed(partial(trainer.train_step, 1), units=steps, device=device)


def _pythae_networks(encoder: nn.Module, decoder: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Wrap two networks in Pythae's classes."""
    from pythae.models.base.base_utils import ModelOutput  # noqa: PLC0415
    from pythae.models.nn import BaseDecoder, BaseEncoder  # noqa: PLC0415

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_variance = self.network(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network(z))

    return Encoder(), Decoder()


def zuko_nice(latent_dim: int, *, blocks: int, hidden: int, device: torch.device) -> nn.Module:
    """Return zuko's NICE with affine couplings, which is RealNVP, and two hidden layers."""
    import zuko  # noqa: PLC0415

    return zuko.flows.NICE(
        latent_dim, transforms=blocks, hidden_features=(hidden, hidden), activation=nn.LeakyReLU
    ).to(device)


class ZukoCoupling:
    """A zuko flow with the interface of our coupling layers."""

    def __init__(self, flow: nn.Module) -> None:
        self._flow = flow

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self._flow.transform().call_and_ladj(z)

    def inverse(self, z0: Tensor) -> tuple[Tensor, Tensor]:
        return self._flow.transform().inv.call_and_ladj(z0)

    def parameters(self):
        return self._flow.parameters()
