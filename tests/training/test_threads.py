"""Small models compute with few threads, and a count of their work says how many."""

import pytest
import torch
from torch import nn

from dpvae_cli.model import VAE
from dpvae_cli.training import threads
from dpvae_cli.training.train import train
from dpvae_cli.training.trainer import Trainer
from tests.small import own_vae, small_recipe


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def plain(width: int) -> VAE:
    encoder = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 4), nn.Unflatten(1, (2, 2)))

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = encoder

        def forward(self, x):
            return self.body(x).unbind(1)

    return VAE(
        encoder=Pair(),
        decoder=nn.Linear(2, 2),
        likelihood="gaussian",
        prior="standard_normal",
        latent_dim=2,
        example_shape=(2,),
    )


def test_work_is_that_of_the_matrix_products():
    width, batch = 10, 7
    products = batch * (2 * width + width * 4 + 2 * 2)
    assert threads.work(plain(width), torch.zeros(batch, 2)) == 3 * 2 * products


def test_counting_leaves_the_model_alone():
    model = own_vae()  # with dropout and batch norm
    model.train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    draws = torch.get_rng_state()
    threads.work(model, torch.randn(8, 2, generator=torch.Generator()))
    assert torch.equal(draws, torch.get_rng_state())
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize(
    ("flops", "available", "expected"),
    [(0, 8, 1), (24e6, 8, 1), (100e6, 8, 4), (1e12, 8, 8), (1e12, 1, 1)],
)
def test_each_thread_has_enough_to_do(flops, available, expected):
    assert threads.worthwhile(int(flops), available) == expected


def test_a_run_computes_with_them_and_gives_the_others_back(tmp_path, four_threads, monkeypatch):
    seen = []
    plain_step = Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda self: (seen.append(torch.get_num_threads()), plain_step(self))[1]
    )
    train(small_recipe(), tmp_path / "run", device="cpu")
    assert set(seen) == {1}
    assert torch.get_num_threads() == 4
