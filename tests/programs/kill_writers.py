"""Kill processes that fill a label store, at random moments, and look at what they left.

    python tests/programs/kill_writers.py TEACHER FOLDER KILLS EPOCHS

Prints the number of labels that were looked at after each kill, of those that were wrong, and of
kills that met a writer at work; afterwards the store is completed and compared as a whole. The
right labels are asked for by other means: one question per group, no store.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from deit.distillation.label_store import LabelStore
from deit.distillation.teacher import Teacher
from deit.programs.prepare import load_teacher, open_data, resolve
from deit.programs.record import record_labels
from deit.programs.step import build_loader, build_parts, prepare_batch
from deit.recipes.book import get_recipe
from deit.recipes.recipe import Recipe, distilled, override


def right_labels(recipe: Recipe, data: object, teacher: Teacher) -> dict[int, np.ndarray]:
    """The teacher's decisions by epoch."""
    loader = build_loader(recipe, data, torch.device("cpu"))
    parts = build_parts(recipe, loader.steps_per_epoch, torch.device("cpu"), None)
    answers: dict[int, list[np.ndarray]] = {}
    for host in loader.batches(0, recipe.epochs * loader.steps_per_epoch):
        images = prepare_batch(parts, host).images
        for group in images.split(recipe.mix.group):
            labels = teacher.labels(group, recipe.preprocess.mean, recipe.preprocess.std)
            answers.setdefault(host.epoch, []).append(labels.numpy())
    return {epoch: np.concatenate(parts) for epoch, parts in answers.items()}


def look(path: Path, right: dict[int, np.ndarray]) -> tuple[int, int]:
    """How many labels a store holds, and how many of them are wrong."""
    if not (path / "store.json").exists():
        return 0, 0
    store = LabelStore.open(path)
    held = wrong = 0
    for epoch in store.epochs:
        rows, filled = store.read(epoch, np.arange(len(right[epoch])))
        held += int(filled.sum())
        wrong += int((rows["label"][filled] != right[epoch][filled]).sum())
    return held, wrong


def main(teacher_name: str, folder: Path, kills: int, epochs: int) -> None:
    """Everything; figures as one line of JSON."""
    changes = {"data.source": "digits", "epochs": epochs, "run.workers": 0}
    recipe = distilled(override(get_recipe("digits"), changes), teacher_name)
    recipe = override(recipe, {"run.precision": "float32", "schedule.warmup_epochs": 0})
    data = open_data(recipe, lambda _: None)
    recipe = resolve(recipe, data)
    teacher = load_teacher(recipe, data, torch.device("cpu"))
    right = right_labels(recipe, data, teacher)
    began = time.perf_counter()
    record_labels(recipe, folder / "whole", data=data, teacher=teacher)
    longest = time.perf_counter() - began
    held = wrong = at_work = 0
    for kill in range(kills):
        store = folder / f"killed-{kill // 2}"  # each meets two: at its beginning, and later
        before = look(store, right)[0]
        child = os.fork()
        if child == 0:
            record_labels(recipe, store, data=data, teacher=teacher)
            os._exit(0)
        time.sleep(random.Random(kill).uniform(0.15, 0.45) * longest)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        now, false = look(store, right)
        at_work += int(os.WIFSIGNALED(status) and now > before)
        held, wrong = held + now, wrong + false
    for number in range(min(kills // 2, 5)):
        store = folder / f"killed-{number}"
        record_labels(recipe, store, data=data, teacher=teacher)
        now, false = look(store, right)
        wrong += false + (sum(map(len, right.values())) - now)
        wrong += len(LabelStore.open(store).check())
    print(json.dumps({"kills": kills, "at_work": at_work, "labels": held, "wrong": wrong}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
