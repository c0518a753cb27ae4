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
    from dpvae_cli.evaluation.path_density import path_statistics, results
    from dpvae_cli.foundation.randomness import stream
    from dpvae_cli.sampling.encodings import encode

    statistics = path_statistics(
        found.model,
        found.encoded.aggregate_posterior(),
        encode(found.model, found.load_dataset().split(SPLIT)).mean,
        pairs=count,
        generator=stream(seed, "evaluation", "path"),
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
        for result in results(statistics, seed=seed, split=SPLIT)
    ]
    return arrays, [result.to_json() for result in noted]


def _print(found: "LoadedRun", statistics: "PathStatistics") -> None:
    from dpvae_cli.foundation.formatting import format_number

    rows = {
        "lowest on lines in z": statistics.z,
        "lowest on lines in z0": statistics.z0,
        "z0 above z": statistics.difference,
        "both ends": statistics.end,
        "lower end": statistics.lower_end,
        "drop below it in z": statistics.drop("z"),
        "drop below it in z0": statistics.drop("z0"),
    }
    console.table(
        f"{found.label}, {len(statistics.pairs):,} pairs of {SPLIT} examples",
        ["log q(z), nats", "mean", "standard error"],
        [
            [name, format_number(each.value), format_number(each.standard_error)]
            for name, each in rows.items()
        ],
    )
