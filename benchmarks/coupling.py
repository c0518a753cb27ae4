"""The coupling layers alone: L = 32, six blocks, 5,000 codes, forward and inverse.

zuko's NICE has one network per block, which sees the conditioning half only. `same widths` uses
the 64 units of each of our two networks, less than half of our arithmetic; `same parameters` is
wide enough to have our number of parameters and multiplications.
"""

from collections.abc import Callable, Iterator

import torch

from benchmarks import peers
from benchmarks.measure import Options, Ratio, Trial, Variant, over, repeated
from benchmarks.naive import NaiveCoupling
from dpvae_cli.priors import Decoupled

LATENT_DIM, BATCH = 32, 5_000
ZUKO_WIDTHS = {"zuko, same widths": 64, "zuko, same parameters": 106}
OURS, NAIVE = "ours", "naive form"


def ratios(name: str, *, targets: bool) -> tuple[Ratio, ...]:
    """Return the ratios of ours to each of the others; the target is to be no slower than zuko."""
    limits = {NAIVE: 0.7, **dict.fromkeys(ZUKO_WIDTHS, 1.0)}
    return tuple(
        Ratio(f"{name}, over {other}", over(OURS, other), at_most=limit if targets else None)
        for other, limit in limits.items()
    )


RATIOS = {
    "forward and inverse": ratios("coupling stack, forward and inverse", targets=True),
    "gradient": ratios("coupling stack, gradient of log p(z)", targets=False),
}


def trials(options: Options) -> Iterator[Trial]:
    """Yield trials of forward and inverse without gradients, and of the gradient of training."""
    torch.manual_seed(0)
    z = torch.randn(options.pick(BATCH, 50), LATENT_DIM, device=options.device)
    stacks = variants(options)
    times = options.pick(20, 1)
    sizes = {name: count(stack) for name, stack in stacks.items()}
    for name, work in (("forward and inverse", forth_and_back), ("gradient", gradient)):
        turns = {who: turn(stack, work, z, times, options) for who, stack in stacks.items()}
        yield Trial(name, turns, "s", {"batch": len(z), "parameters": sizes})


def variants(options: Options) -> dict:
    """Return the stacks by name."""
    spec = Decoupled()
    ours = spec.build(LATENT_DIM).bijection.to(options.device)

    def zuko(hidden: int):
        return peers.ZukoCoupling(
            peers.zuko_nice(LATENT_DIM, blocks=spec.blocks, hidden=hidden, device=options.device)
        )

    others = {name: peers.peer("zuko", lambda w=w: zuko(w)) for name, w in ZUKO_WIDTHS.items()}
    return {OURS: ours, NAIVE: NaiveCoupling(ours), **others}


def turn(stack, work: Callable, z: torch.Tensor, times: int, options: Options) -> Variant:
    """Return the variant, or why it is not available."""
    if not hasattr(stack, "inverse"):
        return stack
    return repeated(lambda: work(stack, z), times, options.device)


@torch.no_grad()
def forth_and_back(stack, z: torch.Tensor) -> None:
    z0, _ = stack.forward(z)
    stack.inverse(z0)


def gradient(stack, z: torch.Tensor) -> None:
    z = z.detach().requires_grad_()
    z0, log_abs_det = stack.forward(z)
    (log_abs_det - 0.5 * z0.square().sum(dim=1)).mean().backward()
    for parameter in stack.parameters():
        parameter.grad = None


def count(stack) -> int | None:
    """Return the number of parameters."""
    if not hasattr(stack, "parameters"):
        return None
    return sum(parameter.numel() for parameter in stack.parameters())
