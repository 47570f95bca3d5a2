"""Train a model, with or without a teacher: the whole program, in seven sections.

There is no trainer class and nothing to subclass. A run is decided by its recipe alone: every view,
mix and dropped layer is a function of (seed, epoch, position), so a run that was stopped after any
step and resumed ends in the same weights, bit for bit.
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from torch import Tensor, nn

from deit import artifacts
from deit.data import order, sources
from deit.data.loader import TrainLoader
from deit.data.render_device import to_pixels
from deit.distillation.teacher import Teacher
from deit.measuring.evaluate import Evaluation, evaluate
from deit.programs.prepare import examine_teacher, open_checked_data, resolve
from deit.programs.step import (
    Parts,
    ask_teacher,
    build_parts,
    capture,
    model_preprocess,
    prepare_batch,
    restore,
    take_step,
)
from deit.recipes.recipe import Recipe
from deit.report.gallery import (
    MAX_MISTAKES,
    MAX_VIEWS,
    Mistake,
    heaviest_targets,
    save_mistakes,
    save_views,
)
from deit.run import folder as run_folder
from deit.run import machine
from deit.run.checkpoint import load_newest, save_checkpoint
from deit.run.folder import RunFolder
from deit.run.interrupt import listen_for_stop
from deit.run.journal import Journal
from deit.run.progress import Monitor, Pace, clock
from deit.tensors import TrainBatch


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended.

    Attributes:
        path: the run's folder.
        state: finished, or interrupted and resumable.
        step: number of finished steps.
        evaluations: the last evaluation, ``{"raw": {"class": {...}, ...}, "ema": ...}``.
        best: the best evaluation of the run: weights, epoch, step, top1 of the joint decision.
        seconds: wall time of this process's part.
        stopped_by: number of the signal that interrupted the run, or None.
    """

    path: Path
    state: Literal["finished", "interrupted"]
    step: int
    evaluations: dict[str, Any]
    best: dict[str, Any]
    seconds: float
    stopped_by: int | None


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    data: sources.DataSet | None = None,
    teacher: Teacher | None = None,
    resume: bool = False,
    console: Console | None = None,
    stop_step: int | None = None,
) -> TrainResult:
    """Run a recipe and leave a run folder.

    Args:
        recipe: what to compute; `recipe.data.source` names the data unless ``data`` is given.
        out: the run's folder; must be new, or with ``resume`` an existing run.
        data: the data, already opened and checked.
        teacher: the teacher, already loaded; otherwise `recipe.distillation.teacher` names it.
        resume: go on from the newest whole checkpoint in ``out``.
        console: where progress is shown; None is silent.
        stop_step: stop after this many steps, as if interrupted there.

    Raises:
        UserError: for wrong use, before any training.
        RunError: when the loss is no longer finite; names step, rates, norms and files.
    """
    started = time.perf_counter()
    monitor, path = Monitor(console), Path(out)
    if not resume:
        run_folder.check_new(path)

    # 1. The data: one list of classes, and every image looked at before time is spent on it.
    if data is None:
        data = open_checked_data(recipe, monitor.say)

    # 2. The recipe, resolved for this data and this machine: nothing in it is open any more.
    recipe = resolve(recipe, data)
    device = machine.resolve_device(recipe.run.device)
    if resume:
        run_folder.check_same_recipe(run_folder.open_run(path)[1], recipe, path)

    # 3. The teacher: frozen, and measured on the validation split before it may teach.
    teacher, examined = examine_teacher(recipe, data, teacher, device, monitor.say)

    # 4. Model, optimizer and average: as the seed makes them, or as a checkpoint left them.
    steps_per_epoch = order.steps_per_epoch(len(data.train), recipe.batch_size)
    total_steps = recipe.epochs * steps_per_epoch
    parts = build_parts(recipe, steps_per_epoch, device, teacher)
    step = 0
    if resume:
        folder, (step, evaluations) = RunFolder(path), resume_from(path, parts, monitor)
    else:
        folder = run_folder.create(path, recipe, machine.describe_environment(device))
        evaluations = {}

    # 5. The views: rendered by workers, from any step on.
    loader = TrainLoader(
        data.train,
        recipe.views,
        recipe.order,
        image_size=recipe.model.img_size,
        seed=recipe.seed,
        batch_size=recipe.batch_size,
        workers=recipe.run.workers,
    )

    # 6. The steps: step k depends on k and the weights, on nothing else that ran before it.
    journal = Journal(folder.metrics, resume_step=step if resume else None)
    journal.write("start", step, epoch=step / steps_per_epoch, total_steps=total_steps)
    monitor.say(describe_run(parts, data, total_steps, path))
    pace = Pace(total_steps, step, recipe.batch_size)
    end = total_steps if stop_step is None else min(stop_step, total_steps)
    with listen_for_stop() as stop, monitor.steps(step, total_steps):
        for host in loader.batches(step, end):
            batch = prepare_batch(parts, host)
            teacher_logits = ask_teacher(parts, batch)
            if step == 0:
                keep_views(folder, parts, batch, teacher_logits, data)
            measured = take_step(parts, batch, teacher_logits, step, data.train)
            step += 1
            epoch_ends = step % steps_per_epoch == 0
            if step % recipe.run.log_steps == 0 or step == end:
                measured |= pace.measure(step, loader.seconds_waiting)
                journal.write("step", step, epoch=step / steps_per_epoch, **measured)
                monitor.step(step, progress_line(step, parts, measured, pace))
            if step == total_steps or (
                epoch_ends and (step // steps_per_epoch) % recipe.run.eval_epochs == 0
            ):
                with pace.pause():
                    evaluations = evaluate_and_keep(folder, parts, data, journal, step)
                    monitor.say(evaluation_line(evaluations, parts, step))
            if epoch_ends or step == end or stop or is_multiple(step, recipe.run.checkpoint_steps):
                with pace.pause():
                    state = capture(parts, step, evaluations)
                    save_checkpoint(folder.checkpoints, state, recipe.run.keep_checkpoints)
            if stop:
                break

    # 7. The result: last weights, a prediction for every validation image, how it all went.
    finished = step == total_steps
    journal.write("end", step, epoch=step / steps_per_epoch, finished=finished)
    journal.close()
    result = TrainResult(
        path=path,
        state="finished" if finished else "interrupted",
        step=step,
        evaluations=evaluations,
        best=parts.best,
        seconds=time.perf_counter() - started,
        stopped_by=stop.signal_number,
    )
    if finished:
        keep_predictions(folder, parts, data)
    write_result(folder, result, data, examined)
    return result


def resume_from(path: Path, parts: Parts, monitor: Monitor) -> tuple[int, dict[str, Any]]:
    """Load the newest whole checkpoint of a run; the step to go on from and its evaluation."""
    checkpoint, skipped = load_newest(RunFolder(path).checkpoints)
    for reason in skipped:
        monitor.say(f"passed over a checkpoint: {reason}")
    if checkpoint is None:
        monitor.say("no checkpoint yet: starting from step 0")
        return 0, {}
    restore(parts, checkpoint)
    monitor.say(f"resuming after step {checkpoint.step}")
    return checkpoint.step, checkpoint.state["evaluations"]


def evaluate_and_keep(
    folder: RunFolder, parts: Parts, data: sources.DataSet, journal: Journal, step: int
) -> dict[str, Any]:
    """Evaluate raw and averaged weights, write both, and keep the better as best.

    Best is the highest joint top-1 on the validation split, of either kind of weights; of equals
    the earlier. It was chosen on that split, so its accuracy there is slightly flattering.
    """
    evaluations: dict[str, Any] = {}
    epoch = step / parts.steps_per_epoch
    models = {"raw": parts.model} | ({"ema": parts.ema.model} if parts.ema is not None else {})
    for kind, model in models.items():
        evaluations[kind] = measured = evaluate_model(parts, model, data).to_json()
        journal.write("evaluation", step, epoch=epoch, weights=kind, **measured)
        save_weights(folder, "last" if kind == "raw" else "ema", model, parts.recipe, data)
        head = measured.get("joint", measured["class"])
        if head["top1"] > parts.best.get("top1", -1.0):
            parts.best = {"weights": kind, "epoch": epoch, "step": step, "top1": head["top1"]}
            save_weights(folder, "best", model, parts.recipe, data)
    return evaluations


def evaluate_model(parts: Parts, model: nn.Module, data: sources.DataSet) -> Evaluation:
    """The accuracy of a model of this run on the validation split."""
    recipe = parts.recipe
    return evaluate(
        model,
        data.val,
        preprocess=model_preprocess(recipe),
        batch_size=recipe.run.eval_batch_size,
        device=parts.device,
        precision=recipe.run.precision,
    )


def save_weights(
    folder: RunFolder, name: str, model: nn.Module, recipe: Recipe, data: sources.DataSet
) -> None:
    """Write ``weights/<name>.safetensors`` beside the run's model.json."""
    artifacts.save_model(
        folder.weights / f"{name}.safetensors",
        model,
        recipe.model,
        data.classes,
        model_preprocess(recipe),
    )


def describe_run(parts: Parts, data: sources.DataSet, total_steps: int, path: Path) -> str:
    """What is about to be computed, in three lines."""
    recipe = parts.recipe
    count = sum(parameter.numel() for parameter in parts.model.parameters())
    return (
        f"{recipe.model.name}: {count / 1e6:.2f} M parameters, {recipe.model.img_size} px, "
        f"{len(data.classes)} classes\n"
        f"{len(data.train):,} training and {len(data.val):,} validation images; "
        f"{recipe.epochs} epochs, {total_steps:,} steps of {recipe.batch_size} "
        f"on {parts.device} in {recipe.run.precision}\n"
        f"run folder: {path}"
    )


def progress_line(step: int, parts: Parts, measured: dict[str, float], pace: Pace) -> str:
    """The moving line: where the run is, how well, how fast, how long it still takes."""
    return (
        f"epoch {step / parts.steps_per_epoch:.1f}/{parts.recipe.epochs} "
        f"loss {measured['loss']:.3f} lr {measured['lr']:.1e} "
        f"{measured['images_per_second']:.0f} img/s "
        f"wait {measured['data_wait']:.0%} left {clock(pace.seconds_left(step))}"
    )


def evaluation_line(evaluations: dict[str, Any], parts: Parts, step: int) -> str:
    """One evaluation in one line: top-1 of each head, raw and averaged weights."""
    parts_of_line = [
        f"{kind} "
        + " ".join(f"{head} {100 * values['top1']:.2f}" for head, values in heads.items())
        for kind, heads in evaluations.items()
    ]
    epoch = step // parts.steps_per_epoch
    return f"epoch {epoch}/{parts.recipe.epochs} top-1 %: " + " | ".join(parts_of_line)


def keep_views(
    folder: RunFolder,
    parts: Parts,
    batch: TrainBatch,
    teacher_logits: Tensor | None,
    data: sources.DataSet,
) -> None:
    """Keep the first views exactly as the model saw them, with what the teacher said of them."""
    names = data.classes.names
    answers = None
    if teacher_logits is not None:
        answers = [names[decision] for decision in teacher_logits[:MAX_VIEWS].argmax(-1).tolist()]
    save_views(
        folder.path,
        to_pixels(batch.images[:MAX_VIEWS], model_preprocess(parts.recipe)),
        heaviest_targets(batch.targets[:MAX_VIEWS].cpu().numpy(), names),
        answers,
    )


def keep_predictions(folder: RunFolder, parts: Parts, data: sources.DataSet) -> None:
    """Write the final weights' decision on every validation image, and picture its worst errors."""
    evaluation = evaluate_model(parts, parts.model, data)
    evaluation.write_predictions(folder.predictions)
    worst = evaluation.most_confident_mistakes(MAX_MISTAKES)
    images = [data.val.read(mistake.sample) for mistake in worst]
    entries = [Mistake(m.name, m.label, m.predicted, m.confidence) for m in worst]
    save_mistakes(folder.path, images, entries)


def write_result(
    folder: RunFolder, result: TrainResult, data: sources.DataSet, examined: Any
) -> None:
    """Write result.json: the state of the run and its figures."""
    values = dataclasses.asdict(result)
    del values["path"]
    values["teacher"] = None if examined is None else examined.to_json()
    values["notes"] = list(data.notes)
    run_folder.write_json(folder.result, values)


def is_multiple(step: int, every: int) -> bool:
    """Whether something that happens every so many steps is due; 0 is never."""
    return every > 0 and step % every == 0
