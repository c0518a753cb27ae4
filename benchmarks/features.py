"""Inception features of images in memory, compared with the bare network on prepared batches.

Ours passes 8-bit RGB to the network, checks the output and adds it to the running statistics. The
weights are random, which does not affect the time. pytorch-fid's own network, without folded
batch norms, is reported for comparison; its script would also read each image from disk.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from pytorch_fid.inception import InceptionV3
from torch import nn

from benchmarks import stand_ins
from benchmarks.measure import Options, Ratio, Trial, over, timed
from dpvae_cli.data import Split
from dpvae_cli.evaluation import features, inception
from dpvae_cli.evaluation.feature_statistics import BATCH, feature_statistics
from dpvae_cli.evaluation.features import FeatureOptions

OURS, BARE, THEIRS = "ours", "network alone", "pytorch-fid's network alone"
RATIOS = {
    "2048 dimensions": (
        Ratio(
            "Inception features: share of the network's throughput",
            over(BARE, OURS),
            at_least=0.95,
        ),
        Ratio("Inception features: pytorch-fid's network over ours", over(THEIRS, OURS)),
    )
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield a trial on the features of 64x64 images."""
    device, count = options.device, options.pick(4 * BATCH, 2)
    state = random_state()
    with TemporaryDirectory() as name:
        file = Path(name) / inception.FILE
        torch.save(state, file)
        extractor = features.build(FeatureOptions(weights=file), device)
    with inception._patched_loader(state):
        theirs = InceptionV3().eval().to(device)
    pictures = Split(stand_ins.images(count, 3, 64, 64))
    order = torch.arange(count)
    ready = [features.quantize(pictures.examples(i)).to(device) for i in order.split(BATCH)]

    @torch.no_grad()
    def alone(network: nn.Module) -> None:
        with features._exact_convolutions(device):  # no TF32, as in ours
            for images in ready:
                network(images)

    works = {
        OURS: lambda: feature_statistics(extractor, pictures.examples, order, lambda _: None),
        BARE: lambda: alone(extractor.network),
        THEIRS: lambda: alone(theirs),
    }
    variants = {k: timed(work, units=count, device=device) for k, work in works.items()}
    yield Trial("2048 dimensions", variants, "s an image", {"images": count, "batch": BATCH})


def random_state() -> dict[str, torch.Tensor]:
    """Return variance-preserving weights with the names and shapes of the published file."""
    from torchvision.models import inception_v3  # noqa: PLC0415 - slow

    torch.manual_seed(0)
    network = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network.state_dict()
