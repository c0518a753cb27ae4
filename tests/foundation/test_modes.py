import pytest
from torch import nn

from dpvae_cli.foundation.devices import eval_mode


def test_every_part_gets_its_own_mode_back():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    net[1][0].eval()
    before = [part.training for part in net.modules()]
    assert before == [True, True, True, False, True]
    with eval_mode(net):
        assert not any(part.training for part in net.modules())
    assert [part.training for part in net.modules()] == before
    with pytest.raises(ZeroDivisionError), eval_mode(net):
        _ = 1 / 0
    assert [part.training for part in net.modules()] == before
