"""Keep the results of Table 1's MNIST cells in the repository and write docs/table1.md from them.

    python -m benchmarks.table1_results --runs runs

Copies the small text files of every evaluated MNIST run in a folder to docs/results/mnist/; of a
run that was evaluated before its end the page says at how many iterations. Then generates the part
of the page between its markers from all results kept there. Without `--runs` only the page is
written.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.page import BEGIN, END
from dpvae_cli.foundation.array_files import write_cache
from dpvae_cli.foundation.files import write_atomically, write_json, write_text
from dpvae_cli.foundation.results import Result, validate_results
from dpvae_cli.foundation.text import format_number, format_with_error, read_json, replace_between
from dpvae_cli.recipe import load_recipe
from dpvae_cli.runs.metrics_log import MetricsLog
from dpvae_cli.runs.results_file import read_error_terms
from dpvae_cli.runs.run_folder import RunFolder
from dpvae_cli.studies.grouping import BASELINE, Experiment, flatten_recipe, group_runs
from dpvae_cli.studies.published import PublishedTable, read_published
from dpvae_cli.studies.records import RunRecord, RunStatus, discover, read_run

DOCS = Path(__file__).parents[1] / "docs"
KEPT, PAGE = DOCS / "results" / "mnist", DOCS / "table1.md"
DECOUPLED = "decoupled"
PRIORS = {BASELINE: "standard normal", DECOUPLED: "decoupled"}
THINNED = 500
"""Iterations between kept records of metrics.jsonl."""
PAIRED = ("nll", "elbo")
"""Metrics that both priors measure on the same examples; their error terms are kept."""
ERRORS = 2
"""Standard errors that a difference must exceed."""
EQUAL = 0.05
"""FID (LP) is about equal to FID where they differ by less than this part of it."""
LOW = 0.01
"""Quantiles of log p(z) up to this one are low thresholds."""
HOLDS, FAILS, UNCLEAR, MISSING = "holds", "does not hold", "unclear", "not measured yet"


def keep(record: RunRecord, folder: Path) -> Path:
    """Copy a run's results, thinned log, recipe and environment, without paths of this machine."""
    source, target = RunFolder(record.path), RunFolder(folder / record.label)
    found = read_json(source.metrics)
    found |= {"run": record.label, "checkpoint": f"{record.label}/{Path(found['checkpoint']).name}"}
    write_json(target.metrics, found)
    environment = read_json(source.environment)
    environment.pop("command", None)
    write_json(target.environment, environment)
    write_text(target.recipe, source.recipe.read_text(encoding="utf-8"))
    lines = (
        json.dumps(line) + "\n"
        for line in MetricsLog.read(source.metrics_log)
        if line["iteration"] <= (record.iteration or 0)
        and (line["iteration"] % THINNED == 0 or line["iteration"] == record.iteration)
    )
    write_atomically(target.metrics_log, lambda file: file.writelines(map(str.encode, lines)))
    terms = {r.metric: read_error_terms(source, r) for r in record.results if r.metric in PAIRED}
    write_cache(
        target.error_terms,
        {name: array for name, array in terms.items() if array is not None},
        checkpoint=found["checkpoint_digest"],
    )
    return target.path


def read(folder: Path) -> RunRecord:
    """Read a run; one that is unfinished counts at the iteration that its results are of."""
    record = read_run(folder)
    found = read_json(RunFolder(folder).metrics)
    results, iteration = validate_results(found.get("results")), found.get("iteration")
    if record.status is RunStatus.unfinished and results and isinstance(iteration, int):
        return replace(record, status=RunStatus.measured, results=results, iteration=iteration)
    return record


def measured(folders: Sequence[Path]) -> Iterator[RunRecord]:
    """Yield the evaluated runs on MNIST; print why others are left out."""
    for record in map(read, folders):
        if record.counts and record.recipe and record.recipe.data.kind == "mnist":
            yield record
        else:
            print(f"left out: {record.label}: {record.reason or 'not on MNIST'}")


def pairs(records: Sequence[RunRecord]) -> list[Experiment]:
    """Return an experiment for each recipe, seed, device and number of iterations.

    Without a twin it has one prior.
    """
    groups: dict[tuple[str, int], list[RunRecord]] = {}
    for record in records:
        device = (record.environment or {}).get("device", "cpu")
        groups.setdefault((device, record.iteration or 0), []).append(record)
    found = []
    for (device, iteration), runs in sorted(groups.items()):
        for experiment in group_runs(runs)[0]:
            for seed in experiment.seeds:
                one = {
                    prior: {seed: by_seed[seed]}
                    for prior, by_seed in experiment.runs.items()
                    if seed in by_seed and prior in PRIORS
                }
                label = f"{experiment.label}, seed {seed}"
                if device != "cpu":
                    label += f", {device}"
                if (whole := experiment.recipe.training.iterations) != iteration:
                    label += f", at {iteration:,} of {whole:,} iterations"
                found.append(replace(experiment, label=label, runs=one))
    return found


def result(pair: Experiment, prior: str, metric: str) -> Result | None:
    """Return a result of one run of a pair."""
    return next(iter(pair.results(metric, prior).values()), None)


def detail(pair: Experiment, prior: str, metric: str, *keys: str) -> dict | list | None:
    """Return a detail of a result."""
    value = getattr(result(pair, prior, metric), "details", None)
    for key in keys:
        value = None if value is None else value.get(key)
    return value


def with_error(found: Result | None) -> str:
    """Return a result as text, a dash without one."""
    return "-" if found is None else format_with_error(found.value, found.standard_error)


@dataclass(frozen=True)
class Finding:
    """What one pair says about a claim."""

    verdict: str
    numbers: str = ""


def is_lower(pair: Experiment, metric: str, what: str) -> Finding:
    """Judge whether a metric is lower with the decoupled prior."""
    found = pair.compare(metric, DECOUPLED, baseline=BASELINE) if len(pair.runs) == 2 else None
    if found is None:
        return Finding(MISSING)
    error = found.own_error
    numbers = f"{what} {format_with_error(found.mean, error, sign=True)} {found.unit}".rstrip()
    return Finding(sign(found.mean, error), numbers if error else f"{numbers} (no error)")


def sign(difference: float, error: float | None) -> str:
    """Judge a difference that is claimed to be negative; without an error by its sign alone."""
    if error and abs(difference) <= ERRORS * error:
        return UNCLEAR
    return HOLDS if difference < 0 else FAILS


def claim_fid(pair: Experiment) -> Finding:
    """Claim a, on FID, or on FID of 768 features."""
    return is_lower(pair, fid_name(pair), fid_title(pair))


def claim_low_posterior(pair: Experiment) -> Finding:
    """Claim b: low-posterior samples of the decoupled prior are about as good as all samples."""
    name = fid_name(pair)
    gaps = {}
    for prior in PRIORS:
        all_, low = result(pair, prior, name), result(pair, prior, f"{name}_lp")
        if all_ and low and all_.value and low.value is not None:
            gaps[prior] = low.value / all_.value - 1
    if DECOUPLED not in gaps:
        return Finding(MISSING)
    verdict = HOLDS if abs(gaps[DECOUPLED]) <= EQUAL else FAILS
    return Finding(verdict, "; ".join(f"{PRIORS[p]} {gap:+.1%}" for p, gap in gaps.items()))


def claim_skl(pair: Experiment) -> Finding:
    """Claim c, with exact densities."""
    return is_lower(pair, "skl", "sKL")


def claim_nll(pair: Experiment) -> Finding:
    """Claim d, with the error of the difference over the same images."""
    return is_lower(pair, "nll", "nll")


def claim_leakage(pair: Experiment) -> Finding:
    """Claim e: judged at the low quantiles of each prior's own log p(z)."""
    curves = {
        prior: (detail(pair, prior, "leak", "quantiles"), *quantile_curve(pair, prior))
        for prior in PRIORS
    }
    levels = curves[BASELINE][0]
    if not levels or levels != curves[DECOUPLED][0]:
        return Finding(MISSING)
    verdicts, numbers = [], []
    for level, *both in zip(levels, *curves[BASELINE][1:], *curves[DECOUPLED][1:], strict=True):
        before, before_error, after, after_error = (value or 0.0 for value in both)
        difference, error = after - before, math.hypot(before_error, after_error)
        numbers.append(f"{100 * level:g} %: {format_with_error(difference, error, sign=True)}")
        if level <= LOW:
            verdicts.append(sign(difference, error) if difference else UNCLEAR)
    verdict = verdicts[0] if len(set(verdicts)) == 1 else UNCLEAR
    return Finding(verdict, "; ".join(numbers) + " nats")


def quantile_curve(pair: Experiment, prior: str) -> tuple[list, list]:
    """Return the leakage at the quantiles and its standard errors; None where nothing leaks."""
    names = ("quantile_values", "quantile_standard_errors")
    values, errors = (detail(pair, prior, "leak", name) or [] for name in names)
    return list(values), list(errors)


def claim_paths(pair: Experiment) -> Finding:
    """Claim f: the lowest log q(z) on paths that are straight in z0 is above that of lines in z."""
    found = result(pair, DECOUPLED, "path") if DECOUPLED in pair.runs else None
    if found is None or found.value is None:
        return Finding(MISSING)
    drops = [
        format_with_error(drop["value"], drop["standard_error"])
        for drop in (detail(pair, DECOUPLED, "path", name) for name in ("drop_z", "drop_z0"))
    ]
    numbers = f"gain {with_error(found)} nats; drop on lines in z {drops[0]}, in z0 {drops[1]}"
    return Finding(sign(-found.value, found.standard_error), numbers)


CLAIMS = {
    "(a) FID is lower with the decoupled prior": claim_fid,
    "(b) with the decoupled prior, FID (LP) is about equal to FID": claim_low_posterior,
    "(c) sKL is lower": claim_skl,
    "(d) NLL is lower": claim_nll,
    "(e) leakage is lower, most of all at low thresholds": claim_leakage,
    "(f) traversals that are straight in z0 avoid pockets": claim_paths,
}


def fid_name(pair: Experiment) -> str:
    """Return which FID was measured."""
    return "fid" if "fid" in pair.comparable else "fid768"


def fid_title(pair: Experiment) -> str:
    """Return its title."""
    return "FID" if fid_name(pair) == "fid" else "FID-768"


def count(verdicts: Sequence[str]) -> str:
    """Return the verdict over all pairs."""
    judged = [verdict for verdict in verdicts if verdict != MISSING]
    if not judged:
        return MISSING
    if len(judged) == 1:
        return f"{judged[0]} in the one pair measured"
    first, *others = (each for each in (HOLDS, FAILS, UNCLEAR) if each in judged)
    parts = [f"{first} in {judged.count(first)} of {len(judged)} pairs"]
    return ", ".join(parts + [f"{each} in {judged.count(each)}" for each in others])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """Return a Markdown table whose first columns are words and whose others are numbers."""
    lines = [list(heads), ["---"] * words + ["---:"] * (len(heads) - words), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def claims(found: Sequence[Experiment]) -> str:
    """Return a table of the claims with their verdicts and each pair's numbers."""
    rows = []
    for text, judge in CLAIMS.items():
        findings = {pair.label: judge(pair) for pair in found}
        numbers = [
            f"{label}: {each.verdict} ({each.numbers})"
            for label, each in findings.items()
            if each.numbers
        ]
        verdicts = [each.verdict for each in findings.values()]
        rows.append([text, f"**{count(verdicts)}**", "<br>".join(numbers) or "-"])
    return table(["claim", "verdict", "decoupled minus standard normal"], rows, words=3)


def published(pair: Experiment, prior: str, paper: PublishedTable) -> list[str]:
    """Return the paper's numbers for a run of one of its recipes, dashes for another recipe."""
    kind = pair.recipe.regularizer.kind
    mine = flatten_recipe(pair.recipe)
    theirs = flatten_recipe(load_recipe(f"{kind}_mnist"))
    keys = [key for key in theirs if key.startswith(("likelihood", "architecture", "regularizer"))]
    if any(mine.get(key) != theirs[key] for key in keys):
        return ["-"] * len(paper.columns)
    names = (column.metric for column in paper.columns)
    values = (paper.value(n, data="mnist", regularizer=kind, prior=prior) for n in names)
    return list(map(format_number, values))


def runs_of(found: Sequence[Experiment]) -> list[tuple[Experiment, str, str]]:
    """Return all runs with the label of their pair, which only the first of a pair shows."""
    return [
        (pair, prior, pair.label if index == 0 else "")
        for pair in found
        for index, prior in enumerate(pair.priors)
    ]


def beside_the_paper(found: Sequence[Experiment]) -> str:
    """Return our metrics beside the paper's."""
    paper, rows = read_published("table1"), []
    for pair, prior, label in runs_of(found):
        fid = fid_name(pair)
        fid_, lp, skl, nll = published(pair, prior, paper)
        null = format_number(detail(pair, prior, f"{fid}_lp", "null", "value"))
        neighbours = "skl_knn" if prior == BASELINE else "skl_knn_generation"
        mine = {
            name: with_error(result(pair, prior, name))
            for name in (fid, f"{fid}_lp", "skl", neighbours, "nll")
        }
        row = [mine[fid], fid_, mine[f"{fid}_lp"], null, lp]
        row += [mine["skl"], mine[neighbours], skl, mine["nll"], nll]
        rows.append([label, PRIORS[prior], *row])
    title = fid_title(found[0])
    heads = ["pair", "prior", title, "paper: FID", f"{title} (LP)", "its null", "paper: FID (LP)"]
    heads += ["sKL", "sKL by neighbours", "paper: sKL", "nll", "paper: NLL"]
    return table(heads, rows, words=2)


def leakage(found: Sequence[Experiment]) -> str:
    """Return leakage at quantiles and at fixed thresholds."""
    rows, heads = [], ["pair", "prior"]
    for pair, prior, label in runs_of(found):
        details = detail(pair, prior, "leak")
        if details is None:
            continue
        heads = ["pair", "prior", *(f"{100 * level:g} %" for level in details["quantiles"])]
        heads += [f"tau = {tau:g}" for tau in details["thresholds"]]
        values, errors = quantile_curve(pair, prior)
        values, errors = values + details["values"], errors + details["standard_errors"]
        both = zip(values, errors, strict=True)
        texts = ["none" if value is None else format_with_error(value, e) for value, e in both]
        rows.append([label, PRIORS[prior], *texts])
    return table(heads, rows, words=2) if rows else "Leakage is not measured yet."


def everything_else(found: Sequence[Experiment]) -> str:
    """Return every other metric, one a line."""
    shown = ("skl", "skl_knn", "skl_knn_generation", "nll", "leak", "leak_printed")
    names = dict.fromkeys(name for pair in found for name in pair.comparable)
    names = [n for n in names if n not in shown and not n.startswith("fid")]
    runs = runs_of(found)
    heads = ["metric", *(f"{pair.label}, {PRIORS[prior]}" for pair, prior, _ in runs)]
    rows = [[f"`{n}`", *(with_error(result(p, prior, n)) for p, prior, _ in runs)] for n in names]
    return table(heads, rows, words=1)


def cells(found: Sequence[Experiment]) -> str:
    """Return what was run, where, and how fast."""
    rows = []
    for pair, prior, label in runs_of(found):
        [record] = pair.runs[prior].values()
        place = record.environment or {}
        log = MetricsLog.read(RunFolder(record.path).metrics_log)
        speeds = [line["steps_per_second"] for line in log if line.get("steps_per_second")]
        speed = format_number(median(speeds)) if speeds else "-"
        facts = [place.get(key, "-") for key in ("device", "threads", "torch")]
        rows.append([label, PRIORS[prior], f"{record.iteration:,}", *facts, speed])
    heads = ["pair", "prior", "iterations", "device", "threads", "torch", "steps per second"]
    return table(heads, rows, words=2)


def generated(found: Sequence[Experiment]) -> str:
    """Return the generated part of the page."""
    parts = ["## Claims", claims(found)]
    if not found:
        return "\n\n".join(["No run is evaluated yet.", *parts])
    parts += ["## Beside the paper", beside_the_paper(found), "## Leakage", leakage(found)]
    parts += ["## Other metrics", everything_else(found), "## Runs", cells(found)]
    return "\n\n".join(parts)


def main() -> None:
    """Keep results and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of finished, evaluated runs")
    parser.add_argument("--kept", type=Path, default=KEPT)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    if options.runs is not None:
        for record in measured(discover([options.runs])):
            print(keep(record, options.kept))
    there = sorted(options.kept.glob("*/metrics.json"))
    found = pairs(list(measured([file.parent for file in there])))
    page = options.page.read_text(encoding="utf-8")
    write_text(options.page, replace_between(page, BEGIN, END, generated(found)))


if __name__ == "__main__":
    main()
