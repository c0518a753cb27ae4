"""Which tests belong to the slow tier, beside those marked `slow` where they are defined.

`make test` proves every feature by at least one real run; further cases of the same kind are slow.
Each entry names a test by module and function, with the cases that stay in `make test`.
"""

import pytest

OTHER_PRIORS = (
    "standard_normal",
    "decoupled",
    "spline",
    "autoregressive",
    "mixture",
    "vamp",
    "resampled",
)
"""All kinds but flow matching, which integrates."""

SLOW: dict[str, tuple[str, ...]] = {
    # one training run per key of a recipe: in `make test` the keys of a run on moons
    "test_every_field::test_a_field_changes_something": (
        "data.moons.n",
        "architecture.mlp.h",
        "prior.decoupled.b",
        "regularizer.beta_h",
        "training.e",
        "training.g",
        "training.p",
        "evaluation.p",
    ),
    "test_every_field::test_the_outcome_is_the_recipe_s": (),
    # resumed runs: two regularizers, one signal, one prior beside the decoupled one
    "test_resume::test_a_cut_run_resumes_to_the_bit": ("vae-", "factor-decoupled"),
    "test_resume::test_a_cut_run_of_any_prior_resumes_to_the_bit": ("kind: mixture",),
    "test_resume::test_a_signal_saves_and_names_the_resuming_command": ("15",),
    "test_resume::test_batch_norm_resumes_to_the_bit": (),
    "test_resume::test_convolutions_resume_to_the_bit_in_every_precision": (),
    "test_resume::test_dynamic_binarisation_resumes_to_the_bit": (),
    "test_resume::test_training_goes_on_when_nobody_reads_its_progress": (),
    "test_resume::test_a_run_cut_before_its_first_checkpoint_starts_again": (),
    "test_own_model::test_a_cut_run_resumes_to_the_bit": ("beta_h-decoupled",),
    "test_own_model::test_a_run_cut_before_its_first_checkpoint_asks_for_the_model_too": (),
    "test_own_model::test_own_networks_train_and_load_in_the_precision_of_the_run": (),
    # exported graphs: one prior and one architecture
    "test_export::test_what_cannot_be_exported_says_why_and_the_rest_is_written": (),
    "test_graphs::test_the_graphs_of_each_prior_compute_what_the_model_does": ("mixture-4",),
    "test_graphs::test_the_graphs_of_each_architecture_compute_what_the_model_does": (
        "moons-sampler",
    ),
    "test_in_a_browser::test_every_kind_of_page_opens": (),
    # figures: one size
    "test_moons::test_figure1_has_a_row_a_run_and_four_columns": ("2",),
    "test_moons::test_figure3_draws_one_to_twelve_portraits": ("3",),
    # kills, faults and signals: one of each kind
    "test_crashes::test_a_killed_training_goes_on_to_the_bit": ("vae",),
    "test_trackers::test_mlflow_takes_a_shared_store": (),
    "test_other_systems::test_a_study_spawns_its_workers_where_none_can_be_forked": (),
    "test_crashes::test_a_command_killed_between_two_files_is_completed_by_the_next": (),
    "test_crashes::test_killed_cache_building_leaves_no_half_cache": (),
    "test_crashes::test_a_killed_evaluation_measures_the_same": (),
    "test_folders::test_a_log_of_any_size_is_read": (),
    "test_folders::test_a_run_is_replaced_whole": (),
    "test_folders::test_a_dangling_latest_where_runs_is_a_link": (),
    "test_folders::test_what_a_killed_command_left_goes_with_the_next": (),
    "test_environment_errors::test_closed_streams_write_nowhere": (),
    "test_environment_errors::test_training_in_a_place_with_spaces_and_letters_of_all_kinds": (),
    "test_faults::test_a_full_disk_leaves_the_last_checkpoint": ("30000",),
    "test_environment_errors::test_forty_columns_are_enough": (),
    "test_bad_checkpoints::test_what_the_error_says_to_type_goes_on_to_the_bit": (),
    "test_results_file::test_processes_that_measure_at_once_lose_no_result": (),
    "test_waiting::test_a_step_asks_for_no_value": ("vae", "factor"),
    # several processes: one run and evaluation of two processes stays
    "test_processes::test_losses_and_weights_are_those_of_one_process": (),
    "test_distributed::test_a_signal_stops_all_at_one_iteration_and_saves": (),
    "test_sizes::test_a_training_run": (),
    # compilation: one regularizer
    "test_compilation::test_losses_and_gradients_are_those_without": ("vae",),
    "test_compilation::test_the_decoupled_prior_is_compiled_too": (),
    # studies and executors
    "test_executors::test_a_killed_cell_ends_as_if_nothing_had_happened": (),
    "test_executors::test_a_cell_that_kills_its_workers_does_not_stop_the_study": (),
    "test_executors::test_a_worker_that_dies_is_replaced": (),
    "test_executors::test_a_worker_told_to_stop_by_somebody_else_goes_on": (),
    "test_executors::test_workers_end_with_their_parent": (),
    "test_slurm::test_a_job_that_dies_is_submitted_again": (),
    "test_slurm::test_a_signal_cancels_the_jobs": (),
    "test_executors::test_keep_going_and_fail_fast": (),
    "test_executors::test_a_signal_stops_everything": ("15",),
    "test_executors::test_a_cell_has_a_process_and_a_device_of_its_own": (),
    "test_executors::test_a_busy_cell_waits_while_others_go_on": (),
    "test_executors::test_workers_take_over_what_the_parent_has_now": (),
    "test_reproduce_processes::test_ctrl_c_saves_and_the_same_command_goes_on": (),
    "test_reproduce::test_no_ray_is_imported_without_need": (),
    "test_ray::test_the_command_prints_its_result_only": (),
    "test_ray::test_retries_are_bounded": (),
    "test_ray::test_workers_stay_warm_and_have_what_they_asked_for": (),
    "test_run_cell::test_the_data_is_read_once_for_cells_in_a_row": (),
    "test_run_cell::test_the_report_says_what_was_left_out": (),
    "test_trade_off::test_cells_without_the_results_are_a_problem_and_no_crash": (),
    "test_report::test_the_papers_numbers_do_not_stand_beside_other_settings": (),
    "test_report::test_one_seed_keeps_the_error_that_was_measured": (),
    "test_report::test_a_damaged_study_file_still_gives_a_report": ("- 1",),
    "test_report_in_a_browser::test_a_diagnosis_fits_the_window_too": (),
    # flow matching: its maps, integral and samples stay
    "test_contract::test_mean_of_the_kl_equals_its_integral": OTHER_PRIORS,
    "test_contract::test_density_without_its_log_determinant_does_not": OTHER_PRIORS,
    "test_contract::test_stretched_samples_do_not": OTHER_PRIORS,
    "test_contract::test_log_determinants_are_those_of_autograd": tuple(
        f"kind='{kind}'" for kind in OTHER_PRIORS
    ),
    # fits: the densities that every prior shares are tested in tests/priors
    "test_fit::test_a_fit_comes_near_the_entropy_of_q": ("mixture",),
    "test_fit::test_no_unit_of_the_codes_matters": ("Mixture", "Decoupled"),
    "test_fit::test_the_record_is_what_can_be_measured_again": ("decoupled",),
    "test_fit::test_a_prior_file_is_the_prior": ("spline", "mixture"),
    "test_fit::test_what_is_reported_of_few_codes_is_not_too_good": (),
    "test_fit::test_changed_prior_files_are_refused": ("0", "1"),
    "test_fit::test_fitting_stops_early_and_keeps_the_best": (),
    # documentation: the pages of features that other tests run as well
    "test_pages::test_code_runs": ("README", "start", "cli", "python", "recipes"),
    "test_reference::test_the_module_refreshes_a_page": (),
    "test_notebooks::test_a_notebook_runs": (),  # `make docs` runs them
    # evaluation
    "test_inception::test_the_pytorch_fid_program_gives_the_same": (),
    "test_inception::test_the_real_weights_tell_noise_from_pictures": (),
    "test_inception::test_features_are_those_of_their_network": ("64", "192"),
    "test_diagnosis::test_hardly_a_healthy_model_is_called_anything_else": (),
    "test_diagnosis::test_a_model_whose_codes_are_its_prior_is_healthy": ("0-",),
    "test_inception::test_other_holes_are_no_partial_weights": (),
    "test_disentanglement::test_a_factor_that_is_constant_in_some_draws_is_left_out_there": (),
    "test_little_memory::test_moons_metrics_are_the_same": (),
    "test_precision::test_metrics_of_float32_and_float64_agree": (),
    "test_precision_and_average::test_eval": ("float64-digits",),
    "test_precision_and_average::test_plot": ("float64-moons",),
    "test_precision_and_average::test_traverse": ("float64-moons",),
    # commands
    "test_priors::test_other_figures_work": (),
    "test_environment_errors::test_no_color_is_no_colour": (),
    "test_units::test_figures_are_in_units": (),
    "test_traverse::test_grid": ("z0",),
    "test_traverse::test_gif": ("points",),
    "test_traverse::test_gif_has_more_steps_by_default": (),
    "test_changed_data::test_commands_warn_of_other_values": ("eval", "sample"),
    "test_entry_points::test_a_backend_of_matplotlib_from_elsewhere_does_no_harm": (),
    "test_examples::test_plain_torch_by_calls_and_by_commands": (),
    "test_examples::test_diffusers_autoencoder": (),
    "test_estimate::test_steps_and_fits_are_timed_where_no_cell_ran": (),
    "test_compilation::test_training_leaves_a_plain_model": (),
    "test_command::test_the_command_gives_the_very_gain_that_was_promised": ("spline",),
    "test_command::test_a_run_that_overfits_is_told_with_the_checkpoint_from_before": (),
    "test_command::test_fid_that_dpvae_eval_has_measured_is_shown": (),
    "test_fit_prior::test_a_clear_loss_is_an_error_and_not_the_latest_run": (),
    "test_commands::test_samples_with_log_q": ("--from=posterior", "--low-posterior"),
    "test_trade_off::test_it_is_drawn_from_the_means_over_all_seeds": (),
    # untrusted input: every kind of input stays, with one text or file of each kind
    "test_fuzz::test_bad_input_ends_with_a_message": ("recipes",),
    "test_fuzz::test_file_names_of_any_bytes_are_told_on_any_terminal": (),
    "test_network::test_commands_call_nobody": (),
    "test_markup::test_a_recipe_and_a_study_called_so_go_all_the_way": (),
    "test_markup::test_a_run_that_is_called_so_is_text_in_its_diagnosis": ("<script>",),
    "test_markup::test_what_files_are_called_is_text_on_the_page": ("<script>",),
    "test_own_codes::test_numbers_are_those_of_a_model_with_these_codes": ("standard_normal",),
    "test_markup::test_what_files_say_is_text_on_the_page": ("<script>", "{{"),
    "test_markup::test_words_in_a_diagnosis_are_text_on_its_page": (),
    "test_markup::test_no_control_character_of_a_study_reaches_its_report": (),
    "test_markup::test_odd_numbers_of_a_stranger_end_in_no_traceback": (),
    "test_markup::test_a_run_folder_may_be_a_link": (),
    "test_pictures::test_a_bad_picture_of_the_user_is_named": ("a bomb", "half a picture"),
    "test_pictures::test_a_bad_picture_in_a_folder_is_named": ("a bomb", "half a picture"),
    "test_markup::test_a_folder_whose_name_is_not_utf8_is_reported_on": (),
    "test_pictures::test_other_modes_are_converted": ("CMYK", "16 bits"),
    "test_pickles::test_a_trap_is_not_sprung": ("a checkpoint", "results", "encodings"),
    "test_bombs::test_too_little_memory_is_a_message": (),
    "test_packaged_models::test_figures_and_reports_take_a_name_too": (),
    "test_packaged_models::test_no_data_is_needed": ("sample", "traverse]", "explore"),
    "test_bombs::test_the_record_of_a_study_is_read_as_carefully": ("many keys",),
    "test_bombs::test_yaml_is_refused_where_it_begins_to_grow": ("recipe",),
}


def is_slow(nodeid: str) -> bool:
    """Return whether a test belongs to the slow tier by the table above."""
    module, _, test = nodeid.rpartition("/")[2].partition(".py::")
    function, _, case = test.partition("[")
    kept = SLOW.get(f"{module}::{function}")
    return kept is not None and not case.startswith(kept or ("\0",))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the slow tier, before `-m` selects."""
    for item in items:
        if is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)
