"""How many samples lie in pockets and how many codes leak, as `dpvae diagnose` counts them."""

from dataclasses import dataclass
from typing import Any, final

import torch

from dpvae_cli.diagnosis.groups import TAIL, are_in
from dpvae_cli.diagnosis.null import shares
from dpvae_cli.diagnosis.run import DiagnosisBudget, draw_halves
from dpvae_cli.diagnosis.verdict import percent
from dpvae_cli.foundation.text import read_json
from dpvae_cli.runs.evaluate_run import evaluation_context
from dpvae_cli.runs.loaded_run import LoadedRun

LEVELS = 101
"""Quantiles of a log-density that a page knows: 0, 1, ..., 100 %."""
NAMES = ("pocket_share", "leak_share")


@final
@dataclass(frozen=True)
class TailShares:
    """Shares with their nulls, and the log-densities below which a point counts, all in nats.

    Args:
        quantities: `pocket_share` and `leak_share` as diagnosis.json has them.
        threshold_log_q: the 1 % quantile of log q(z) at codes that q(z) has not seen.
        threshold_log_p: the 1 % quantile of log p(z) at samples of the prior.
        quantiles_log_q: 0, 1, ..., 100 % of the former.
        quantiles_log_p: of the latter.
    """

    quantities: dict[str, dict[str, Any]]
    threshold_log_q: float
    threshold_log_p: float
    quantiles_log_q: list[float]
    quantiles_log_p: list[float]

    def sentence(self) -> str:
        """Return what the shares are, in words."""
        pockets, leaks = (self.quantities[name] for name in NAMES)
        return (
            f"{percent(pockets['value'])} of samples from the prior fall into pockets, and "
            f"{percent(leaks['value'])} of codes leak; where q(z) = p(z) it would be "
            f"{percent(pockets['null'])} of each."
        )


def tail_shares(run: LoadedRun) -> TailShares:
    """Return the shares of a run: of its diagnosis.json if it has one of this checkpoint, else new.

    New ones are those that `dpvae diagnose` would write.

    Raises:
        UsageError: there are too few training examples.
    """
    diagnosis = read_json(run.folder.path / "diagnosis.json")
    is_own = diagnosis.get("checkpoint_digest") == run.digest
    seed = diagnosis.get("seed", 0) if is_own else 0
    context = evaluation_context(run, seed=seed if isinstance(seed, int) else 0)
    splits = draw_halves(context, DiagnosisBudget()).splits
    levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    of_halves = []
    for a, b in splits.halves:
        fresh = splits.log_q(splits.codes, b)[0][are_in(splits.codes.group, a)]
        of_halves.append(torch.quantile(fresh, torch.cat([levels.new_tensor([TAIL]), levels])))
    threshold, *log_q = torch.stack(of_halves).mean(dim=0).tolist()
    found: dict[str, Any] = {each.name: each.to_json() for each in shares(splits)}
    if is_own:
        found |= {each["name"]: each for each in diagnosis.get("quantities", [])}
    return TailShares(
        quantities={name: found[name] for name in NAMES},
        threshold_log_q=threshold,
        threshold_log_p=float(torch.quantile(splits.prior.log_p, TAIL)),
        quantiles_log_q=log_q,
        quantiles_log_p=torch.quantile(splits.prior.log_p, levels).tolist(),
    )
