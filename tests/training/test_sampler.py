import pytest
import torch

from dpvae_cli.data.dataset import EpochSampler

CPU = torch.device("cpu")


def batches(order: EpochSampler, count: int) -> torch.Tensor:
    return torch.cat([order.batch(i) for i in range(count)])


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (12, 4), (7, 7), (5, 4)])
def test_every_epoch_holds_every_example_once(count, batch_size):
    order = EpochSampler(count, batch_size, seed=1, name="order", device=CPU)
    drawn = batches(order, 4 * count)
    assert len(drawn) == 4 * count * batch_size
    for epoch in drawn[: len(drawn) // count * count].reshape(-1, count):
        assert sorted(epoch.tolist()) == list(range(count))


def test_a_batch_depends_on_its_position_alone():
    whole = EpochSampler(10, 3, seed=1, name="order", device=CPU)
    expected = [whole.batch(i).tolist() for i in range(20)]
    for start in (0, 3, 11, 19):
        fresh = EpochSampler(10, 3, seed=1, name="order", device=CPU)
        assert [fresh.batch(i).tolist() for i in range(start, 20)] == expected[start:]


def test_seeds_names_and_epochs_differ():
    def first(**change):
        options = {"seed": 1, "name": "order"} | change
        return EpochSampler(100, 100, device=CPU, **options)

    same = first().batch(0)
    assert torch.equal(same, first().batch(0))
    for other in (first(seed=2).batch(0), first(name="second").batch(0), first().batch(1)):
        assert not torch.equal(same, other)
