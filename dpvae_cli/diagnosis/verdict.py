"""A diagnosis in sentences: the verdict, the dimensions, and what to do."""

from collections.abc import Sequence

from dpvae_cli.diagnosis.record import HELD_OUT, CandidatePrior, Diagnosis, Name, Quantity
from dpvae_cli.foundation.text import format_number, format_with_error

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
"""What held-out codes should lie among."""
MAX_LISTED = 12
"""Dimensions that a sentence lists one by one."""


def percent(share: float) -> str:
    """Return a share as a percentage of two digits, three above 99 %."""
    return f"{100 * share:.{3 if share >= 0.995 else 2}g} %"


def amount(quantity: Quantity, value: float) -> str:
    """Return a value in the quantity's unit."""
    if quantity.unit == "share":
        return percent(value)
    unit = f" {quantity.unit}" if quantity.unit == "nats" else ""
    # adding zero turns minus zero into zero
    return (
        f"{round(value, 3) + 0.0:.3f}{unit}" if abs(value) < 10 else f"{format_number(value)}{unit}"
    )


def summarize(diagnosis: Diagnosis) -> str:
    """Return the verdict in a sentence."""
    dimensions = count_dimensions(diagnosis.latent_dim)
    if diagnosis.has_collapsed:
        return (
            f"This model has collapsed: none of its {dimensions} depends on the example, so its "
            "codes carry no information about the data."
        )
    if diagnosis.is_healthy:
        return "This model is healthy: no quantity is beyond what a prior equal to q(z) would give."
    if not diagnosis.off and not diagnosis.overfits:
        return (
            f"Whether this model is healthy cannot be decided: {diagnosis.codes:,} codes for "
            f"{dimensions}. No quantity is beyond what a prior equal to q(z) would give, but with "
            "so few codes none would be if half of the prior's mass were empty."
        )
    faults, evidence = [], []

    def share(name: Name) -> str:
        return percent(diagnosis[name].value)

    if diagnosis.has_pockets:
        faults.append("has pockets")
        evidence.append(
            f"{share('pocket_share')} of its samples lie where only 1 % of its codes do"
        )
    if diagnosis.leaks:
        faults.append("leaks")
        evidence.append(f"{share('leak_share')} of its codes lie where only 1 % of its samples do")
    if diagnosis.overfits:
        faults.append("overfits")
        evidence += [
            f"{share(name)} of its held-out codes lie where only 1 % of {others} do"
            for name, others in OTHERS.items()
            if diagnosis.held_out and diagnosis[name].is_off
        ]
        if diagnosis.overfits_since is not None:
            since = f"{diagnosis.overfits_since:,}"
            evidence.append(f"its validation ELBO fell ever since iteration {since}")
    if faults:
        best = "" if diagnosis.overfits_since is None else " --best takes the checkpoint before."
        return f"This model {' and '.join(faults)}: {', and '.join(evidence)}.{best}"
    differences = ", ".join(
        f"{TITLES[each.name]} is {amount(each, each.value)} (null: {amount(each, each.null)})"
        for each in diagnosis.off
    )
    return (
        "This model has no pockets, does not leak and does not overfit, yet its prior differs from "
        f"its q(z): {differences}."
    )


def describe_dimensions(diagnosis: Diagnosis) -> list[str]:
    """Return sentences about the dimensions that are off and those that are inactive."""
    sentences, latent_dim = [], diagnosis.latent_dim
    if off := diagnosis.off_dimensions:
        by_distance = sorted(off, key=lambda l: -diagnosis.dimensions[l].mismatch.value)
        sentences.append(
            f"{list_dimensions(by_distance)} of {latent_dim}: the codes and the prior's samples "
            "have different distributions there."
        )
    if inactive := diagnosis.inactive:
        sentences.append(
            f"{list_dimensions(inactive)} of {latent_dim} inactive: at most 1 % of the variance of "
            "q(z) there comes from the example."
        )
    return sentences or [
        f"Of {count_dimensions(latent_dim)} all are active, and in none do the marginals of codes "
        "and samples differ by more than chance."
    ]


def list_dimensions(indices: Sequence[int]) -> str:
    """Return dimensions by their numbers, counted from 0."""
    listed = ", ".join(map(str, indices[:MAX_LISTED]))
    more = f" and {len(indices) - MAX_LISTED} more" if len(indices) > MAX_LISTED else ""
    return f"Dimension{'s' if len(indices) > 1 else ''} {listed}{more}"


def count_dimensions(count: int) -> str:
    """Return the number of dimensions with its noun."""
    return f"{count} dimension{'s' if count > 1 else ''}"


def recommendation(diagnosis: Diagnosis, command: str) -> tuple[str, str | None]:
    """Return what to do, and the command for it if there is one.

    `command` fits a prior; `{options}` in it stands for the prior's options.
    """
    best = diagnosis.best_repair
    if (advice := _advice_beyond_priors(diagnosis)) is not None:
        return advice, None
    if diagnosis.is_healthy:
        tail = "" if best is None else f" The best of the priors tried: {describe_gain(best)}."
        return f"No repair is needed.{tail}", None
    if best is not None:
        shares = diagnosis["pocket_share"].value, diagnosis["leak_share"].value
        before = shares if diagnosis.has_pockets or diagnosis.leaks else None
        advice = f"Fitted to these codes, {describe_gain(best, before)}."
        if not best.has_generation:
            advice += " It has no z0: dpvae traverse needs --space z, "
            advice += "and plot moons cannot draw it."
            with_z0 = [each for each in diagnosis.repairs if each.has_generation and each.is_clear]
            if other := max(with_z0, key=lambda each: each.gain, default=None):
                gain = format_with_error(other.gain, other.standard_error, sign=True)
                advice += f" Of the priors with a z0, {other.prior} gains most: {gain} nats."
        return advice, command.format(options=best.options)
    if not diagnosis.repairs:
        return "No other prior was tried; without --quick some are.", None
    names = ", ".join(candidate.prior for candidate in diagnosis.repairs)
    return f"None of the priors tried ({names}) gains on held-out codes.", None


def _advice_beyond_priors(diagnosis: Diagnosis) -> str | None:
    """Return what to do if no prior is at fault or nothing can be decided; else None."""
    if diagnosis.has_collapsed:
        return "No prior can repair that: reduce the weight of KL (beta, gamma) and train again."
    if diagnosis.is_healthy or any(each.name not in HELD_OUT for each in diagnosis.off):
        return None
    if diagnosis.overfits:
        return (
            "No prior can repair that: train on more data, stop earlier (--best), or use a "
            "smaller encoder or a larger weight of KL (beta)."
        )
    return "More codes or fewer dimensions are needed to decide whether the prior fits."


def describe_gain(candidate: CandidatePrior, before: tuple[float, float] | None = None) -> str:
    """Return the gain of a candidate in words, with its shares beside those of the model."""
    gain = format_with_error(candidate.gain, candidate.standard_error, sign=True)
    prior = candidate.prior.replace("_", " ")
    text = f"a {prior} prior gains {gain} nats per held-out code"
    if before is None:
        return text
    pockets, leaks = before
    return (
        f"{text}, {percent(candidate.pocket_share)} of samples in pockets (now {percent(pockets)}) "
        f"and {percent(candidate.leak_share)} of codes leaked (now {percent(leaks)})"
    )
