"""Recipes: the paper's numbers, values that contradict each other, and no silent change."""

from pathlib import Path

import pytest

from deit import config
from deit.errors import UserError
from deit.recipes import book, paper
from deit.recipes.recipe import Recipe, distilled, load_recipe, override, plain, save_recipe
from deit.recipes.small import DataFacts

GOLDEN = Path(__file__).parent.parent / "golden" / "recipes"


@pytest.mark.parametrize("name", book.recipe_names())
def test_recipe_is_the_one_that_was_released(name):
    """A changed default changes people's runs: it must be changed here too, on purpose."""
    expected = (GOLDEN / f"{name.replace('/', '--')}.yaml").read_text()
    assert config.to_yaml(book.get_recipe(name)) == expected


def test_every_golden_recipe_still_exists():
    """Removing or renaming a recipe breaks people's commands."""
    kept = {path.stem.replace("--", "/") for path in GOLDEN.glob("*.yaml")}
    assert kept == set(book.recipe_names())


@pytest.mark.parametrize("name", book.recipe_names())
def test_recipe_survives_yaml(name, tmp_path):
    """What a run folder keeps reruns the run."""
    recipe = book.get_recipe(name)
    save_recipe(tmp_path / "recipe.yaml", recipe)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("name", book.recipe_names())
def test_recipe_has_a_line_about_itself(name):
    """For `deit recipes list`."""
    assert 20 < len(book.describe(name)) < 140


def test_table_9_has_the_papers_numbers():
    """Every row of Table 9's DeiT column, from the paper."""
    recipe = paper.table_9("base")
    flat = config.flatten(recipe)
    published = {
        "epochs": 300,
        "batch_size": 1024,
        "optim.optimizer": "adamw",
        "optim.weight_decay": 0.05,
        "schedule.warmup_epochs": 5,
        "mix.smoothing": 0.1,
        "model.drop_rate": 0.0,
        "model.drop_path_rate": 0.1,
        "order.repeats": 3,
        "optim.clip_norm": None,
        "views.policy": "rand-augment",
        "views.magnitude": 9,
        "views.magnitude_std": 0.5,
        "mix.mixup": 0.8,
        "mix.cutmix": 1.0,
        "views.erase": 0.25,
    }
    assert {path: flat[path] for path in published} == published
    assert recipe.optim.peak_lr(1024) == pytest.approx(1e-3)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_rows_of_table_3_differ_in_the_distillation_alone(size):
    """A comparison is fair when nothing else changes."""
    plain_row = paper.table_3(size, "none")
    for method in ("soft", "hard", "distilled"):
        changed = config.differences(plain_row, paper.table_3(size, method))
        allowed = {"name", "model.second_token", "model.name"}
        assert all(d.path in allowed or d.path.startswith("distillation.") for d in changed)


def test_soft_row_has_the_papers_temperature_and_weight():
    """Eq. 2 with tau = 3 and lambda = 0.1, on the class token."""
    soft = paper.table_3("tiny", "soft").distillation
    assert (soft.kind, soft.temperature, soft.weight, soft.token) == ("soft", 3.0, 0.1, False)


def test_distilled_and_plain_undo_each_other():
    """The same recipe with and without a teacher."""
    base = book.get_recipe("digits")
    assert plain(distilled(base, "runs/t", "soft", token=True)) == base


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "recipe.epochs = 0"),
        ({"batch_size": 0}, "recipe.batch_size = 0"),
        ({"seed": -1}, "recipe.seed = -1"),
        ({"optim.accumulate": 7}, "a divisor of the batch size"),
        ({"schedule.warmup_epochs": 61}, "at most the number of epochs"),
        ({"model.second_token": "distillation"}, "a second token that some loss trains"),
        ({"distillation.kind": "hard"}, "a model of one token"),
        ({"run.workers": -1}, "recipe.run.workers = -1"),
        ({"optim.lr": 0}, "recipe.optim.lr = 0"),
        ({"ema.decay": 1}, "recipe.ema.decay = 1"),
    ],
)
def test_recipe_that_cannot_act_is_refused(changes, said):
    """Each message names the field as the user wrote it."""
    with pytest.raises(UserError) as caught:
        override(book.get_recipe("digits"), changes)
    assert said in str(caught.value)


def test_control_of_two_class_tokens_needs_both_halves():
    """kind label and second_token class belong together."""
    with pytest.raises(UserError, match="two class tokens"):
        override(paper.two_class_tokens("tiny"), {"model.second_token": "distillation"})


def test_unknown_recipe_names_the_nearest():
    """A slip of the finger."""
    with pytest.raises(UserError, match=r"did you mean paper/deit-tiny\?"):
        book.get_recipe("paper/deit-tny")


@pytest.mark.parametrize("image_size", [1, 8, 28, 32, 64, 96, 100, 256, 4000])
@pytest.mark.parametrize("num_images", [2, 50, 1000, 60_000, 2_000_000])
def test_folder_recipe_fits_any_data(image_size, num_images):
    """From two images to millions, from one pixel to thousands."""
    facts = DataFacts(num_images=num_images, num_classes=2, image_size=image_size)
    for name in book.SIZED_RECIPES:
        recipe = book.get_recipe(name, facts)
        assert isinstance(recipe, Recipe)
        if name != "folder-adapted":  # its network was trained at a size of its own
            assert recipe.model.img_size <= max(image_size, 16) * 2
        assert 1 <= recipe.epochs <= 300
        assert recipe.batch_size <= max(num_images, 8)
