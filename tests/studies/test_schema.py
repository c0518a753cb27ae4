"""Study files: every mistake at once with its line, what comes along, what is written back."""

import pytest

from dpvae_cli.cli.reproduce import reproduce
from dpvae_cli.evaluation.metrics import METRICS
from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.recipe import RecipeError, document
from dpvae_cli.studies import catalogue
from dpvae_cli.studies.loading import load_study, study_to_yaml
from dpvae_cli.studies.plan import make_plan
from tests.studies.tiny import planned, written

NASTY = """\
titel: A study
recipes: vae_moons
axes: {seed: []}
metrics: [skl, ffid]
figures:
  - leakge
  - {kind: samples, cell: "*"}
  - kind: traversal
    steps: 1
published: table2
"""


def mistakes(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        make_plan(load_study(str(path), overrides))
    return [str(mistake) for mistake in caught.value.issues]


def test_all_mistakes_come_at_once_by_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(NASTY)
    found = mistakes(path, "seed")
    assert [text.removeprefix(f"{tmp_path}/") for text in found] == [
        'mine.yaml:1: titel: unknown key (given "A study"); did you mean title?; allowed: title, '
        "question, recipes, axes, overrides, overrides_for, metrics, figures, published, "
        "baseline, notes",
        "mine.yaml:1: title: is missing; What the report is called.",
        'mine.yaml:2: recipes: "vae_moons": input should be a valid list',
        "mine.yaml:3: axes.seed: []: list should have at least 1 item after validation, not 0",
        'mine.yaml:4: metrics[1]: "ffid" is not a metric; did you mean fid?; allowed: '
        f"{', '.join(METRICS)}",
        'mine.yaml:6: figures[0]: {"kind": "leakge"} has no kind there is; did you mean leakage?; '
        "allowed: moons, regularizers, leakage, samples, training, traversal, trade_off",
        'mine.yaml:7: figures[1].cell: unknown key (given "*"); did you mean cells?; allowed: '
        "kind, name, cells, seeds, caption",
        "mine.yaml:9: figures[2].steps: 1: input should be greater than or equal to 2",
        "mine.yaml:10: published: \"table2\": input should be 'table1'",
        "override seed: an override is key=value, such as seed=1 or training.iterations=2000",
    ]


def test_the_message_says_that_it_is_a_study(tmp_path):
    path = written(tmp_path, title=None, metrics=["skl", "x"])
    with pytest.raises(RecipeError, match="2 mistakes in the study"):
        load_study(str(path))


def test_a_recipes_mistakes_are_those_of_the_line_in_the_study(tmp_path):
    path = written(
        tmp_path,
        recipes=["vae_moons", "beta_h_moons"],
        axes={"prior": ["decoupled"], "training.iteratons": [5]},
        overrides={"data.noise": -1},
        overrides_for={"beta_*": {"regularizer.bta": 2}},
    )
    found = mistakes(path, "seed=-1", "training.batch_size=1")
    lines = path.read_text().splitlines()
    assert len(found) == 5
    for text, key in zip(found, ["iteratons:", "data.noise", "regularizer.bta"], strict=False):
        line = int(text.removeprefix(f"{path}:").partition(":")[0])
        assert key in lines[line - 1] or key in lines[line - 2], text
    assert "did you mean iterations?" in found[0]
    assert "(in vae_moons, beta_h_moons)" in found[0]
    assert found[2].endswith("(in beta_h_moons)")
    assert found[3].startswith("override seed=-1: -1 is too small")
    assert found[4].startswith("override training.batch_size=1: 1 is too small")


def test_a_key_that_only_some_recipes_know_names_those_that_do_not(tmp_path):
    path = written(tmp_path, recipes=["beta_h_moons", "vae_moons", "info_moons"])
    [found] = mistakes(path, "regularizer.beta=2")
    assert found.startswith("override regularizer.beta=2: unknown key (given 2)")
    assert found.endswith("(in vae_moons, info_moons)")
    limited = make_plan(load_study(str(path), ["regularizer.beta=2"]), only="beta_*")
    assert {cell.recipe.regularizer.beta for cell in limited.cells} == {2}
    limited = make_plan(load_study(str(path), ["beta_*:regularizer.beta=2"]))
    assert len(limited.cells) == 6


def test_recipes_that_are_not_there_and_keys_that_cannot_be(tmp_path):
    found = mistakes(written(tmp_path, recipes=["vae_mons", "none.yaml"]))
    assert (
        "recipes[0]: vae_mons: there is no packaged recipe of that name; did you mean" in found[0]
    )
    assert "recipes[1]: none.yaml: there is no such file" in found[1]
    found = mistakes(written(tmp_path, overrides={"a.b.c": 1, "seed": 3}))
    assert "a.b.c: a key is `section` or `section.field`; nothing lies deeper" in found[0]
    assert "seed: is an axis already" in found[1]


def test_unknown_studies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, said in {
        "tabel1": "did you mean table1?",
        "vae_moons": "this is a recipe, not a study; train it with: dpvae train vae_moons",
        "table1.yaml": "there is no such file; did you mean table1?",
    }.items():
        with pytest.raises(UsageError, match=said.replace("?", r"\?")):
            load_study(name)


def test_a_study_reads_back_as_it_was_written(tmp_path):
    path = written(
        tmp_path, figures=["leakage", {"kind": "traversal", "between": [[0, 1], [2, 3]]}]
    )
    loaded = load_study(str(path), ["seed=[4, 5]", "*_moons:data.train=60", "metrics=leak"])
    folder = tmp_path / "studies" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(study_to_yaml(loaded.study))
    again = load_study(str(folder / "study.yaml"))
    assert again.study == loaded.study
    assert again.name == "tiny"
    assert make_plan(again).cells == make_plan(loaded).cells


def test_the_last_override_wins(tmp_path):
    found = planned(
        tmp_path,
        "training.iterations=7",
        "prior=decoupled",
        "prior.blocks=4",
        overrides_for={
            "*": {"training.iterations": 9, "data.train": 50},
            "vae_*": {"data.test": 30},
        },
    )
    [cell] = found.cells
    assert cell.recipe.training.iterations == 7
    assert cell.recipe.prior.blocks == 4
    assert (cell.recipe.data.train, cell.recipe.data.test) == (50, 30)
    both = ["vae_*:training.iterations=8", "training.iterations=7"]
    assert planned(tmp_path, *both).cells[0].recipe.training.iterations == 7


@pytest.mark.parametrize("name", catalogue.study_names())
def test_packaged_studies_plan(name):
    loaded = load_study(name)
    found = make_plan(loaded)
    assert loaded.tree.issues == []
    assert len(found.cells) == len({cell.name for cell in found.cells})
    for figure in loaded.study.figures:
        assert found.cells_of(figure), f"{figure.stem} shows nothing"
    assert name in (reproduce.__doc__ or "")
    header = catalogue.locate_study(name).read_text().split("\n\n")[0]
    assert f"#   dpvae reproduce {name}" in header
    assert "# Paper: " in header


def test_table_1_is_twelve_methods_on_three_data_sets():
    cells = make_plan(load_study("table1", ["*_celeba:data.crop=74"])).cells
    assert len(cells) == 36
    assert len({cell.recipe.regularizer.kind for cell in cells}) == 6
    crops = {getattr(cell.recipe.data, "crop", None) for cell in cells}
    assert crops == {None, 74}
    assert all(recipe in document.recipe_names() for recipe in load_study("table1").study.recipes)
    assert len(make_plan(load_study("moons_quick")).cells) == 36
