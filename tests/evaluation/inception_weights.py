"""Random weights for the FID Inception network, in the form of the published file."""

import contextlib

import torch
from pytorch_fid import inception as theirs
from torch import nn

from dpvae_cli.evaluation.inception import FILE

PARTIAL = ("Mixed_7b.", "Mixed_7c.", "fc.")


def random_state(seed=0):
    """Return a full state dict: variance-preserving convolutions and batch norms of any kind."""
    torch.manual_seed(seed)
    network = fid_network()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    return network.state_dict()


def fid_network():
    """Return pytorch-fid's whole network with whatever weights torch draws."""
    kept = []

    class Keep(Exception):
        pass

    def instead(*_, **__):
        raise Keep

    original = theirs.load_state_dict_from_url, theirs._inception_v3
    try:
        theirs.load_state_dict_from_url = instead
        theirs._inception_v3 = lambda *a, **k: kept.append(original[1](*a, **k)) or kept[-1]
        with contextlib.suppress(Keep):
            theirs.fid_inception_v3()
    finally:
        theirs.load_state_dict_from_url, theirs._inception_v3 = original
    return kept[0]


def put_into_hub(home, state):
    """Write weights where torch's hub, and so pytorch-fid, looks when TORCH_HOME is `home`."""
    path = home / "hub" / "checkpoints" / FILE
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    return path


def partial(state):
    """Return what is left where Mixed_7b, Mixed_7c, fc and the batch counters are missing."""
    return {
        key: tensor
        for key, tensor in state.items()
        if not key.startswith(PARTIAL) and not key.endswith("num_batches_tracked")
    }
