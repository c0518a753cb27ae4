"""Several processes share a run, and the numbers are those of one."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from dpvae_cli.foundation.distributed import SINGLE_PROCESS, ProcessGroup
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.runs.start import check_divisible
from dpvae_cli.training.execution import SyncBatchNorm, convert_sync_batch_norm
from tests.launching import torchrun
from tests.training import sharing

REPORT = "DPVAE_REPORT" in os.environ
"""Print the errors that docs/trust.md quotes."""


@pytest.fixture(scope="module")
def alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield sharing.everything()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def shared(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("shared") / "arrays.npz"
    done = torchrun(request.param, "tests.training.sharing", out)
    assert done.returncode == 0, done.stderr
    with np.load(out, allow_pickle=False) as arrays:
        return dict(arrays)


def test_losses_and_weights_are_those_of_one_process(alone, shared, capsys):
    assert shared.keys() == alone.keys()
    worst = {}
    for key, expected in alone.items():
        case, precision, what = key.split("|")
        if not np.issubdtype(expected.dtype, np.floating):
            assert np.array_equal(shared[key], expected), key
            continue
        error = distance(shared[key], expected)
        if precision == "float64":
            assert error < 1e-10, key
        elif what == "loss/total":
            assert error < 1e-5, key
        elif what.startswith("loss"):  # a small difference of large numbers: in nats, not relative
            scale = max(np.linalg.norm(expected), np.sqrt(len(expected)))
            bound = 1e-3 if case == "batch norm" else 1e-5  # rounding turns units of a deep net on
            assert np.linalg.norm(shared[key] - expected) < bound * scale, key
        kind = f"{case}, {precision}, {what.split('/')[0]}"
        worst[kind] = max(worst.get(kind, 0.0), error)
    with capsys.disabled():
        if REPORT:
            print("", *(f"{kind}: {error:.1e}" for kind, error in worst.items()), sep="\n")  # noqa: T201


def distance(found, expected):
    """Return |found - expected| / |expected|."""
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-12)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_global_batch_norm_is_batch_norm(dimensions):
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}[dimensions]
    torch.manual_seed(0)
    plain = kind(3).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    other = kind(3).double()
    other.load_state_dict(plain.state_dict())
    ours = SyncBatchNorm(other, SINGLE_PROCESS)
    for scale in (1.0, 3.0):
        x = torch.randn(5, 3, *(4,) * (2 * dimensions - 2), dtype=torch.float64) * scale + 2
        x.requires_grad_()
        weight = torch.randn_like(x)
        expected = torch.autograd.grad((plain(x) * weight).sum(), [x, *plain.parameters()])
        found = torch.autograd.grad((ours(x) * weight).sum(), [x, *ours.parameters()])
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()))
    plain.eval(), ours.eval()
    torch.testing.assert_close(ours(x), plain(x))


def test_batch_norms_are_replaced_under_their_names():
    module = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3)))
    before = dict(module.state_dict())
    assert convert_sync_batch_norm(module, SINGLE_PROCESS)[1][0].__class__ is nn.BatchNorm1d
    replaced = convert_sync_batch_norm(module, ProcessGroup(0, 2))
    assert isinstance(replaced[1][0], SyncBatchNorm)
    assert list(replaced.state_dict()) == list(before)


def test_shares_are_disjoint_and_cover_everything():
    for count in (0, 1, 5, 16, 17):
        for size in (1, 2, 3, 4, 7):
            shares = [
                range(count)[ProcessGroup(rank, size).local_slice(count)] for rank in range(size)
            ]
            assert [i for share in shares for i in share] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_uneven_batch_is_refused_with_what_would_do():
    with pytest.raises(UsageError, match="batch_size 100 cannot be divided among 3") as caught:
        check_divisible(100, 3)
    assert "training.batch_size=99 or 102" in caught.value.hint
    check_divisible(100, 4)


def test_with_one_process_gathering_is_the_identity():
    assert SINGLE_PROCESS.all_gather_object("grüße") == ["grüße"]
    assert SINGLE_PROCESS.all_true(True)
    assert not SINGLE_PROCESS.all_true(False)
