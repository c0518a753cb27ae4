import pytest
from torch import nn

from dpvae_cli.foundation.modes import evaluating


def test_every_part_gets_its_own_mode_back():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    net[1][0].eval()
    before = [part.training for part in net.modules()]
    assert before == [True, True, True, False, True]
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    assert [part.training for part in net.modules()] == before
    with pytest.raises(ZeroDivisionError), evaluating(net):
        _ = 1 / 0
    assert [part.training for part in net.modules()] == before
