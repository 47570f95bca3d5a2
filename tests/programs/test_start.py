"""Fine-tuning: what a starting point brings along, what is resized or new, and the probe."""

import dataclasses
import json
import shutil

import pytest
import torch

from deit import artifacts
from deit.classifier import Classifier
from deit.data.classes import ClassList
from deit.data.preprocess import Preprocess
from deit.distillation.fingerprint import weights_sha256
from deit.errors import UserError
from deit.model.adapt import adapt_weights, head_names
from deit.model.build import build_model
from deit.model.variants import named_config
from deit.model.weights import load_weights
from deit.optim.optimizer import build_optimizer
from deit.programs import train as module
from deit.programs.dry_run import dry_run
from deit.programs.probe import set_training, step_learning_rate
from deit.programs.start import choose_rows, load_start, open_start
from deit.programs.train import train
from deit.recipes.finetune import resized
from deit.recipes.recipe import override
from deit.recipes.start import StartConfig
from deit.run.checkpoint import load_newest

DIGITS = ClassList(tuple("0123456789"))
PLAIN = named_config("deit_nano_patch2_16", depth=2, embed_dim=32, num_classes=10)
DISTILLED = dataclasses.replace(PLAIN, second_token="distillation")


def built(config, seed=0):
    """A model in evaluation mode whose positions are smooth, as those of trained ones are."""
    model = build_model(config, seed).eval()
    with torch.no_grad():
        if hasattr(model, "pos_embed"):
            size = config.grid_size
            waves = torch.linspace(0, 3, size)[:, None] * torch.linspace(0.1, 1, config.embed_dim)
            grid = waves.sin()[:, None] + waves.cos()[None]
            model.pos_embed[:, config.num_learned_tokens :] = grid.reshape(1, size**2, -1)
    return model


def start_at(config, img_size):
    """The weights of one model in another of the same kind for another image size."""
    source, target = built(config), build_model(resized(config, img_size), 7).eval()
    notes = adapt_weights(source, target, range(10))
    return source, target, notes


@pytest.mark.parametrize("img_size", [24, 32, 8, 10])
def test_positions_are_resized_and_keep_their_norm(img_size):
    """Up and down: the mean norm changes by less than 3 %, the class token's entry not at all."""
    source, target, notes = start_at(DISTILLED, img_size)
    before, after = source.pos_embed[0, 2:].norm(dim=-1), target.pos_embed[0, 2:].norm(dim=-1)
    assert after.mean().item() == pytest.approx(before.mean().item(), rel=0.03)
    assert torch.equal(source.pos_embed[:, :2], target.pos_embed[:, :2])
    assert "resized from 8 x 8" in notes[0]


@pytest.mark.parametrize("name", ["convnet_small", "torchvision:resnet18", "timm:resnet10t"])
def test_convnets_start_at_any_size_with_their_statistics(name):
    """The same logits as the source for the same images, BatchNorm's buffers included."""
    config = named_config(name, img_size=16, num_classes=10)
    source, images = build_model(config, 0), torch.randn(3, 3, 40, 40)
    source.train()(images)
    target = build_model(resized(config, 40), 1)
    adapt_weights(source.eval(), target, range(10))
    assert torch.equal(source(images).cls, target.eval()(images).cls)


@pytest.mark.parametrize("config", [PLAIN, DISTILLED, named_config("convnet_small")])
def test_classes_of_a_subset_keep_their_logits_without_training(config):
    """Seven and three of ten classes, in another order: the same rows, and so the same logits.

    But for the last bit: a product of other shape may add up in another order.
    """
    config = dataclasses.replace(config, num_classes=10)
    source, target = built(config), build_model(dataclasses.replace(config, num_classes=2), 5)
    adapt_weights(source, target, [7, 3])
    images = torch.randn(4, 3, config.img_size, config.img_size)
    ours, theirs = target.eval()(images), source(images)
    for mine, whole in zip(ours, theirs, strict=True):
        if mine is not None:
            torch.testing.assert_close(mine, whole[:, [7, 3]], rtol=1e-5, atol=1e-6)
    for name in head_names(source):
        old, new = source.get_submodule(name), target.get_submodule(name)
        assert torch.equal(new.weight, old.weight[[7, 3]])
        assert torch.equal(new.bias, old.bias[[7, 3]])


def test_new_rows_are_as_the_initialisation_draws_them():
    """A known class keeps its row, an unknown one has the fresh model's."""
    source, target = built(PLAIN), build_model(dataclasses.replace(PLAIN, num_classes=2), 5)
    fresh = target.head.weight.detach().clone()
    adapt_weights(source, target, [4, None])
    assert torch.equal(target.head.weight[0], source.head.weight[4])
    assert torch.equal(target.head.weight[1], fresh[1])


def test_plain_model_gets_a_second_token_that_starts_where_the_first_stands():
    """Its head and position are the class token's; the tokens differ, or they would never part."""
    source, target = built(PLAIN), build_model(DISTILLED, 5)
    drawn = target.dist_token.detach().clone()
    (note,) = adapt_weights(source, target, range(10))
    assert torch.equal(target.dist_token, source.cls_token + drawn)
    assert torch.equal(target.pos_embed[:, 1], source.pos_embed[:, 0])
    assert torch.equal(target.pos_embed[:, 2:], source.pos_embed[:, 1:])
    assert torch.equal(target.head_dist.weight, source.head.weight)
    assert "second token was added" in note


def test_distilled_model_can_lose_its_second_token():
    """Positions of class token and patches stay; the class head too."""
    source, target = built(DISTILLED), build_model(PLAIN, 5)
    (note,) = adapt_weights(source, target, range(10))
    assert torch.equal(target.pos_embed[:, 0], source.pos_embed[:, 0])
    assert torch.equal(target.pos_embed[:, 1:], source.pos_embed[:, 2:])
    assert torch.equal(target.head.weight, source.head.weight)
    assert "left out" in note


@pytest.mark.parametrize("change", [{"depth": 3}, {"embed_dim": 64}, {"patch_size": 4}])
def test_another_architecture_is_refused(change):
    """Names the field with both values."""
    with pytest.raises(UserError, match=f"{next(iter(change))} = "):
        adapt_weights(built(PLAIN), build_model(dataclasses.replace(PLAIN, **change), 0), range(10))


def test_network_of_fixed_size_is_refused_at_another():
    """A transformer of torchvision, which nothing resizes."""
    config = named_config("torchvision:vit_b_32", img_size=224, num_classes=10)
    state = build_model(config, 0)
    state.network.encoder.pos_embedding = torch.nn.Parameter(torch.zeros(1, 5, 768))
    with pytest.raises(UserError, match="another image size"):
        adapt_weights(state, build_model(config, 0), range(10))


def origin(classes, num_classes=10):
    """A classifier of digits, with or without names."""
    return Classifier("it", build_model(PLAIN, 0), Preprocess(image_size=16), classes, num_classes)


def test_rows_follow_names():
    """All known, some, none; asked for new ones."""
    known = origin(DIGITS)
    assert choose_rows(known, ClassList(("7", "3")), "auto")[0] == (7, 3)
    assert choose_rows(known, ClassList(("7", "x")), "auto")[0] == (7, None)
    assert choose_rows(known, ClassList(("x", "y")), "auto") == (
        (None, None),
        "none of the 2 classes is known to it: new heads",
    )
    assert choose_rows(known, DIGITS, "new")[0] == [None] * 10
    with pytest.raises(UserError, match=r"does not know these classes of the data: x"):
        choose_rows(known, ClassList(("7", "x")), "keep")


def test_rows_without_names_are_kept_where_their_number_fits():
    """That the order is taken to be the data's is said; another number gives new heads."""
    rows, note = choose_rows(origin(None), ClassList(tuple("abcdefghij")), "auto")
    assert list(rows) == list(range(10))
    assert "without names" in note
    assert choose_rows(origin(None), ClassList(("a", "b")), "auto")[0] == [None, None]
    with pytest.raises(UserError, match="10 classes without names, the data has 2"):
        choose_rows(origin(None), ClassList(("a", "b")), "keep")


def test_fingerprint_is_of_names_and_values():
    """One changed bit of a buffer, and nothing else, changes it."""
    model = build_model(named_config("convnet_small", num_classes=2), 0)
    before = weights_sha256(model)
    assert before == weights_sha256(build_model(model.config, 0))
    model.bn1.num_batches_tracked += 1
    assert weights_sha256(model) != before


def test_timms_deit_becomes_ours_and_says_the_same():
    """So that it can be brought to another size; timm's own would be for one size."""
    from deit.foreign import load_zoo_classifier
    from deit.model.adapt import as_ours

    theirs = load_zoo_classifier("timm:deit_tiny_patch16_224", pretrained=False).model
    ours = as_ours(theirs)
    images = torch.randn(1, 3, 224, 224)
    assert head_names(ours) == ("head",)
    torch.testing.assert_close(ours(images).cls, theirs(images).cls, rtol=1e-4, atol=1e-5)


def test_probe_moves_the_heads_alone():
    """Two steps with decay: everything else stays as it was, bit for bit, and has no moments."""
    config = named_config("convnet_small", width=8, num_classes=3, img_size=8)
    model = build_model(config, 0)
    optimizer = build_optimizer(model, dataclasses.replace(module_optim(), weight_decay=0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):
        set_training(model, optimizer, probing=True)
        model(torch.randn(4, 3, 8, 8)).cls.square().sum().backward()
        optimizer.step()
    moved = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {"fc.weight", "fc.bias"}
    assert len(optimizer.state) == 2
    set_training(model, optimizer, probing=False)
    assert model.bn1.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def module_optim():
    """AdamW at a rate that moves things."""
    from deit.optim.config import OptimConfig

    return OptimConfig(lr=0.01)


@pytest.fixture
def tuned_recipe(busy_recipe, tmp_path):
    """The busy recipe at 12 px from a model of its own shape: a probe of one epoch, then two."""
    source = dataclasses.replace(busy_recipe.model, num_classes=10)
    preprocess = Preprocess(image_size=8, mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0)
    folder = tmp_path / "start"
    folder.mkdir()
    path = folder / "model.safetensors"
    artifacts.save_model(path, build_model(source, 3), source, DIGITS, preprocess)
    start = StartConfig(model=str(path), probe_epochs=1, probe_lr=0.01)
    return dataclasses.replace(busy_recipe, model=resized(busy_recipe.model, 12), start=start)


def tensors(run):
    """What the last checkpoint of a run holds."""
    checkpoint, _ = load_newest(run / "checkpoints")
    return checkpoint.tensors


def test_probe_and_what_follows_are_the_same_after_stops(tuned_recipe, tmp_path):
    """Stopped within the probe, at its end and after it; the start's file is gone by then."""
    whole = train(tuned_recipe, tmp_path / "whole")
    train(tuned_recipe, tmp_path / "run", stop_step=2)
    shutil.rmtree(tmp_path / "start")
    for stop in (4, 5, None):
        train(tuned_recipe, tmp_path / "run", resume=True, stop_step=stop)
    ours, theirs = tensors(tmp_path / "run"), tensors(whole.path)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_nothing_is_dropped_in_the_probe(tuned_recipe, tmp_path):
    """Neither branches nor activations: the same heads as with all rates at 0."""
    off = override(tuned_recipe, {"model.drop_path_rate": 0, "model.drop_rate": 0})
    for name, recipe in (("on", tuned_recipe), ("off", off)):
        train(recipe, tmp_path / name, stop_step=2)
    ours, theirs = tensors(tmp_path / "on"), tensors(tmp_path / "off")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_probe_leaves_the_backbone_of_the_start_in_the_run(tuned_recipe, tmp_path):
    """At the end of the probe only the heads differ from the start, average included."""
    train(tuned_recipe, tmp_path / "run", stop_step=4)
    found, before = tensors(tmp_path / "run"), load_weights(tmp_path / "start/model.safetensors")
    same = {name for name in before if torch.equal(found[f"model.{name}"], before[name])}
    heads = {f"{head}.{part}" for head in ("head", "head_dist") for part in ("weight", "bias")}
    assert before.keys() - same == heads | {"pos_embed"}
    assert torch.equal(found["ema.blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])
    assert not any(name.startswith("optimizer.exp_avg.blocks") for name in found)


def test_run_keeps_what_it_started_from(tuned_recipe, tmp_path):
    """Name, sum of the weights and notes; a resume without a checkpoint checks the sum."""
    train(tuned_recipe, tmp_path / "run", stop_step=1)
    told = json.loads((tmp_path / "run/data.json").read_text())["start"]
    model = artifacts.load_classifier(tuned_recipe.start.model).model
    assert told["sha256"] == weights_sha256(model)
    assert "kept for all 10 classes" in told["notes"][0]
    shutil.rmtree(tmp_path / "run/checkpoints")
    with torch.no_grad():
        model.head.bias += 1
    torch_path = tmp_path / "start/model.safetensors"
    artifacts.save_weights(model.state_dict(), torch_path)
    with pytest.raises(UserError, match="holds other weights"):
        train(tuned_recipe, tmp_path / "run", resume=True)


def test_resume_without_a_checkpoint_begins_at_the_start_again(tuned_recipe, tmp_path):
    """And not at random parameters."""
    train(tuned_recipe, tmp_path / "whole", stop_step=3)
    train(tuned_recipe, tmp_path / "run", stop_step=1)
    shutil.rmtree(tmp_path / "run/checkpoints")
    train(tuned_recipe, tmp_path / "run", resume=True, stop_step=3)
    ours, theirs = tensors(tmp_path / "run"), tensors(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_errors_of_the_start_come_before_the_images_are_checked(
    tuned_recipe, tmp_path, monkeypatch
):
    """A model that is not there, another architecture, another normalisation."""
    monkeypatch.setattr(module, "check_data", None)  # calling it would raise
    for changes, said in (
        ({"start.model": str(tmp_path / "nobody")}, "nobody"),
        ({"model.depth": 3}, "depth = 3 .start: 2"),
        ({"preprocess.mean": "0.4,0.5,0.5"}, "normalisation of start.model"),
    ):
        with pytest.raises(UserError, match=said):
            train(override(tuned_recipe, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_onnx_file_cannot_be_started_from(monkeypatch):
    """It has no parameters."""
    from deit.model.onnx_network import OnnxNetwork

    network = OnnxNetwork.__new__(OnnxNetwork)
    other = dataclasses.replace(origin(DIGITS), model=network)
    monkeypatch.setattr(artifacts, "load_classifier", lambda *_, **__: other)
    with pytest.raises(UserError, match="an ONNX file can teach, but not be trained"):
        open_start(StartConfig(model="x.onnx"))


def test_dry_run_starts_there_too(tuned_recipe):
    """Its notes are said."""
    said = []
    assert dry_run(tuned_recipe, said.append).total_steps == 12
    assert any("position embeddings resized" in text for text in said)


def test_rate_of_the_probe_is_constant_and_the_schedule_begins_after_it(tuned_recipe):
    """One epoch of four steps at 0.01, then warm-up from its beginning."""
    rates = [step_learning_rate(tuned_recipe, step, 4) for step in range(12)]
    assert rates[:4] == [0.01] * 4
    assert rates[4] == tuned_recipe.schedule.warmup_lr
    assert rates[8] == pytest.approx(tuned_recipe.optim.peak_lr(50))


def test_no_start_is_none(busy_recipe):
    """Random parameters, as before."""
    assert load_start(busy_recipe, DIGITS, print) is None
