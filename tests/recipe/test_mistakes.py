"""Every mistake at once, each with place, given value, what is allowed and what was meant."""

import pickle

import pytest

from dpvae_cli.recipe import RecipeError, from_dict, load_recipe
from dpvae_cli.recipe.document import MAX_LISTED
from dpvae_cli.recipe.validation import kinds
from tests.recipe.writing import MINIMAL, mistakes, written

PRIORS = ", ".join(kinds("prior"))
NASTY = """\
data: {kind: moon}
architecture:
  kind: mlp
  hidden: [100, a]
regularizer: {kind: beta_h, bta: 1}
training:
  iteratons: 5
  batch_size: 1
"""


def test_all_mistakes_of_file_and_overrides_come_at_once_by_line(tmp_path):
    path = written(tmp_path, NASTY)
    found = mistakes(path, "training.learning_rate=fast", "sed=1", "seed", "prior.blocks=[")
    assert [text.split(": ", 1)[0] for text in found] == [
        "mine.yaml:1",
        "mine.yaml:1",
        "mine.yaml:4",
        "mine.yaml:5",
        "mine.yaml:7",
        "mine.yaml:8",
        "override training.learning_rate=fast",
        "override sed=1",
        "override seed",
        "override prior.blocks=[",
    ]


def test_a_broken_file_does_not_hide_broken_overrides(tmp_path):
    found = mistakes(written(tmp_path, "a: [\n"), "seed", "seed=1")
    assert len(found) == 2
    assert found[1].startswith("override seed: an override is key=value")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "training.iteratons=5",
            "unknown key (given 5); did you mean iterations?; allowed: iterations, batch_size, "
            "learning_rate, gradient_clip, precision, compile, ema, log_every, validate_every, "
            "checkpoint_every, tensorboard, trackers",
        ),
        (
            "iterations=5",
            "unknown key (given 5); did you mean training.iterations?; allowed: data, "
            "architecture, likelihood, prior, regularizer, training, fit_prior, fitting, "
            "evaluation, seed",
        ),
        (
            "regularizer.lambda_=5",
            "unknown key (given 5); allowed: kind, warm_up, beta",
        ),
        (
            "regularizer.width=5",
            "unknown key (given 5); beta_h has no width, factor has; allowed: kind, warm_up, beta",
        ),
        (
            "training.iterations=abc",
            '"abc" is not a whole number; allowed: a whole number, at least 1',
        ),
        (
            "training.iterations=2.5",
            "2.5 is not a whole number; allowed: a whole number, at least 1",
        ),
        (
            "training.iterations=2.0e3",
            "2000.0 is not a whole number; did you mean 2000?; allowed: a whole number, at least 1",
        ),
        (
            "training.iterations=10_000",
            '"10_000" is not a whole number; did you mean 10000?; allowed: '
            "a whole number, at least 1",
        ),
        (
            "training.batch_size=1",
            "1 is too small; allowed: a whole number, at least 2",
        ),
        (
            "training.batch_size=true",
            "true is not a whole number; allowed: a whole number, at least 2",
        ),
        (
            "training.learning_rate=0",
            "0 is too small; allowed: a number, above 0",
        ),
        (
            "training.learning_rate=.inf",
            ".inf is not finite; allowed: a number, above 0",
        ),
        (
            "training.learning_rate='1e-4'",
            '"1e-4" is not a number; did you mean 0.0001?; allowed: a number, above 0',
        ),
        (
            "training.tensorboard=on",
            '"on" is neither true nor false; did you mean true?; allowed: true or false',
        ),
        (
            "data={kind: arrays, path: 17}",
            "data.path: 17 is not text; put it in quotes; allowed: text",
        ),
        (
            "data=arrays",
            "data.path: is missing; arrays needs it: text",
        ),
        (
            "architecture.activation=rleu",
            '"rleu" is not one of the words; did you mean relu?; '
            "allowed: relu, leaky_relu, tanh, identity",
        ),
        (
            "architecture.hidden=100",
            "100 is not a list; allowed: a list (each a whole number, above 0)",
        ),
        (
            "architecture.hidden=[100, -5]",
            "architecture.hidden[1]: -5 is too small; allowed: a whole number, above 0",
        ),
        (
            "architecture.log_variance_range=[1]",
            "[1] has too few items; allowed: a list of 2 (each a number)",
        ),
        (
            "architecture.log_variance_range=[1, 2, 3]",
            "[1, 2, 3] has too many items; allowed: a list of 2 (each a number)",
        ),
        (
            "architecture.log_variance_range=[3, 1]",
            "[3, 1]: the lower end must be below the upper end",
        ),
        (
            "evaluation.quantiles=[0.5, 2]",
            "evaluation.quantiles[1]: 2 is too large; allowed: a number, above 0, below 1",
        ),
        (
            "prior.masks=hlaves",
            '"hlaves" is not allowed; did you mean halves?; allowed: halves, alternating or '
            "a list (each a list (each a whole number, at least 0, at most 1))",
        ),
        (
            "prior.masks=[[0, 2], [1, 0]]",
            "prior.masks[0][1]: 2 is too large; allowed: a whole number, at least 0, at most 1",
        ),
        (
            "prior.scale_bound=wide",
            '"wide" is not a number; allowed: a number, above 0 or null',
        ),
        (
            "prior=decoupld",
            f'unknown kind "decoupld"; did you mean decoupled?; allowed kinds: {PRIORS}',
        ),
        (
            "prior={blocks: 4}",
            f"the section has no kind; allowed kinds: {PRIORS}",
        ),
        (
            "prior=[1]",
            "[1] is not a section; write a kind or {kind: ..., field: ...}; "
            f"allowed kinds: {PRIORS}",
        ),
        (
            "prior.kind=null",
            f"prior: unknown kind null; allowed kinds: {PRIORS}",
        ),
        (
            "training=fast",
            '"fast" is not a section; its fields: iterations, batch_size, learning_rate, '
            "gradient_clip, precision, compile, ema, log_every, validate_every, checkpoint_every, "
            "tensorboard, trackers",
        ),
        (
            "likelihood={kind: gaussian, learned: true, scale: 1e-5}",
            "a learned scale must start above floor (0.001)",
        ),
        ("seed=", "there is no value after ="),
        ("seed=-1", "-1 is too small; allowed: a whole number, at least 0"),
        ("a.b.c=1", "a key is `section` or `section.field`; nothing lies deeper"),
        (".seed=1", "an override is key=value, such as seed=1 or training.iterations=2000"),
        (
            "data.path=*x",
            "*x is an alias; write its value out, or quote it (character 1 of the value)",
        ),
    ],
)
def test_a_mistake_says_what_was_given_what_is_allowed_and_what_was_meant(
    tmp_path, override, expected
):
    found = mistakes(written(tmp_path, MINIMAL), override)
    assert found == [f"override {override}: {expected}"]


def test_overriding_a_field_of_a_single_value_is_a_mistake(tmp_path):
    path = written(tmp_path, MINIMAL + "seed: 3\n")
    assert mistakes(path, "seed.x=1") == ["override seed.x=1: seed is 3, which has no fields"]


def test_a_missing_section_points_at_the_file_and_lists_its_kinds(tmp_path):
    path = written(tmp_path, "# mine\ndata: moons\narchitecture: mlp\nregularizer: vae\n")
    assert mistakes(path) == [
        "mine.yaml:1: likelihood: the section is missing; allowed kinds: gaussian, bernoulli"
    ]


def test_a_mistake_in_a_replaced_section_is_gone(tmp_path):
    path = written(tmp_path, MINIMAL + "prior: {kind: decoupled, blocks: none}\n")
    assert load_recipe(path, ["prior=standard_normal"]).prior.kind == "standard_normal"


def test_a_mistake_in_a_replacing_section_points_at_the_override(tmp_path):
    path = written(tmp_path, MINIMAL + "prior:\n  kind: decoupled\n  blocks: 4\n")
    override = "prior={kind: decoupled, blocks: none}"
    assert mistakes(path, override)[0].startswith(f"override {override}: prior.blocks: ")


def test_a_prior_that_does_not_fit_is_reported_beside_other_mistakes(tmp_path):
    path = written(tmp_path, MINIMAL + "prior: decoupled\nsede: 1\n")
    found = mistakes(path, "architecture.latent_dim=1")
    assert found[0].startswith("mine.yaml:5: prior: coupling splits z in two")
    assert found[1].startswith("mine.yaml:6: sede: unknown key")
    text = MINIMAL + "prior: decoupled\n"
    assert len(mistakes(written(tmp_path, text), "architecture.latent_dim=1")) == 1


def test_long_values_and_keys_are_shortened(tmp_path):
    path = written(tmp_path, MINIMAL + f"? {'k' * 5000}\n: {'v' * 5000}\n")
    assert len(mistakes(path)[0]) < 300


def test_control_characters_are_not_sent_to_the_terminal(tmp_path):
    path = written(tmp_path, MINIMAL + r'"a\e[31m": "b\e[31m"')
    assert "\x1b" not in mistakes(path)[0]


def test_very_many_mistakes_are_counted_not_printed(tmp_path):
    path = written(tmp_path, MINIMAL + "".join(f"x{i}: 1\n" for i in range(500)))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert len(caught.value.issues) == 500
    assert str(caught.value).endswith(f"... and {500 - MAX_LISTED} more")


def test_one_mistake_is_one_line_and_the_error_survives_a_process(tmp_path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, MINIMAL), ["sed=1"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.hint) == (str(caught.value), caught.value.hint)
    assert "\n" not in str(copy)


def test_a_stored_recipe_of_another_version_is_reported_under_its_name():
    with pytest.raises(RecipeError, match=r"old: sections: unknown key"):
        from_dict({"data": "moons", "sections": 1}, name="old")
