"""Label stores in whole runs: the run that reads is the run that asks."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from deit.data.plan import keep_masks
from deit.data.sources import open_data as open_sources
from deit.distillation.label_store import LabelStore
from deit.errors import UserError
from deit.programs import labels as programs_labels
from deit.programs.prepare import load_teacher, open_data, resolve
from deit.programs.record import record_labels
from deit.programs.step import build_loader, build_parts, prepare_batch, take_step
from deit.programs.train import train
from deit.programs.verify import verify_labels
from deit.recipes.recipe import Recipe, distilled, override

from .test_resume import assert_same_tensors, final_tensors


def from_store(recipe: Recipe, *stores: Path, **changes: object) -> Recipe:
    """The same run with stored labels in place of its teacher."""
    names = ",".join(f"labels:{store}" for store in stores)
    return override(recipe, {"distillation.teacher": names, **changes})


@pytest.fixture
def store(busy_recipe: Recipe, tmp_path: Path) -> Path:
    """Labels for every view of the busy recipe."""
    return record_labels(busy_recipe, tmp_path / "store").path


def test_run_with_stored_labels_ends_in_the_weights_of_the_online_run(busy_recipe, store, tmp_path):
    """Mixing, erasing, RandAugment, dropped layers, dropout, accumulation; optimizer included."""
    online = train(busy_recipe, tmp_path / "online").path
    stored = train(from_store(busy_recipe, store), tmp_path / "stored").path
    assert_same_tensors(final_tensors(stored), final_tensors(online))
    told = [json.loads((run / "result.json").read_text())["teacher"] for run in (online, stored)]
    assert told[0]["accuracy"] == told[1]["accuracy"] > 0.5


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_written_on_the_way_are_those_recorded_ahead(busy_recipe, store, tmp_path, workers):
    """Bytes and seals of every epoch, with loader workers, and across a stop and a resume."""
    there = tmp_path / "there"
    changes = {"distillation.labels": str(there), "run.workers": workers}
    recipe = override(busy_recipe, changes)
    train(recipe, tmp_path / "run", stop_step=5)
    train(recipe, tmp_path / "run", resume=True)
    names = sorted(file.name for file in store.glob("epoch-*"))
    assert len(names) == 6
    for name in names:
        assert (there / name).read_bytes() == (store / name).read_bytes(), name


def test_every_stored_label_is_that_of_the_teacher_asked_directly(busy_recipe, store):
    """Referee: the teacher on each mixing group of the rendered batches, no store in between."""
    data = open_data(busy_recipe, print)
    recipe = resolve(busy_recipe, data)
    teacher = load_teacher(recipe, data, torch.device("cpu"))
    parts = build_parts(recipe, 4, torch.device("cpu"), None)
    held = LabelStore.open(store)
    for host in build_loader(recipe, data, torch.device("cpu")).batches(0, 12):
        images = prepare_batch(parts, host).images
        for first in range(0, len(images), recipe.mix.group):
            group = slice(first, first + recipe.mix.group)
            expected = teacher.labels(images[group], recipe.preprocess.mean, recipe.preprocess.std)
            rows, filled = held.read(host.epoch, host.positions[group].numpy())
            assert filled.all()
            assert rows["label"].tolist() == expected.tolist()


def digits_as_files(root: Path) -> Path:
    """The busy recipe's digits in folders, and packed into two shards beside them."""
    data = open_sources("digits", images_per_class=20)
    for split, source in data.splits().items():
        for index, name in enumerate(source.names):
            path = (
                root / "photos" / split / data.classes.names[source.labels[index]] / f"{name}.png"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.read(index)).save(path)
    for split in data.splits():
        with tarfile.open(root / f"{split}.tar", "w") as archive:
            archive.add(root / "photos" / split, f"photos/{split}")
    return root


def test_labels_of_a_folder_serve_its_shards_and_the_reverse(busy_recipe, tmp_path):
    """A store belongs to names, order and pixels, wherever the files lie."""
    root = digits_as_files(tmp_path)
    folder = override(busy_recipe, {"data.source": str(root / "photos")})
    shards = override(busy_recipe, {"data.source": f"{root}/{{train,val}}.tar"})
    stores = [
        record_labels(recipe, root / name).path for recipe, name in ((folder, "a"), (shards, "b"))
    ]
    for name in sorted(file.name for file in stores[0].glob("epoch-*")):
        assert (stores[0] / name).read_bytes() == (stores[1] / name).read_bytes(), name
    assert record_labels(shards, stores[0]).asked == record_labels(folder, stores[1]).asked == 0
    runs = [
        train(from_store(recipe, store), root / f"run-{number}").path
        for number, (recipe, store) in enumerate(zip((shards, folder), stores, strict=True))
    ]
    assert_same_tensors(final_tensors(runs[0]), final_tensors(runs[1]))


@pytest.mark.parametrize("batch_size", [64, 128])
def test_batch_size_and_student_do_not_change_a_label(busy_recipe, tmp_path, batch_size):
    """Any multiple of the mixing group, repeated augmentation, another student and optimizer."""
    recipe = override(busy_recipe, {"batch_size": 64, "order.repeats": 3, "optim.accumulate": 1})
    first = record_labels(recipe, tmp_path / "first").path
    other = override(
        recipe, {"batch_size": batch_size, "model.depth": 1, "optim.lr": 0.1, "mix.smoothing": 0}
    )
    second = record_labels(other, tmp_path / "second").path
    for epoch in range(3):
        length = LabelStore.open(second, 128).length
        rows = [LabelStore.open(p).read(epoch, np.arange(length))[0] for p in (first, second)]
        assert rows[0].tobytes() == rows[1].tobytes()
    train(from_store(other, first), tmp_path / "run", stop_step=1)


def test_a_bank_shows_the_same_views_with_the_same_labels_again(busy_recipe, tmp_path):
    """Three epochs from a bank of one: online and stored runs agree, one epoch is stored."""
    recipe = override(busy_recipe, {"order.bank_epochs": 1})
    online = train(recipe, tmp_path / "online").path
    recorded = record_labels(recipe, tmp_path / "store")
    assert (recorded.views, recorded.asked) == (200, 200)
    stored = train(from_store(recipe, recorded.path), tmp_path / "stored").path
    assert_same_tensors(final_tensors(stored), final_tensors(online))
    data = open_data(recipe, print)
    hosts = list(build_loader(resolve(recipe, data), data, torch.device("cpu")).batches(0, 12))
    for early, late in zip(hosts[:4], hosts[8:], strict=True):
        assert torch.equal(early.images, late.images)
        assert early.positions.tolist() == late.positions.tolist()


def test_a_bank_drops_new_layers_in_every_epoch(busy_recipe):
    """Views come back, the layers that stochastic depth drops do not: referee, the masks drawn."""
    data = open_data(busy_recipe, print)
    recipe = resolve(override(busy_recipe, {"order.bank_epochs": 1}), data)
    parts = build_parts(recipe, 4, torch.device("cpu"), None)
    asked = []
    plain = parts.forward
    parts.forward = lambda images, keep: asked.append(keep) or plain(images, keep)
    labels = torch.zeros(50, dtype=torch.int64)
    for host in build_loader(recipe, data, torch.device("cpu")).batches(0, 12):
        if host.step % 4 == 0:
            take_step(parts, prepare_batch(parts, host), labels, host.step, data.train)
    rates, places = recipe.model.drop_path_rates, np.arange(25)
    for number, epoch in enumerate((0, 1, 2)):
        expected = torch.from_numpy(keep_masks(recipe.seed, epoch, places, rates))
        assert torch.equal(asked[2 * number], expected)  # two micro-batches each


def test_students_of_several_seeds_share_the_views_of_one_store(busy_recipe, store, tmp_path):
    """With view_seed they read it; without, they are told to."""
    recipe = from_store(busy_recipe, store, seed=7)
    with pytest.raises(UserError, match=r"view_seed: 0 then, 7 now[\s\S]*--view-seed 0"):
        train(recipe, tmp_path / "refused")
    recipe = override(recipe, {"view_seed": 0})
    one = train(recipe, tmp_path / "one").path
    online = override(busy_recipe, {"seed": 7, "view_seed": 0})
    assert_same_tensors(final_tensors(one), final_tensors(train(online, tmp_path / "two").path))


def test_soft_labels_of_a_store_train_as_the_run_that_filled_it(busy_recipe, tmp_path):
    """The first run learns from what it stores, so the second is the same run."""
    recipe = distilled(busy_recipe, busy_recipe.distillation.teacher, "soft")
    store = tmp_path / "store"
    filling = override(recipe, {"distillation.labels": str(store), "distillation.top_k": 10})
    first = train(filling, tmp_path / "first").path
    reading = train(from_store(recipe, store), tmp_path / "second").path
    assert_same_tensors(final_tensors(reading), final_tensors(first))
    hard = from_store(busy_recipe, store)
    assert train(hard, tmp_path / "hard").state == "finished"


def test_three_stores_vote(busy_recipe, store, tmp_path):
    """Three that agree decide as one; class-token form as well as the token."""
    recipe = distilled(busy_recipe, "x", "hard", token=False)
    stores = [shutil.copytree(store, tmp_path / str(number)) for number in range(3)]
    alone = train(from_store(recipe, store), tmp_path / "alone").path
    names = ",".join(f"labels:{copy}" for copy in stores)
    vote = {"distillation.teacher": names, "distillation.vote": "majority"}
    together = train(override(recipe, vote), tmp_path / "together").path
    assert_same_tensors(final_tensors(together), final_tensors(alone))
    told = json.loads((together / "result.json").read_text())["teacher"]
    assert len(told["members"]) == 3


def test_resume_with_another_teacher_is_refused(busy_recipe, store, teacher_run, tmp_path):
    """Weights that changed under the same name, and labels of another teacher."""
    teacher = shutil.copytree(teacher_run, tmp_path / "teacher")
    for name, begun in {
        "asked": override(busy_recipe, {"distillation.teacher": str(teacher)}),
        "stored": from_store(busy_recipe, store),
    }.items():
        train(begun, tmp_path / name, stop_step=3)
        best = teacher / "weights/best.safetensors"
        save_file({key: 1.001 * value for key, value in load_file(best).items()}, best)
        header = json.loads((store / "store.json").read_text())
        header["identity"]["teacher"]["model"]["sha256"] = name
        (store / "store.json").write_text(json.dumps(header))
        with pytest.raises(UserError, match=r"--resume with changed data[\s\S]*teacher.*model"):
            train(begun, tmp_path / name, resume=True)


CHANGED = {
    "views.flip": (0.25, "views.views.flip: 0.0 then, 0.25 now"),
    "mix.mixup": (0.5, "views.mix.mixup: 0.8 then, 0.5 now"),
    "mix.group": (32, "views.mix.group: 64 then, 32 now"),
    "order.repeats": (2, "views.repeats: 1 then, 2 now"),
    "model.img_size": (12, "views.img_size: 8 then, 12 now"),
    "preprocess.mean": ((0.4, 0.5, 0.5), "views.mean"),
    "batch_size": (40, "views.batch_size: 50 then, 40 now"),
    "data.images_per_class": (19, "data.images: 200 then, 190 now"),
}


@pytest.mark.parametrize("field", CHANGED)
def test_labels_of_other_views_or_data_are_refused_with_the_difference(
    busy_recipe, store, tmp_path, field
):
    """Before the first step, whatever it is that makes other pixels."""
    value, message = CHANGED[field]
    recipe = override(from_store(busy_recipe, store), {field: value})
    with pytest.raises(UserError) as refusal:
        train(recipe, tmp_path / "run")
    assert message in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_pixels_that_changed_under_the_same_settings_are_found(
    busy_recipe, store, tmp_path, monkeypatch
):
    """An image that was replaced, or a library that renders otherwise."""
    from deit.data import loader as loader_module

    plain = loader_module.crop_view

    def brighter(*arguments):
        return np.clip(plain(*arguments).astype(np.int16) + 1, 0, 255).astype(np.uint8)

    monkeypatch.setattr(loader_module, "crop_view", brighter)
    with pytest.raises(
        UserError, match=r"pixels: not the same[\s\S]*an image was changed under its name"
    ):
        train(from_store(busy_recipe, store), tmp_path / "run")


def test_another_teacher_may_not_write_into_a_store(busy_recipe, store, teacher_run, tmp_path):
    """Nor the same one under another arithmetic; the same weights elsewhere may."""
    average = {
        "distillation.teacher": str(teacher_run / "weights/ema.safetensors"),
        "distillation.min_teacher_accuracy": 0.1,
    }
    with pytest.raises(UserError, match=r"teacher.model\S*: not the same"):
        record_labels(override(busy_recipe, average), store)
    same = override(
        busy_recipe, {"distillation.teacher": str(teacher_run / "weights/best.safetensors")}
    )
    assert record_labels(same, store).asked == 0
    header = json.loads((store / "store.json").read_text())
    header["made_with"]["versions"]["torch"] = "1.13.1"
    (store / "store.json").write_text(json.dumps(header))
    with pytest.raises(UserError, match=r'versions.torch: "1.13.1" then'):
        record_labels(same, store)
    assert train(from_store(busy_recipe, store), tmp_path / "reads").state == "finished"


def test_a_store_that_is_not_complete_is_refused_with_the_way_out(busy_recipe, store, tmp_path):
    """A longer run than it was recorded for."""
    recipe = override(from_store(busy_recipe, store), {"epochs": 5})
    with pytest.raises(UserError) as refusal:
        train(recipe, tmp_path / "run")
    assert "400 of 1,000 views have no label" in str(refusal.value)
    assert "--order.bank_epochs 3" in str(refusal.value)
    banked = override(recipe, {"order.bank_epochs": 3})
    assert train(banked, tmp_path / "banked").state == "finished"


def test_verify_agrees_with_the_teacher_and_finds_what_does_not(busy_recipe, store):
    """All labels of a sound store; wrong ones that a seal would cover; damaged files."""
    verified = verify_labels(store, views=10_000)
    assert (verified.views, verified.equal, verified.room) == (600, 600, 600)
    assert verified.is_sound
    file, seal = store / "epoch-00001.labels", store / "epoch-00001.json"
    labels = np.fromfile(file, dtype="<u2")
    ((labels + 1) % 10).astype("<u2").tofile(file)
    found = verify_labels(store, views=10_000)
    assert "epoch-00001.labels is damaged" in found.damaged[0]
    assert (found.views, found.equal) == (400, 400), "the other epochs are compared all the same"
    seal.unlink()
    verified = verify_labels(store, views=10_000)
    assert verified.equal == 400
    assert not verified.is_sound


def test_two_processes_fill_the_store_of_one(busy_recipe, store, tmp_path):
    """The same bytes, and each view asked about once."""
    recorded = record_labels(busy_recipe, tmp_path / "two", processes=2)
    assert (recorded.asked, recorded.missing) == (600, 0)
    for name in sorted(file.name for file in store.glob("epoch-*.labels")):
        assert (tmp_path / "two" / name).read_bytes() == (store / name).read_bytes()


def run_killer(teacher: Path, folder: Path, kills: int, epochs: int) -> dict[str, int]:
    script = Path(__file__).with_name("kill_writers.py")
    words = [sys.executable, str(script), str(teacher), str(folder), str(kills), str(epochs)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_writers_leave_no_wrong_label(teacher_run, tmp_path):
    """SIGKILL at random moments; what they left is right, and can be completed."""
    figures = run_killer(teacher_run, tmp_path, kills=4, epochs=6)
    assert figures["wrong"] == 0
    assert figures["at_work"] >= 2


@pytest.mark.long
def test_fifty_killed_writers_leave_no_wrong_label(teacher_run, tmp_path):
    """The same with the number of kills that is promised."""
    figures = run_killer(teacher_run, tmp_path, kills=50, epochs=10)
    print(figures)
    assert figures["wrong"] == 0
    assert figures["at_work"] >= 40


def test_the_identity_knows_every_field_that_makes_pixels(busy_recipe):
    """A field added to views or mixing is part of it, unless it only changes targets."""
    data = open_data(busy_recipe, print)
    identity = programs_labels.identify(resolve(busy_recipe, data), data)
    mix = {field.name for field in dataclasses.fields(busy_recipe.mix)} - {"smoothing"}
    assert identity["views"]["mix"].keys() == mix
    views = {field.name for field in dataclasses.fields(busy_recipe.views)}
    assert identity["views"]["views"].keys() == views
