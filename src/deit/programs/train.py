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
from deit.data.images import BadImage
from deit.data.render_device import to_pixels
from deit.distillation.answers import Answers
from deit.distillation.teacher import Teacher
from deit.measuring.evaluate import Evaluation
from deit.measuring.gate import Examination
from deit.programs.labels import find_stores, identify_teacher, open_answers
from deit.programs.prepare import (
    check_data,
    examine_teacher,
    fingerprint,
    load_teacher,
    open_data,
    resolve,
)
from deit.programs.start import load_start
from deit.programs.step import (
    Parts,
    ask_teacher,
    build_loader,
    build_parts,
    capture,
    checkpoint_steps,
    evaluate_model,
    evaluation_steps,
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
        seconds: wall time of all parts of the run, as far as they were saved.
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

    # 1. The data, opened and not yet read: what is cheap to refuse is refused first.
    machine.resolve_device(recipe.run.device)
    if not resume:
        run_folder.check_new(path)
    if opened := data is None:
        data = open_data(recipe, monitor.say)

    # 2. The recipe, resolved for this data and this machine: nothing in it is open any more.
    recipe = resolve(recipe, data)
    device = machine.resolve_device(recipe.run.device)
    identity = fingerprint(data)
    if resume:
        run_folder.check_same_recipe(run_folder.open_run(path)[1], recipe, path)
        run_folder.check_same_data(path, identity)

    # 3. The start, the teacher, frozen, and the images: all are looked at before time is spent on
    #    them, and the teacher is measured on the validation split before it may teach.
    start = load_start(recipe, data.classes, monitor.say, path if resume else None)
    if teacher is None:
        teacher = load_teacher(recipe, data, device)
    identity |= {"teacher": identify_teacher(teacher, find_stores(recipe, data))}
    bad: list[BadImage] = []
    if opened:
        data, bad = check_data(recipe, data, monitor.say)
    left_out = {"left_out": [problem.name for problem in bad]}
    if resume:
        run_folder.check_same_data(path, left_out | {"teacher": identity["teacher"]})
    teacher, examined = examine_teacher(recipe, data, teacher, device, monitor.say)
    answers = open_answers(recipe, data, teacher, examined, device, monitor.say)

    # 4. Model, optimizer and average: as the seed or the start makes them, or as a checkpoint left
    #    them.
    steps_per_epoch = order.steps_per_epoch(len(data.train), recipe.batch_size)
    total_steps = recipe.epochs * steps_per_epoch
    begin = None if start is None else start.model
    parts = build_parts(recipe, steps_per_epoch, device, answers, begin)
    step, evaluations, final = 0, dict[str, Any](), None
    if resume:
        folder = RunFolder(path)
        step, evaluations, seconds = resume_from(path, parts, monitor)
        started -= seconds
    else:
        environment = machine.describe_environment(device)
        origin = {} if start is None else {"start": start.to_json()}
        folder = run_folder.create(path, recipe, environment, identity | left_out | origin)

    # 5. The views: rendered by workers, from any step on.
    loader = build_loader(recipe, data, device)

    # 6. The steps: step k depends on k and the weights, on nothing else that ran before it.
    journal = Journal(folder.metrics, resume_step=step if resume else None)
    journal.write("start", step, epoch=step / steps_per_epoch, total_steps=total_steps)
    monitor.say(describe_run(parts, data, total_steps, path))
    pace = Pace(total_steps, step, recipe.batch_size)
    end = total_steps if stop_step is None else min(stop_step, total_steps)
    evaluated = evaluation_steps(recipe, steps_per_epoch)
    saved = checkpoint_steps(recipe, steps_per_epoch) | {end}
    with journal.closed_on_error(), listen_for_stop() as stop, monitor.steps(step, total_steps):
        for host in loader.batches(step, end):
            batch = prepare_batch(parts, host)
            answer = ask_teacher(parts, batch)
            if step == 0:
                keep_views(folder, parts, batch, answer, data)
            measured = take_step(parts, batch, answer, step, data.train)
            step += 1
            if step % recipe.run.log_steps == 0 or step == end:
                measured |= pace.measure(step, loader.seconds_waiting)
                journal.write("step", step, epoch=step / steps_per_epoch, **measured)
                monitor.step(step, progress_line(step, parts, measured, pace))
            if step in evaluated:
                with pace.pause():
                    evaluations, final = evaluate_and_keep(folder, parts, data, journal, step)
                    monitor.say(evaluation_line(evaluations, parts, step))
            stopping = bool(stop)  # read once: a signal from here on waits for the next step
            if step in saved or stopping:
                with pace.pause():
                    if answers is not None:
                        answers.flush()
                    state = capture(parts, step, evaluations, time.perf_counter() - started)
                    save_checkpoint(folder.checkpoints, state, recipe.run.keep_checkpoints)
            if stopping:
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
        keep_predictions(folder, final or evaluate_model(parts, parts.model, data), data)
    write_result(
        folder,
        result,
        epoch=step / steps_per_epoch,
        teacher=describe_teacher(examined, answers),
        notes=list(data.notes),
        bad_images=[{"name": problem.name, "reason": problem.reason} for problem in bad],
    )
    return result


def resume_from(path: Path, parts: Parts, monitor: Monitor) -> tuple[int, dict[str, Any], float]:
    """Load the newest whole checkpoint of a run; its step, its evaluation, the seconds so far."""
    checkpoint, skipped = load_newest(RunFolder(path).checkpoints)
    for reason in skipped:
        monitor.say(f"passed over a checkpoint: {reason}")
    if checkpoint is None:
        monitor.say("no checkpoint yet: starting from step 0")
        return 0, {}, 0.0
    restore(parts, checkpoint)
    monitor.say(f"resuming after step {checkpoint.step}")
    return checkpoint.step, checkpoint.state["evaluations"], checkpoint.state["seconds"]


def evaluate_and_keep(
    folder: RunFolder, parts: Parts, data: sources.DataSet, journal: Journal, step: int
) -> tuple[dict[str, Any], Evaluation]:
    """Evaluate raw and averaged weights, write both, and keep the better as best.

    Best is the highest joint top-1 on the validation split, of either kind of weights; of equals
    the earlier. It was chosen on that split, so its accuracy there is slightly flattering.

    Returns:
        the figures of each kind of weights, and all that the raw ones said.
    """
    evaluations: dict[str, Any] = {}
    answers: dict[str, Evaluation] = {}
    epoch = step / parts.steps_per_epoch
    models = {"raw": parts.model} | ({"ema": parts.ema.model} if parts.ema is not None else {})
    for kind, model in models.items():
        answers[kind] = evaluate_model(parts, model, data)
        evaluations[kind] = measured = answers[kind].to_json()
        journal.write("evaluation", step, epoch=epoch, weights=kind, **measured)
        save_weights(folder, "last" if kind == "raw" else "ema", model, parts.recipe, data)
        head = measured.get("joint", measured["class"])
        if head["top1"] > parts.best.get("top1", -1.0):
            parts.best = {"weights": kind, "epoch": epoch, "step": step, "top1": head["top1"]}
            save_weights(folder, "best", model, parts.recipe, data)
    return evaluations, answers["raw"]


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
    answer: Tensor | None,
    data: sources.DataSet,
) -> None:
    """Keep the first views exactly as the model saw them, with what the teacher said of them."""
    names = data.classes.names
    answers = None
    if answer is not None:
        decisions = answer.argmax(-1) if answer.ndim == 2 else answer
        answers = [names[decision] for decision in decisions[:MAX_VIEWS].tolist()]
    save_views(
        folder.path,
        to_pixels(batch.images[:MAX_VIEWS], model_preprocess(parts.recipe)),
        heaviest_targets(batch.targets[:MAX_VIEWS].cpu().numpy(), names),
        answers,
    )


def keep_predictions(folder: RunFolder, evaluation: Evaluation, data: sources.DataSet) -> None:
    """Write the final weights' decision on every validation image, and picture its worst errors."""
    evaluation.write_predictions(folder.predictions)
    worst = evaluation.most_confident_mistakes(MAX_MISTAKES)
    images = [data.val.read(mistake.sample) for mistake in worst]
    entries = [Mistake(m.name, m.label, m.predicted, m.confidence) for m in worst]
    save_mistakes(folder.path, images, entries)


def describe_teacher(
    examined: Examination | None, answers: Answers | None
) -> dict[str, Any] | None:
    """What the gate measured of the teacher, now or when its labels were stored."""
    if examined is not None:
        return examined.to_json()
    stored = [] if answers is None else [store.header.examination for store in answers.stores]
    if len(stored) < 2:
        return stored[0] if stored else None
    names = ", ".join(told["teacher"] for told in stored)
    return {"teacher": names, "accuracy": None, "members": stored}


def write_result(folder: RunFolder, result: TrainResult, **more: Any) -> None:
    """Write result.json: the state of the run and its figures."""
    values = dataclasses.asdict(result)
    del values["path"]
    run_folder.write_json(folder.result, values | more)
