"""From words to a recipe."""

import pytest

from deit.cli.options import recipe_fields, split_overrides
from deit.cli.training import Train, build_recipe
from deit.errors import UserError
from deit.recipes.book import get_recipe
from deit.recipes.recipe import override, save_recipe


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
    options = Train(data="digits", recipe="digits", config=tmp_path / "c.yaml", epochs=8)
    recipe = build_recipe(options, {"optim.lr": "0.5"}, default="folder", model=None)
    assert (recipe.epochs, recipe.optim.lr, recipe.optim.clip_norm) == (8, 0.5, 2.0)
    assert recipe.optim.weight_decay == get_recipe("digits").optim.weight_decay


def test_a_runs_recipe_file_reruns_it(tmp_path):
    """-c RUN/recipe.yaml needs nothing else."""
    recipe = override(get_recipe("digits-teacher"), {"data.source": "digits", "seed": 5})
    save_recipe(tmp_path / "recipe.yaml", recipe)
    options = Train(config=tmp_path / "recipe.yaml")
    assert build_recipe(options, {}, default="folder", model=None) == recipe


def test_help_lists_every_field_of_a_recipe_with_its_meaning():
    """No field without a sentence."""
    lines = recipe_fields().splitlines()
    fields = [place for place, line in enumerate(lines) if line.startswith("  ") and line[2] != " "]
    assert len(fields) > 60
    assert all(lines[place + 1].startswith("      ") for place in fields)
