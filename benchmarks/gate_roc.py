"""What the gate before distillation stops and lets pass, and how that hangs on its thresholds.

Healthy teachers are trained here, in seconds each: convnets of several sizes, lengths, image sizes
and normalisations, on scikit-learn's digits in grey and in colours that hint at the class. Each is
then wired wrongly in seven ways, most of them in several strengths. With a data set and a published
ONNX network those are used too. Every teacher is measured on a draw of its own from the validation
images.

    python benchmarks/gate_roc.py --json gate_roc.json --plot gate_roc.svg \\
        --data cifar10 --teacher cifar10_resnet56.onnx

Prints what was stopped, and what was refused without reason; the files hold every teacher, and how
both shares change with each threshold while the others stay at their defaults.
"""

import argparse
import colorsys
import copy
import dataclasses
import functools
import hashlib
import itertools
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deit.artifacts import load_classifier
from deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from deit.data.sources import ArraySource, open_data
from deit.distillation.config import DistillationConfig
from deit.distillation.teacher import Teacher, resize
from deit.measuring.gate import TeacherError, Thresholds, examine
from deit.measuring.sample import Sample, read_sample
from deit.model.convnet import ConvNet
from deit.model.variants import ConvNetConfig
from deit.run import machine
from deit.run.folder import write_json
from deit.tensors import TwoHeads

HARD = DistillationConfig.of_paper("hard")
NORMALISATIONS = {
    "ImageNet's": (IMAGENET_MEAN, IMAGENET_STD),
    "-1 to 1": ((0.5,) * 3, (0.5,) * 3),
    "0 to 1": ((0.0,) * 3, (1.0,) * 3),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
SWEEPS: dict[str, tuple[float, ...]] = {
    "level": (1e-1, 1e-2, 1e-4, 1e-6, 1e-9, 1e-15),
    "decisions": (0.5, 0.1, 0.02, 1e-3, 1e-5),
    "decisions_alone": (0.5, 0.1, 1e-2, 1e-4, 1e-6, 1e-9),
    "lead": (0.0, 0.01, 0.02, 0.04, 0.08, 0.16),
    "margin": (0.0, 0.05, 0.1, 0.2, 0.4, 0.7),
    "tolerance": (1e-8, 1e-7, 1e-5, 1e-3, 0.02, 0.1, 0.2, 0.5),
}
HARMFUL = 0.05  # accuracy lost, from which a fault should be seen in 256 images


class Remembered:
    """A model that is asked about each batch once only, so that many thresholds can be tried."""

    def __init__(self, model: Callable[[Tensor], Tensor | TwoHeads]) -> None:
        self.model = model
        self.known: dict[bytes, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Its logits."""
        pixels = images.contiguous().numpy()
        key = hashlib.sha1(pixels.tobytes() + str(pixels.shape).encode()).digest()
        if key not in self.known:
            answer = self.model(images)
            self.known[key] = answer.cls if isinstance(answer, TwoHeads) else answer
        return self.known[key]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A teacher and the images that it is measured on.

    Attributes:
        teacher: with its wiring.
        healthy: what it was made of, in words.
        fault: what is wrong with it, "" for nothing; strength: how much.
        source: validation images; student: the student's evaluation transform.
        spoils_labels: whether the fault matters even where it costs no accuracy.
    """

    teacher: Teacher
    healthy: str
    fault: str
    strength: str
    source: ArraySource
    student: Preprocess
    spoils_labels: bool = False

    def outcome(self, thresholds: Thresholds) -> dict[str, Any]:
        """What the gate says of it."""
        names = self.source.classes.names
        self.sample.asked = len(self.sample.labels)
        try:
            examined = examine(self.sample, names, HARD, thresholds)
        except TeacherError as error:
            return {"stopped_as": error.fault}
        return {"stopped_as": None, "accuracy": examined.accuracy, "asked": examined.asked}

    @functools.cached_property
    def sample(self) -> Sample:
        """Its images and answers; read once for all thresholds."""
        return read_sample(
            self.teacher, self.source, self.student, num_images=256, batch_size=32, workers=0
        )

    def accuracy(self) -> float:
        """On all images that the sample is drawn from."""
        pixels = torch.from_numpy(self.source.images.copy()).permute(0, 3, 1, 2).float() / 255
        pixels = resize(pixels, self.student.image_size)
        plain = ((0.0,) * 3, (1.0,) * 3)
        decided = torch.cat([self.teacher.labels(part, *plain) for part in pixels.split(32)])
        return float((decided.numpy() == self.source.labels).mean())


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """A trained teacher: its model, how it is to be asked, and images to measure it on."""

    name: str
    model: nn.Module
    normalisation: str
    image_size: int
    source: ArraySource
    student: Preprocess

    def case(self, fault: str = "", strength: str = "", **changes: Any) -> Case:
        """This teacher, changed by a fault."""
        spoils = changes.pop("spoils_labels", False)
        mean, std = NORMALISATIONS[self.normalisation]
        wiring = {"model": self.model, "mean": mean, "std": std, "image_size": self.image_size}
        wiring |= changes
        wiring["model"] = Remembered(wiring["model"])
        teacher = Teacher(name=self.name, classes=self.source.classes.names, **wiring)
        return Case(
            teacher=teacher,
            healthy=self.name,
            fault=fault,
            strength=strength,
            source=self.source,
            student=self.student,
            spoils_labels=spoils,
        )


def logits_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model as a function to logits."""

    def ask(images: Tensor) -> Tensor:
        answer = model(images)
        return answer.cls if isinstance(answer, TwoHeads) else answer

    return ask


def faults(healthy: Healthy, seed: int) -> Iterator[Case]:
    """The seven faults, in their strengths."""
    ask, draw = logits_of(healthy.model), np.random.default_rng(seed)
    for moved in (2, 4, 10):
        order = np.arange(10)
        chosen = draw.permutation(10)[:moved]
        order[chosen] = np.roll(chosen, 1)
        yield healthy.case("permuted classes", f"{moved} of 10", order=order.tolist())
    wrong = NORMALISATIONS | {"0 to 255": ((0.0,) * 3, (1 / 255,) * 3)}
    for name, (mean, std) in wrong.items():
        if name != healthy.normalisation:
            yield healthy.case(
                "wrong mean and std", f"{name} for {healthy.normalisation}", mean=mean, std=std
            )
    yield healthy.case("BGR", "", model=lambda images: ask(images.flip(1)))
    if not is_onnx(healthy):
        for ratio in (1 / 2, 2 / 3, 3 / 2, 2):
            if healthy.image_size * ratio >= 8:
                size = round(healthy.image_size * ratio)
                yield healthy.case("wrong image size", f"x {ratio:.2f}", image_size=size)
        yield from network_faults(healthy, seed)
    for shift in (1, -1):
        yield healthy.case(
            "shifted answers",
            f"{shift:+d}",
            model=lambda images, shift=shift: ask(images).roll(shift, 0),
            spoils_labels=True,
        )


def network_faults(healthy: Healthy, seed: int) -> Iterator[Case]:
    """Faults inside the network: its last layer, its batch norms."""
    for draw in range(2):
        model = copy.deepcopy(healthy.model)
        model.reset_classifier(10, seed=100 * seed + draw)
        yield healthy.case("random head", f"draw {draw}", model=model.eval())
    norms = [name for name, part in healthy.model.named_modules() if "bn" in name.split(".")[-1]]
    for strength, chosen in (("all", norms), ("first", norms[:1]), ("last", norms[-1:])):
        model = copy.deepcopy(healthy.model)
        for name in chosen:
            forget_statistics(model.get_submodule(name))
        yield healthy.case("train-mode batch norm", strength, model=model, spoils_labels=True)


def forget_statistics(norm: nn.Module) -> None:
    """Batch norm without running statistics, which uses the batch's in evaluation mode too."""
    assert isinstance(norm, nn.BatchNorm2d)
    norm.track_running_stats = False
    norm.running_mean = norm.running_var = None


def is_onnx(healthy: Healthy) -> bool:
    """Whether it is a network whose inside cannot be changed."""
    return not isinstance(healthy.model, ConvNet)


def train(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    normalisation: str,
    image_size: int,
    width: int,
    epochs: int,
    seed: int,
) -> nn.Module:
    """A convnet from a short, plain training: AdamW, one cosine, no augmentation."""
    torch.manual_seed(seed)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in NORMALISATIONS[normalisation])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    pixels = (resize(pixels, image_size) - mean) / std
    targets = torch.from_numpy(labels)
    config = ConvNetConfig(img_size=image_size, num_classes=10, width=width, blocks=(1, 1))
    model = ConvNet(config)
    steps = epochs * (len(labels) // 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        if step % (len(labels) // 64) == 0:
            order = torch.randperm(len(labels))
        chosen = order[64 * (step % (len(labels) // 64)) :][:64]
        loss = F.cross_entropy(model(pixels[chosen]).cls, targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def arrays(source: Any, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some images of a source and their labels."""
    images = np.stack([source.read(int(index)) for index in indices])
    return images, np.asarray(source.labels, dtype=np.int64)[indices]


def colour(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Digits in inks whose hue hints at the class: ``class / 10``, give or take 0.12, on grey."""
    draw = np.random.default_rng(seed)
    hues = (labels / 10 + draw.normal(0, 0.12, len(labels))) % 1
    inks = np.array([colorsys.hsv_to_rgb(hue, 0.8, 1) for hue in hues])[:, None, None]
    noisy = images * inks + (255 - images) * 0.2 + draw.normal(0, 25, images.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def draw_source(source: Any, images: np.ndarray, labels: np.ndarray, seed: int, count: int) -> Any:
    """A draw of the validation images, as a source of its own."""
    chosen = np.random.default_rng(seed).permutation(len(labels))[:count]
    names = [f"{index}.png" for index in chosen]
    return ArraySource(images[chosen], labels[chosen], source.classes, names)


def digit_teachers(num_seeds: int) -> Iterator[Healthy]:
    """Teachers of grey and coloured digits; every seed has another mix of sizes and lengths."""
    data = open_data("digits")
    train_images, train_labels = arrays(data.train, np.arange(len(data.train)))
    val_images, val_labels = arrays(data.val, np.arange(len(data.val)))
    student = Preprocess(image_size=8, crop_pct=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)
    kinds = itertools.cycle(itertools.product((8, 16), NORMALISATIONS))
    for seed, (image_size, normalisation) in zip(range(num_seeds), kinds, strict=False):
        for look in ("grey", "coloured"):
            width, epochs = (12, 16)[seed % 2], (12, 20, 30)[(seed + (look == "grey")) % 3]
            shown, shown_val = train_images, val_images
            if look == "coloured":
                shown = colour(train_images, train_labels, seed)
                shown_val = colour(val_images, val_labels, 1000 + seed)
            model = train(
                shown,
                train_labels,
                normalisation=normalisation,
                image_size=image_size,
                width=width,
                epochs=epochs,
                seed=seed,
            )
            yield Healthy(
                name=f"{look} digits {image_size} px, width {width}, {epochs} epochs, seed {seed}",
                model=model,
                normalisation=normalisation,
                image_size=image_size,
                source=draw_source(data.val, shown_val, val_labels, seed, 300),
                student=student,
            )


def photo_teachers(spec: str, onnx: str, num_seeds: int) -> Iterator[Healthy]:
    """Small convnets trained here on 5,000 images at 16 px, and the published network."""
    data = open_data(spec)
    chosen = np.random.default_rng(0).permutation(len(data.train))[:5000]
    images, labels = arrays(data.train, chosen)
    chosen = np.random.default_rng(1).permutation(len(data.val))[:4000]
    val_images, val_labels = arrays(data.val, chosen)
    student = Preprocess(image_size=images.shape[1], crop_pct=1.0)
    for seed in range(num_seeds):
        normalisation = list(NORMALISATIONS)[seed % len(NORMALISATIONS)]
        epochs = (4, 8)[seed % 2]
        yield Healthy(
            name=f"photos 16 px, width 16, {epochs} epochs, seed {seed}",
            model=train(
                images,
                labels,
                normalisation=normalisation,
                image_size=16,
                width=16,
                epochs=epochs,
                seed=seed,
            ),
            normalisation=normalisation,
            image_size=16,
            source=draw_source(data.val, val_images, val_labels, seed, 600),
            student=student,
        )
    classifier = load_classifier(onnx) if onnx else None
    for seed in range(num_seeds if classifier else 0):
        assert classifier is not None
        yield Healthy(
            name=f"published {Path(onnx).stem}, draw {seed}",
            model=classifier.model,
            normalisation="ImageNet's",
            image_size=classifier.preprocess.image_size,
            source=draw_source(data.val, val_images, val_labels, 100 + seed, 600),
            student=student,
        )


def measure(cases: list[Case]) -> list[dict[str, Any]]:
    """Every case at the defaults, with the accuracy that its fault costs."""
    rows, accuracies = [], dict[str, float]()
    for case in cases:
        accuracy = case.accuracy()
        if not case.fault:
            accuracies[case.healthy] = accuracy
        row = {
            "teacher": case.healthy,
            "fault": case.fault,
            "strength": case.strength,
            "accuracy_of_all": accuracy,
            "lost": accuracies[case.healthy] - accuracy,
        }
        row["harmful"] = bool(case.fault) and (case.spoils_labels or row["lost"] >= HARMFUL)
        rows.append(row | case.outcome(Thresholds()))
    return rows


def sweep(cases: list[Case], rows: list[dict[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """Shares stopped for each value of each threshold, the others at their defaults.

    Of all healthy teachers and every third of the faulty ones, which is enough for a curve.
    """
    places = [place for place, row in enumerate(rows) if not row["fault"]]
    places += [place for place, row in enumerate(rows) if row["harmful"]][::3]
    cases, rows = [cases[place] for place in places], [rows[place] for place in places]
    curves = {}
    for name, values in SWEEPS.items():
        curves[name] = []
        for value in values:
            thresholds = dataclasses.replace(Thresholds(), **{name: value})
            stopped = [bool(case.outcome(thresholds)["stopped_as"]) for case in cases]
            harmful = [stop for stop, row in zip(stopped, rows, strict=True) if row["harmful"]]
            healthy = [stop for stop, row in zip(stopped, rows, strict=True) if not row["fault"]]
            curves[name].append(
                {
                    "value": value,
                    "stopped": sum(harmful) / len(harmful),
                    "false_alarms": sum(healthy) / len(healthy),
                }
            )
        print(f"swept {name}", flush=True)
    return curves


def table(rows: list[dict[str, Any]]) -> str:
    """Fault by fault: how many were stopped, by what they cost, and under which names."""
    lines = [f"{'fault':24} {'harmful: stopped':>17} {'rightly named':>14} {'mild: stopped':>14}"]
    for fault in dict.fromkeys(row["fault"] for row in rows if row["fault"]):
        of_fault = [row for row in rows if row["fault"] == fault]
        harmful = [row for row in of_fault if row["harmful"]]
        stopped = [row for row in harmful if row["stopped_as"]]
        named = sum(row["stopped_as"] in RIGHT_NAMES[fault] for row in stopped)
        mild = [bool(row["stopped_as"]) for row in of_fault if not row["harmful"]]
        lines.append(
            f"{fault:24} {f'{len(stopped)}/{len(harmful)}':>17} {f'{named}/{len(stopped)}':>14} "
            f"{f'{sum(mild)}/{len(mild)}':>14}"
        )
    healthy = [row for row in rows if not row["fault"]]
    alarms = sum(row["stopped_as"] is not None for row in healthy)
    known = sorted(row["accuracy_of_all"] for row in healthy)
    lines.append(
        f"false alarms: {alarms}/{len(healthy)} healthy teachers of {known[0]:.0%} to "
        f"{known[-1]:.0%}; asked at most {max(row.get('asked', 0) for row in healthy)} images"
    )
    return "\n".join(lines)


RIGHT_NAMES = {
    "permuted classes": {"permuted classes"},
    "wrong mean and std": {"wrong normalisation"},
    "BGR": {"exchanged colours"},
    "wrong image size": {"wrong image size"},
    "random head": {"random head"},
    "train-mode batch norm": {"batch dependence"},
    "shifted answers": {"shifted answers"},
}


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """One panel per threshold: what is stopped and what is refused without reason."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "deit"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(10, 5.6), sharey=True, layout="constrained")
    for panel, (name, points) in zip(panels.flat, curves.items(), strict=True):
        values = [point["value"] for point in points]
        for key, label, style in (
            ("stopped", "faulty teachers stopped", "C0o-"),
            ("false_alarms", "healthy teachers refused", "C3s--"),
        ):
            panel.plot(values, [100 * point[key] for point in points], style, ms=4, label=label)
        default = getattr(Thresholds(), name) or 0.02
        panel.axvline(default, color="0.6", lw=1, zorder=0)
        if name not in ("lead", "margin"):
            panel.set_xscale("log")
        panel.set_title(f"{name} (default {default:g})", fontsize=10)
        panel.set_ylim(-4, 104)
        panel.grid(alpha=0.3)
    for panel in panels[:, 0]:
        panel.set_ylabel("%")
    panels[0, 0].legend(fontsize=8, loc="center left")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def main() -> None:
    """Train the teachers, break them, ask the gate; print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--plot", type=Path, required=True)
    parser.add_argument("--data", default="", help="10 classes of colour images, such as CIFAR-10")
    parser.add_argument("--teacher", default="", help="a published network for --data, as ONNX")
    parser.add_argument("--seeds", type=int, default=8, help="of digits; half as many of --data")
    options = parser.parse_args()
    began = time.process_time()
    teachers = list(digit_teachers(options.seeds))
    if options.data:
        teachers += photo_teachers(options.data, options.teacher, max(1, options.seeds // 2))
    print(f"{len(teachers)} healthy teachers: {time.process_time() - began:.0f} s", flush=True)
    cases = []
    for seed, healthy in enumerate(teachers):
        cases += [healthy.case(), *faults(healthy, seed)]
    rows = measure(cases)
    print(table(rows), flush=True)
    curves = sweep(cases, rows)
    environment = machine.describe_environment(torch.device("cpu"))
    del environment["command"]  # with folders of this machine
    report = {
        "command": shlex.join(["python", "benchmarks/gate_roc.py", *without_places(sys.argv[1:])]),
        "environment": environment,
        "cpu_seconds": time.process_time() - began,
        "thresholds": dataclasses.asdict(Thresholds()),
        "sweeps": curves,
        "teachers": rows,
    }
    write_json(options.json, report)
    plot(curves, options.plot)


def without_places(words: list[str]) -> list[str]:
    """File names without their folders, which mean nothing on another machine."""
    return [Path(word).name if not word.startswith("-") else word for word in words]


if __name__ == "__main__":
    main()
