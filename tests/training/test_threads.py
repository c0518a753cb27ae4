"""Small models compute with few threads, counted from their weights."""

import pytest
import torch

from dpvae_cli.model import build
from dpvae_cli.training import execution
from dpvae_cli.training.train import Trainer, train
from tests.small import small_recipe


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("batch_size", "available", "expected"), [(1, 8, 1), (10**9, 8, 8)])
def test_each_thread_has_enough_to_do(batch_size, available, expected):
    assert execution.thread_count(build(small_recipe()), batch_size, available) == expected


def test_a_run_computes_with_them_and_gives_the_others_back(tmp_path, four_threads, monkeypatch):
    seen = []
    plain_step = Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda self: (seen.append(torch.get_num_threads()), plain_step(self))[1]
    )
    train(small_recipe(), tmp_path / "run", device="cpu")
    assert set(seen) == {1}
    assert torch.get_num_threads() == 4
