"""`dpvae traverse --pairs`: whether walks between test examples cross pockets."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from dpvae_cli.cli import console

if TYPE_CHECKING:
    import numpy as np

    from dpvae_cli.evaluation.path_density import PathStatistics
    from dpvae_cli.runs.loaded_run import LoadedRun

    Arrays = dict[str, np.ndarray]

SPLIT: Literal["test"] = "test"


def measured(found: "LoadedRun", count: int, *, seed: int) -> "tuple[Arrays, list[dict[str, Any]]]":
    """Return the arrays over pairs, and the records `dpvae eval --metrics path` has; print them."""
    from dpvae_cli.evaluation.path_density import path_results, path_statistics
    from dpvae_cli.runs.evaluate_run import evaluation_context
    from dpvae_cli.sampling.encodings import encode

    context = evaluation_context(found, seed=seed)
    statistics = path_statistics(
        found.model,
        context.aggregate,
        encode(found.model, found.load_dataset().split(SPLIT)).mean,
        pairs=count,
        generator=context.generator("path"),
    )
    _print(found, statistics)
    arrays = {
        "pairs": statistics.pairs.numpy(),
        "pairs_lowest_z": statistics.lowest_z.numpy(),
        "pairs_lowest_z0": statistics.lowest_z0.numpy(),
        "pairs_ends": statistics.ends.numpy(),
    }
    note = {"data_note": found.data_note}
    noted = [
        replace(result, details=result.details | note)
        for result in path_results(context, statistics, split=SPLIT)
    ]
    return arrays, [result.to_json() for result in noted]


def _print(found: "LoadedRun", statistics: "PathStatistics") -> None:
    from dpvae_cli.foundation.formatting import format_number

    means = statistics.means()
    rows = {
        "lowest on lines in z": means["z"],
        "lowest on lines in z0": means["z0"],
        "z0 above z": means["difference"],
        "both ends": means["end"],
        "lower end": means["lower_end"],
        "drop below it in z": means["drop_z"],
        "drop below it in z0": means["drop_z0"],
    }
    console.table(
        f"{found.label}, {len(statistics.pairs):,} pairs of {SPLIT} examples",
        ["log q(z), nats", "mean", "standard error"],
        [
            [name, format_number(each.value), format_number(each.standard_error)]
            for name, each in rows.items()
        ],
    )
