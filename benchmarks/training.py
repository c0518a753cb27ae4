"""Training steps: ours compared with the floor, with Pythae, and with the naive coupling.

Ours is `Trainer.step`, with shuffled batches from 8-bit storage, seeded noise, terms by name and
the check for NaN. Logging, validation and checkpoints are not included.
"""

import copy
from collections.abc import Iterator

import torch

from benchmarks import peers, stand_ins
from benchmarks.floor import BareLoop
from benchmarks.measure import Absent, Options, Ratio, Trial, Variant, over, repeated
from benchmarks.naive import NaiveCoupling
from dpvae_cli.data import Dataset
from dpvae_cli.foundation.devices import Precision
from dpvae_cli.model import VAE, build
from dpvae_cli.recipe import Recipe, load_recipe
from dpvae_cli.training.execution import cpu_threads
from dpvae_cli.training.train import Trainer

OURS, PLAIN, FLOOR, PYTHAE = "ours", "ours, standard normal", "floor", "Pythae, plain VAE"
FIRST = "floor, channels first"
BF16, NAIVE, NAIVE_STEPS = "ours, bf16", "naive form, bare loop", "naive form, our trainer"

RATIOS = {
    "MNIST": (
        Ratio("MNIST step, decoupled, over the floor", over(OURS, FLOOR), at_most=1.05),
        Ratio("MNIST step, decoupled, over Pythae's plain VAE", over(OURS, PYTHAE), at_most=0.9),
        Ratio("MNIST step, decoupled over standard normal", over(OURS, PLAIN), at_most=1.08),
        Ratio("MNIST step, bf16 over float32", over(BF16, OURS), at_most=0.75),
    ),
    "two moons": (
        Ratio("two moons step, decoupled, over the naive form", over(OURS, NAIVE), at_most=0.6),
        Ratio("two moons step, decoupled, over the naive form in our trainer",
              over(OURS, NAIVE_STEPS)),
        Ratio("two moons step, standard normal, over Pythae's", over(PLAIN, PYTHAE), at_most=0.3),
        Ratio("two moons step, decoupled, over the floor", over(OURS, FLOOR)),
    ),
    "CelebA": (
        Ratio("CelebA step from the mapped cache, over the floor", over(OURS, FLOOR), at_most=1.08),
        Ratio("CelebA step, over a floor in torch's own memory layout", over(OURS, FIRST)),
    ),
}  # fmt: skip


def trials(options: Options) -> Iterator[Trial]:
    """Yield trials on MNIST, two moons and CelebA."""
    yield mnist(options)
    yield moons(options)
    with stand_ins.faces(options.pick(4_000, 80)) as faces:
        yield celeba(options, faces)


def mnist(options: Options) -> Trial:
    data, steps = stand_ins.mnist(options.pick(stand_ins.MNIST, 500)), options.pick(30, 2)
    recipe = load_recipe("vae_mnist")
    plain = load_recipe("vae_mnist", ["prior=standard_normal"])
    variants = {
        OURS: ours(recipe, data, steps, options),
        FLOOR: bare(recipe, data, steps, options),
        PLAIN: ours(plain, data, steps, options),
        PYTHAE: pythae(plain, data, steps, options),
        BF16: bf16("vae_mnist", data, steps, options),
    }
    return Trial("MNIST", variants, "s a step", facts(recipe, data, steps))


def moons(options: Options) -> Trial:
    recipe = load_recipe("vae_moons")
    plain = load_recipe("vae_moons", ["prior=standard_normal"])
    data, steps = recipe.data.load(), options.pick(300, 2)
    variants = {
        OURS: ours(recipe, data, steps, options),
        FLOOR: bare(recipe, data, steps, options),
        NAIVE: bare(recipe, data, steps, options, naive=True),
        NAIVE_STEPS: ours(recipe, data, steps, options, naive=True),
        PLAIN: ours(plain, data, steps, options),
        PYTHAE: pythae(plain, data, steps, options),
    }
    return Trial("two moons", variants, "s a step", facts(recipe, data, steps))


def celeba(options: Options, data: Dataset) -> Trial:
    recipe, steps = load_recipe("vae_celeba"), options.pick(8, 1)
    variants = {
        OURS: ours(recipe, data, steps, options),
        FLOOR: bare(recipe, data, steps, options),
        FIRST: bare(recipe, data, steps, options, layout=torch.contiguous_format),
    }
    return Trial("CelebA", variants, "s a step", facts(recipe, data, steps))


def facts(recipe: Recipe, data: Dataset, steps: int) -> dict[str, int]:
    size = recipe.training.batch_size
    return {"steps a turn": steps, "batch": size, "training examples": len(data.train)}


def model_of(recipe: Recipe, data: Dataset, options: Options, *, naive: bool = False) -> VAE:
    """Return a recipe's model with its initial weights, on the trainer's device."""
    model = build(recipe, example_shape=data.example_shape)
    model = Precision(recipe.training.precision, options.device).place(model)
    if naive:
        model.prior.bijection = NaiveCoupling(model.prior.bijection)
    return model


def ours(
    recipe: Recipe, data: Dataset, steps: int, options: Options, *, naive: bool = False
) -> Variant:
    """Return steps of our trainer, with the number of threads of a run."""
    model = model_of(recipe, data, options, naive=True) if naive else None
    trainer = Trainer(recipe, data, options.device, model)
    turn = repeated(trainer.step, steps, options.device)

    def with_its_threads() -> float:
        with cpu_threads(trainer.state.model, trainer.recipe.training.batch_size):
            return turn()

    return with_its_threads


def bare(
    recipe: Recipe,
    data: Dataset,
    steps: int,
    options: Options,
    *,
    naive: bool = False,
    layout: torch.memory_format = torch.preserve_format,
) -> Variant:
    """Return steps of the bare loop on the examples as one float32 tensor on the device."""
    loop = BareLoop(
        model_of(recipe, data, options, naive=naive).to(memory_format=layout),
        data.train.examples().to(options.device),
        batch_size=recipe.training.batch_size,
        learning_rate=recipe.training.learning_rate,
    )
    return repeated(loop.step, steps, options.device)


def pythae(recipe: Recipe, data: Dataset, steps: int, options: Options) -> Variant | Absent:
    """Return steps of Pythae around copies of a recipe's networks."""
    model = build(recipe, example_shape=data.example_shape)

    def make() -> Variant:
        return peers.pythae(
            copy.deepcopy(model.encoder.network),
            copy.deepcopy(model.decoder),
            data.train.examples(),
            latent_dim=model.latent_dim,
            batch_size=recipe.training.batch_size,
            steps=steps,
            device=options.device,
        )

    return peers.peer("Pythae", make)


def bf16(name: str, data: Dataset, steps: int, options: Options) -> Variant | Absent:
    """Return our steps in bfloat16, if the processor supports it."""
    if options.device.type == "cpu" and not multiplies_bf16():
        return Absent("this processor has neither avx512_bf16 nor amx_bf16")
    return ours(load_recipe(name, ["training.precision=bf16"]), data, steps, options)


def multiplies_bf16() -> bool:
    """Return whether the processor has instructions for bfloat16 products."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)
