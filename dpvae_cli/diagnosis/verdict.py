"""A diagnosis in plain words."""

from collections.abc import Sequence

from dpvae_cli.diagnosis.record import (
    HELD_OUT,
    CandidatePrior,
    Diagnosis,
    Dimension,
    Name,
    Quantity,
)
from dpvae_cli.foundation.formatting import format_number, format_with_error

TITLES: dict[Name, str] = {
    "pocket_share": "samples where only 1 % of codes lie (pockets)",
    "kl_prior_to_posterior": "KL[p, q]",
    "leak_share": "codes where only 1 % of samples lie (leaks)",
    "kl_posterior_to_prior": "KL[q, p]",
    "leakage_score": "leakage score at the 5 % quantile",
    "held_out_leak_share": "held-out codes where only 1 % of samples lie",
    "held_out_outside_share": "held-out codes where only 1 % of training codes lie",
    "marginals": "largest distance of marginals, by dimension",
}
OTHERS: dict[Name, str] = dict(zip(HELD_OUT, ("its samples", "its training codes"), strict=True))
"""Where held-out codes lie when they should not."""
NAMED = 12
"""Dimensions that a sentence names one by one."""


def percent(share: float) -> str:
    """Return a share as a percentage of two digits, three above 99 %."""
    return f"{100 * share:.{3 if share >= 0.995 else 2}g} %"


def amount(quantity: Quantity, value: float) -> str:
    """Return a value in the quantity's unit."""
    if quantity.unit == "share":
        return percent(value)
    unit = f" {quantity.unit}" if quantity.unit == "nats" else ""
    # a sum with zero is never minus zero
    return (
        f"{round(value, 3) + 0.0:.3f}{unit}" if abs(value) < 10 else f"{format_number(value)}{unit}"
    )


def summarize(found: Diagnosis) -> str:
    """Return the verdict in a sentence."""
    if found.has_collapsed:
        return (
            f"This model has collapsed: none of its {listed_count(found.latent_dim)} depends on "
            "the example, so its codes say nothing of the data."
        )
    if found.is_healthy:
        return (
            "This model is healthy: nothing that is measured here lies beyond what a prior equal "
            "to q(z) would give."
        )
    if not found.off and not found.overfits:
        return (
            f"This model cannot be told healthy or not: {found.codes:,} codes for "
            f"{listed_count(found.latent_dim)}. Nothing that is measured here lies beyond what a "
            "prior equal to q(z) would give, but so few codes would not show it if half of the "
            "prior's mass were empty."
        )
    named, proofs = _faults(found)
    if named:
        best = "" if found.overfits_since is None else " --best takes the checkpoint from before."
        return f"This model {' and '.join(named)}: {', and '.join(proofs)}.{best}"
    return (
        "This model has no pockets, does not leak and does not overfit, yet its prior differs from "
        "its q(z): "
        f"{_differences(found)}."
    )


def _faults(found: Diagnosis) -> tuple[list[str], list[str]]:
    """Return which faults a model has, and what shows each of them."""
    named, proofs = [], []
    if found.has_pockets:
        named.append("has pockets")
        share = percent(found["pocket_share"].value)
        proofs.append(f"{share} of its samples lie where only 1 % of its codes do")
    if found.leaks:
        named.append("leaks")
        share = percent(found["leak_share"].value)
        proofs.append(f"{share} of its codes lie where only 1 % of its samples do")
    if found.overfits:
        named.append("overfits")
        proofs += [
            f"{percent(found[name].value)} of its held-out codes lie where only 1 % of {others} do"
            for name, others in OTHERS.items()
            if found.held_out and found[name].is_off
        ]
        if found.overfits_since is not None:
            since = f"{found.overfits_since:,}"
            proofs.append(f"its validation ELBO fell ever since iteration {since}")
    return named, proofs


def _differences(found: Diagnosis) -> str:
    return ", ".join(
        f"{TITLES[each.name]} is {amount(each, each.value)} (null: {amount(each, each.null)})"
        for each in found.off
    )


def describe_dimensions(found: Diagnosis) -> list[str]:
    """Return what is to be said of dimensions: those that are off, those that are inactive."""
    said = []
    if off := found.off_dimensions:
        by_distance = sorted((found.dimensions[l] for l in off), key=_distance, reverse=True)
        said.append(
            f"{listed([each.index for each in by_distance])} of {found.latent_dim}: the codes and "
            "the prior's samples are not distributed alike there."
        )
    if inactive := found.inactive:
        said.append(
            f"{listed(inactive)} of {found.latent_dim} inactive: at most 1 % of the variance of "
            "q(z) there comes from the example."
        )
    return said or [
        f"Of {listed_count(found.latent_dim)} all are active, and in none do codes and samples "
        "differ by more than draws of one density may."
    ]


def _distance(dimension: Dimension) -> float:
    return dimension.mismatch.value


def listed(indices: Sequence[int]) -> str:
    """Return dimensions by their numbers, counted from 0."""
    shown = ", ".join(map(str, indices[:NAMED]))
    more = f" and {len(indices) - NAMED} more" if len(indices) > NAMED else ""
    return f"Dimension{'s' if len(indices) > 1 else ''} {shown}{more}"


def listed_count(count: int) -> str:
    """Return how many dimensions there are, in words that fit one too."""
    return f"{count} dimension{'s' if count > 1 else ''}"


def recommendation(found: Diagnosis, command: str) -> tuple[str, str | None]:
    """Return what to do, and the command for it where there is one.

    Args:
        found: the diagnosis.
        command: fits a prior; `{options}` stands for which, and how.
    """
    best = found.best_repair
    if (beyond := _beyond_priors(found)) is not None:
        return beyond, None
    if found.is_healthy:
        tail = "" if best is None else f" The best that was tried, {describe_gain(best)}."
        return f"There is nothing to mend.{tail}", None
    if best is not None:
        shares = found["pocket_share"].value, found["leak_share"].value
        before = shares if found.has_pockets or found.leaks else None
        advice = f"Tried on these codes, {describe_gain(best, before)}. {_without_z0(found, best)}"
        return advice.strip(), command.format(options=best.options)
    if not found.repairs:
        return "No other prior was tried; without --quick some are.", None
    names = ", ".join(each.prior for each in found.repairs)
    return f"None of the priors tried ({names}) gains on held-out codes.", None


def _beyond_priors(found: Diagnosis) -> str | None:
    """Return what to do where no prior is at fault, or nothing can be told; else None."""
    if found.has_collapsed:
        return "No prior mends that: weaken the pull on KL (beta, gamma) and train again."
    if found.is_healthy or any(each.name not in HELD_OUT for each in found.off):
        return None
    if found.overfits:
        return (
            "No prior mends that: train on more data, stop earlier (--best), or take a smaller "
            "encoder or a stronger pull on KL (beta)."
        )
    return "More codes are needed, or fewer dimensions, to say whether the prior fits."


def _without_z0(found: Diagnosis, best: CandidatePrior) -> str:
    """Return what cannot be done with a prior that has no z0, and which one that has gains most."""
    if best.has_generation:
        return ""
    with_z0 = [each for each in found.repairs if each.has_generation and each.is_clear]
    text = "It has no z0: dpvae traverse takes --space z alone, and plot moons cannot draw it."
    if not with_z0:
        return text
    other = max(with_z0, key=lambda each: each.gain)
    gain = format_with_error(other.gain, other.standard_error, sign=True)
    return f"{text} Of the priors with a z0, {other.prior} gives most: {gain} nats."


def describe_gain(repair: CandidatePrior, before: tuple[float, float] | None = None) -> str:
    """Return what a repair gains, in words."""
    gain = format_with_error(repair.gain, repair.standard_error, sign=True)
    text = f"a fitted {repair.prior.replace('_', ' ')} prior gives {gain} nats a held-out code"
    if before is None:
        return text
    shares = (
        f"{percent(after)} {what} (now {percent(now)})"
        for what, after, now in zip(
            ("of samples in pockets", "of codes leaked"),
            (repair.pocket_share, repair.leak_share),
            before,
            strict=True,
        )
    )
    return f"{text}, {' and '.join(shares)}"
