"""Recipes of fine-tuning and transfer: numbers of their sources, and settings that cannot act."""

import dataclasses

import pytest

from deit.errors import UserError
from deit.model.variants import named_config
from deit.optim.config import ScheduleConfig
from deit.optim.schedule import learning_rate
from deit.recipes import finetune, transfer
from deit.recipes.book import get_recipe
from deit.recipes.recipe import override, second_token
from deit.recipes.start import StartConfig
from deit.recipes.tuned import lighter


def rates(recipe, steps_per_epoch=10):
    """The learning rate of every step."""
    return [
        learning_rate(
            step,
            peak_lr=recipe.optim.peak_lr(recipe.batch_size),
            config=recipe.schedule,
            steps_per_epoch=steps_per_epoch,
            epochs=recipe.epochs,
        )
        for step in range(recipe.epochs * steps_per_epoch)
    ]


@pytest.mark.parametrize(("name", "epochs"), [("finetune/paper", 25), ("finetune/readme", 30)])
def test_published_fine_tuning_has_its_numbers(name, epochs):
    """Batch 512, 5e-6 flat after five epochs of warm-up from 1e-6, 384 pixels, nothing dropped."""
    recipe = get_recipe(name)
    found = rates(recipe)
    assert (recipe.epochs, recipe.batch_size, recipe.model.img_size) == (epochs, 512, 384)
    assert found[0] == 1e-6
    assert found[60:] == pytest.approx([5e-6] * (10 * epochs - 60), rel=1e-9)
    assert recipe.optim.weight_decay == 1e-8
    assert set(recipe.model.drop_path_rates) == {0.0}
    full = get_recipe("paper/deit-base")
    assert (recipe.views, recipe.mix, recipe.order) == (full.views, full.mix, full.order)


def test_distilled_fine_tuning_asks_its_teacher_at_the_target_size():
    """Section 4: true label and teacher, both at 384 pixels."""
    recipe = get_recipe("finetune/paper-distilled")
    assert (recipe.distillation.kind, recipe.distillation.weight) == ("hard", 0.5)
    assert recipe.distillation.teacher_size == recipe.model.img_size == 384
    assert second_token(recipe.model) == "distillation"


def test_constant_schedule_stays_at_the_peak():
    """Whatever the batch; min_lr could not act and is refused."""
    config = ScheduleConfig(shape="constant", warmup_epochs=1, warmup_lr=0)
    given = {"peak_lr": 0.3, "config": config, "steps_per_epoch": 4, "epochs": 3}
    found = [learning_rate(step, **given) for step in range(12)]
    assert found == pytest.approx([0, 0.075, 0.15, 0.225, *[0.3] * 8])
    with pytest.raises(UserError, match=r"schedule.min_lr = 0.1 with schedule.shape = constant"):
        ScheduleConfig(shape="constant", min_lr=0.1)


def test_gentle_goes_on_as_the_run_did():
    """Views, mixing, normalisation, batch and clipping stay; a hundredth of the rate, a tenth of
    the epochs; what the machine decided is open again."""
    base = override(lighter("tiny"), {"run.device": "cuda:1", "run.precision": "bfloat16"})
    recipe = finetune.gentle(base, start="runs/x")
    assert (recipe.views, recipe.mix, recipe.preprocess) == (
        base.views,
        base.mix,
        base.preprocess,
    )
    assert (recipe.epochs, recipe.start) == (30, StartConfig(model="runs/x"))
    assert recipe.optim.peak_lr(recipe.batch_size) == pytest.approx(1e-5)
    assert recipe.optim.clip_norm == base.optim.clip_norm
    assert (recipe.run.device, recipe.run.precision) == ("auto", "auto")


def test_fine_tuning_a_run_that_used_a_bank_shows_new_views():
    """It is shorter than the bank, and its views are of another size."""
    base = override(get_recipe("cifar"), {"order.bank_epochs": 25})
    recipe = finetune.gentle(base, start="x")
    assert (recipe.epochs, recipe.order.bank_epochs) == (10, 0)


@pytest.mark.parametrize("epochs", [1, 2, 3, 30])
def test_gentle_probes_new_heads_first(epochs):
    """A third of the epochs at the run's peak rate, then all at a tenth of it; of any length."""
    recipe = finetune.gentle(get_recipe("cifar"), start="x", other_classes=True, epochs=epochs)
    assert recipe.start.probe_epochs == round(epochs / 3)
    assert recipe.start.probe_lr == 1e-3
    assert recipe.optim.peak_lr(recipe.batch_size) == pytest.approx(1e-4)


def test_labels_train_both_heads_of_a_distilled_model_without_a_teacher():
    """Only in fine-tuning: a fresh model with a distillation token still needs its teacher."""
    network = named_config("deit_tiny_distilled_patch16_224")
    recipe = finetune.gentle(network=network, start="x")
    assert (recipe.distillation.kind, second_token(recipe.model)) == ("label", "distillation")
    with pytest.raises(UserError, match="two class tokens"):
        dataclasses.replace(recipe, start=StartConfig())


def test_fixres_sees_crops_as_in_testing():
    """Squares of 0.57 to 0.77 of the area at a crop of 0.875; digits are not mirrored."""
    recipe = finetune.fixres()
    assert recipe.views.scale == (0.57, 0.77)
    assert recipe.start.probe_epochs == recipe.epochs
    own = finetune.fixres(get_recipe("digits-teacher"), crop_pct=1.0)
    assert (own.views.scale, own.views.flip, own.batch_size) == ((0.75, 1.0), 0.0, 50)
    assert own.start.probe_lr == pytest.approx(2e-3 * 50 / 64, rel=0.05)


def test_resized_keeps_a_name_that_tells_no_size():
    """And a timm name, in which the number is part of the name."""
    zoo = named_config("timm:vit_tiny_patch16_224")
    assert finetune.resized(zoo, 160) == dataclasses.replace(zoo, img_size=160)
    assert finetune.resized(named_config("convnet"), 48).name == "convnet"


@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "decay", "epochs", "erase", "drop_path"),
    [
        ("transfer/cifar10", "sgd", 0.01, 1e-4, 1000, 0.0, 0.0),
        ("transfer/cars", "sgd", 0.01, 1e-4, 1000, 0.0, 0.0),
        ("transfer/cifar10-adamw", "adamw", 7.5e-6, 0.05, 1000, 0.25, 0.1),
        ("transfer/cifar100", "adamw", 5e-6, 0.05, 1000, 0.25, 0.1),
        ("transfer/inat", "adamw", 7.5e-5, 0.05, 360, 0.1, 0.1),
    ],
)
def test_transfer_has_the_numbers_of_its_source(
    name, optimizer, lr, decay, epochs, erase, drop_path
):
    """As the authors gave them; the rate is that of the batch of 768 itself, and never rises."""
    recipe = get_recipe(name)
    assert (recipe.optim.optimizer, recipe.optim.weight_decay) == (optimizer, decay)
    assert (recipe.epochs, recipe.batch_size, recipe.views.erase) == (epochs, 768, erase)
    assert recipe.model.drop_path_rate == drop_path
    assert recipe.optim.peak_lr(768) == lr
    assert recipe.schedule.min_lr < lr
    assert transfer.BATCH == 768


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start.heads": "some"}, "recipe.start.heads = 'some'"),
        ({"start.heads": "new"}, "start.model empty"),
        ({"start.weights": "ema"}, "start.model empty"),
        ({"start.probe_epochs": 1}, "a network that starts at random"),
        ({"start.model": "x", "start.probe_lr": 0.1}, "start.probe_epochs = 0"),
        ({"start.model": "x", "start.probe_epochs": -1}, "from 0"),
        ({"start.model": "x", "start.probe_epochs": 1, "start.probe_lr": 0}, "above 0"),
        ({"start.model": "x", "start.probe_epochs": 61}, "at most the number of epochs"),
        ({"start.model": "x", "start.probe_epochs": 57}, "at most the 3 epochs after the probe"),
        (
            {"start.model": "x", "start.probe_epochs": 60, "schedule.warmup_epochs": 0},
            "set start.probe_lr instead",
        ),
        ({"distillation.teacher_size": 32}, "teacher_size = 32"),
    ],
)
def test_start_that_cannot_act_is_refused(changes, said):
    """Each message names the field."""
    with pytest.raises(UserError) as caught:
        override(get_recipe("digits"), changes)
    assert said in str(caught.value)


def test_two_starting_points_are_refused():
    """Published weights by model.pretrained, and a start."""
    recipe = dataclasses.replace(get_recipe("cifar"), model=named_config("timm:resnet18"))
    with pytest.raises(UserError, match="one starting point"):
        override(recipe, {"model.pretrained": True, "start.model": "x"})
