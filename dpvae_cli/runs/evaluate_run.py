"""Measure metrics of a run and write them to its folder."""

from collections.abc import Sequence

from dpvae_cli.evaluation.context import EvaluationContext, Progress
from dpvae_cli.evaluation.evaluate import measure
from dpvae_cli.evaluation.features import FeatureOptions
from dpvae_cli.evaluation.nll_cache import NllCache
from dpvae_cli.foundation.distributed import current_process_group
from dpvae_cli.foundation.errors import DpvaeError, UsageError
from dpvae_cli.foundation.progress import report_progress
from dpvae_cli.foundation.results import Result, RunResults
from dpvae_cli.recipe import Evaluation
from dpvae_cli.runs.loaded_run import LoadedRun
from dpvae_cli.runs.results_file import merge_results, run_results


def evaluation_context(
    run: LoadedRun,
    *,
    evaluation: Evaluation | None = None,
    seed: int = 0,
    progress: Progress = report_progress,
    features: FeatureOptions | None = None,
) -> EvaluationContext:
    """Return what metrics of a run are computed from; arguments as of `evaluate_run`."""
    group = current_process_group()
    cache = run.path.with_suffix(".nll.npz")
    return EvaluationContext(
        run.model,
        run.load_dataset,
        run.encoded,
        evaluation or run.recipe.evaluation,
        seed,
        progress,
        features or FeatureOptions(),
        nll_cache=NllCache(cache, checkpoint=run.digest, writes=group.is_main_process),
        training_note=run.data_note,
        group=group,
    )


def evaluate_run(
    run: LoadedRun,
    names: Sequence[str],
    *,
    evaluation: Evaluation | None = None,
    seed: int = 0,
    progress: Progress = report_progress,
    features: FeatureOptions | None = None,
) -> tuple[RunResults, dict[str, DpvaeError]]:
    """Return a run's results, also written to metrics.json, and the errors of metrics that failed.

    Each is written as soon as it is measured. A metrics.json that cannot be written is among the
    errors. Tracebacks of unexpected exceptions are appended to errors.log.
    """
    context = evaluation_context(
        run, evaluation=evaluation, seed=seed, progress=progress, features=features
    )
    results: list[Result] = []
    failed: dict[str, DpvaeError] = {}
    for name in names:
        measured, errors = measure(context, [name], log=run.folder.errors)
        results += measured
        failed |= errors
        if measured and context.group.is_main_process:
            try:  # one by one: the next may take hours, and be interrupted
                merge_results(run, run_results(run, measured))
            except UsageError as error:  # nor are results lost over a folder that is full
                failed[run.folder.metrics.name] = error
    return run_results(run, results), failed
