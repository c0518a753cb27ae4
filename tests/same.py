"""Whether two runs came to the same end."""

import json

import torch

from dpvae_cli.runs import checkpoint as checkpoints


def assert_same_run(one, other):
    """Compare every tensor of both checkpoints and every logged number but the pace."""
    for name in ("checkpoint.pt", "best.pt"):
        a, b = checkpoints.read_checkpoint(one / name), checkpoints.read_checkpoint(other / name)
        assert a.iteration == b.iteration
        assert _facts(a) == _facts(b)
        assert a.tensors.keys() == b.tensors.keys()
        for key, tensor in a.tensors.items():
            assert torch.equal(tensor, b.tensors[key]), key
    assert logged(one) == logged(other)


def _facts(checkpoint):
    """Return what a checkpoint says of itself, but for the time that the fit of a prior took."""
    fit = checkpoint.facts.get("fit")
    return {**checkpoint.facts, "fit": {**fit, "seconds": 0} if fit else None}


def logged(folder):
    """Return what a run logged, but for the pace."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]
