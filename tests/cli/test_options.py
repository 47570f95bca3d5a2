"""From words to a recipe."""

from pathlib import Path

import pytest

from deit import config
from deit.cli.options import recipe_fields, split_overrides
from deit.cli.recipes import find_recipe
from deit.cli.training import Distill, Teach, Train, build_distilled, build_recipe, build_teacher
from deit.errors import UserError
from deit.model.variants import named_config
from deit.recipes.book import get_recipe
from deit.recipes.recipe import distilled, override, save_recipe
from deit.run import folder


def test_three_ways_to_write_an_override_are_the_same():
    """--a.b v, --a.b=v and a.b=v."""
    for words in (["--optim.lr", "1e-3"], ["--optim.lr=1e-3"], ["optim.lr=1e-3"]):
        assert split_overrides(["x", *words, "--seed", "3"]) == (
            ["x", "--seed", "3"],
            {"optim.lr": "1e-3"},
        )


def test_override_without_a_value_is_refused():
    """The last word of a command."""
    with pytest.raises(UserError, match=r"--optim.lr without a value"):
        split_overrides(["--optim.lr"])


def test_paths_with_dots_and_equals_are_no_overrides():
    """Only names of fields stand before the sign."""
    words = ["./a=b", "runs/x.y", "--out=runs/x"]
    assert split_overrides(words) == (words, {})


def test_later_words_win_over_recipe_file_and_short_options(tmp_path):
    """Recipe, then -c FILE, then short options, then dotted overrides."""
    (tmp_path / "c.yaml").write_text("epochs: 7\noptim: {lr: 1e-2, clip_norm: 2}\n")
    options = Train(data="digits", recipe="digits", config=tmp_path / "c.yaml", epochs="8")
    recipe = build_recipe(options, {"optim.lr": "0.5"}, default="folder", model=None)
    assert (recipe.epochs, recipe.optim.lr, recipe.optim.clip_norm) == (8, 0.5, 2.0)
    assert recipe.optim.weight_decay == get_recipe("digits").optim.weight_decay


def test_a_runs_recipe_file_reruns_it(tmp_path):
    """-c RUN/recipe.yaml needs nothing else."""
    recipe = override(get_recipe("digits-teacher"), {"data.source": "digits", "seed": 5})
    save_recipe(tmp_path / "recipe.yaml", recipe)
    options = Train(config=tmp_path / "recipe.yaml")
    assert build_recipe(options, {}, default="folder", model=None) == recipe


def test_a_whole_recipe_file_still_gets_its_teacher_and_its_model(tmp_path):
    """`deit distill --teacher T --model NAME -c full.yaml` is no plain run."""
    save_recipe(tmp_path / "full.yaml", override(get_recipe("digits"), {"data.source": "digits"}))
    words = {"config": tmp_path / "full.yaml", "model": "deit_nano_patch1_8"}
    recipe = build_distilled(Distill(teacher="runs/t", **words), {})
    assert (recipe.distillation.kind, recipe.distillation.teacher) == ("hard", "runs/t")
    assert (recipe.model.name, recipe.model.second_token) == ("deit_nano_patch1_8", "distillation")
    assert recipe.epochs == get_recipe("digits").epochs


def test_some_fields_of_a_model_leave_the_rest_of_the_recipe(tmp_path):
    """-c with `model: {depth: 6}` is set over the recipe for the data."""
    (tmp_path / "c.yaml").write_text("model: {depth: 6}\n")
    options = Train(data="digits", config=tmp_path / "c.yaml")
    recipe = build_recipe(options, {}, default="folder", model=None)
    expected = override(get_recipe("digits"), {"model.depth": 6, "data.source": "digits"})
    assert recipe == expected


def test_data_of_a_file_or_an_override_is_data(tmp_path):
    """Recipes that size themselves find it there too."""
    (tmp_path / "c.yaml").write_text("data: {source: digits}\n")
    of_file = build_recipe(Train(config=tmp_path / "c.yaml"), {}, default="folder", model=None)
    of_word = build_recipe(Train(), {"data.source": "digits"}, default="folder", model=None)
    assert of_file == of_word == override(get_recipe("digits"), {"data.source": "digits"})
    with pytest.raises(UserError, match="leave one out"):
        build_recipe(Train(data="digits"), {"data.source": "photos"}, default="folder", model=None)


def test_options_of_a_verb_win_over_a_file(tmp_path):
    """--teacher, --kind and --model against the same fields of -c FILE; the file's others stay."""
    (tmp_path / "c.yaml").write_text(
        "model: {name: deit_nano_patch2_8, depth: 3}\n"
        "distillation: {teacher: file, kind: hard, weight: 0.3}\n"
    )
    words = {"teacher": "word", "kind": "soft", "model": "deit_nano_patch1_8"}
    options = Distill(data="digits", config=tmp_path / "c.yaml", **words)
    recipe = build_distilled(options, {})
    assert (recipe.model.name, recipe.model.depth) == ("deit_nano_patch1_8", 3)
    found = recipe.distillation
    assert (found.teacher, found.kind, found.weight) == ("word", "soft", 0.3)


def test_teacher_of_a_file_is_enough(tmp_path):
    """`deit distill -c FILE` with `distillation: {teacher: T, token: false}`."""
    (tmp_path / "c.yaml").write_text("distillation: {teacher: T, token: false}\n")
    recipe = build_distilled(Distill(data="digits", config=tmp_path / "c.yaml"), {})
    assert recipe == build_distilled(Distill(data="digits", teacher="T", form="class"), {})


def test_distilling_keeps_the_recipes_own_way(tmp_path):
    """Another teacher or form leaves weight and temperature; another kind takes the paper's."""
    base = distilled(get_recipe("digits"), "old", "soft", token=False)
    changes = {"distillation.weight": 0.3, "distillation.temperature": 2, "data.source": "digits"}
    save_recipe(tmp_path / "r.yaml", override(base, changes))
    ways = {}
    for key, words in {
        "teacher": {"teacher": "new"},
        "form": {"form": "token"},
        "kind": {"kind": "hard"},
    }.items():
        found = build_distilled(Distill(recipe=str(tmp_path / "r.yaml"), **words), {})
        setting = found.distillation
        ways[key] = (setting.kind, setting.token, setting.weight, setting.temperature)
    assert ways == {
        "teacher": ("soft", False, 0.3, 2.0),
        "form": ("soft", True, 0.3, 2.0),
        "kind": ("hard", False, 0.5, 3.0),
    }


def test_teachers_network_is_the_recipes_unless_asked_for():
    """The digits have a smaller convnet than --arch convnet."""
    options = Teach(data="digits")
    assert build_teacher(options, {}).model == get_recipe("digits-teacher").model
    chosen = build_teacher(Teach(data="digits", arch="convnet"), {}).model
    assert chosen == named_config("convnet", img_size=8)


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The folder of a run distilled from T in soft kind."""
    options = Distill(data="digits", teacher="T", kind="soft", model="deit_nano_patch1_8")
    recipe = build_distilled(options, {"model.depth": "3"})
    folder.create(tmp_path / "run", override(recipe, {"model.num_classes": 10}), {})
    return tmp_path / "run"


def test_resuming_with_the_same_words_gives_the_same_recipe(started):
    """All of them, some, or none."""
    kept = folder.open_run(started)[1]
    for words in (
        {},
        {"teacher": "T"},
        {"kind": "soft"},
        {"form": "token"},
        {"model": "deit_nano_patch1_8"},
    ):
        options = Distill(out=started, resume=True, **words)
        assert build_distilled(options, {}) == kept
    whole = {"data": "digits", "teacher": "T", "kind": "soft", "recipe": "folder"}
    options = Distill(out=started, resume=True, model="deit_nano_patch1_8", **whole)
    again = build_distilled(options, {"model.depth": "3", "model.num_classes": "10"})
    assert config.differences(kept, again) == []


def test_resuming_with_other_words_does_not_drop_them(started, tmp_path):
    """Each of them shows in the recipe, so that the run refuses to go on."""
    kept = folder.open_run(started)[1]
    (tmp_path / "c.yaml").write_text("model: {depth: 2}\n")
    for words in (
        {"teacher": "U"},
        {"kind": "hard"},
        {"form": "class"},
        {"model": "deit_nano_patch2_8"},
        {"recipe": "cifar", "teacher": "T"},
        {"config": tmp_path / "c.yaml"},
    ):
        changed = build_distilled(Distill(out=started, resume=True, **words), {})
        with pytest.raises(UserError, match="changed recipe"):
            folder.check_same_recipe(kept, changed, started)


def test_recipe_is_a_name_a_file_or_a_run(started):
    """--recipe takes what `deit recipes show` takes."""
    kept = folder.open_run(started)[1]
    for name in (str(started), str(started / "recipe.yaml")):
        options = Train(recipe=name)
        assert build_recipe(options, {}, default="folder", model=None) == kept == find_recipe(name)


def test_part_of_a_recipe_is_no_recipe(tmp_path):
    """--recipe FILE does not fill a file up with bare defaults."""
    (tmp_path / "c.yaml").write_text("model: {depth: 6}\n")
    with pytest.raises(UserError, match=r"leaves out name, seed"):
        build_recipe(Train(recipe=str(tmp_path / "c.yaml")), {}, default="folder", model=None)


def test_help_lists_every_field_of_a_recipe_with_its_meaning():
    """No field without a sentence."""
    lines = recipe_fields().splitlines()
    fields = [place for place, line in enumerate(lines) if line.startswith("  ") and line[2] != " "]
    assert len(fields) > 60
    assert all(lines[place + 1].startswith("      ") for place in fields)


def test_run_that_is_cut_short_gets_a_warmup_that_fits(capsys):
    """--epochs 3 needs no further option; a stated warm-up is left alone."""
    options = Train(data="digits", recipe="digits", epochs="3")
    recipe = build_recipe(options, {}, default="folder", model=None)
    assert (recipe.epochs, recipe.schedule.warmup_epochs) == (3, 0.3)
    assert "warm-up shortened" in capsys.readouterr().out
    recipe = build_recipe(options, {"schedule.warmup_epochs": 2}, default="folder", model=None)
    assert recipe.schedule.warmup_epochs == 2
