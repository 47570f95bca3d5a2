import csv
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deit.report.gallery import Mistake, confident_mistakes, save_mistakes, save_views
from deit.report.run_report import write_report

Digits = tuple[np.ndarray, np.ndarray]

RECIPE = """\
name: digits
seed: 7
epochs: 30
batch_size: 64
model: {kind: vision-transformer, name: deit_micro_patch2_16, second_token: distillation}
data: {source: digits}
distillation: {kind: hard, teacher: runs/teacher, token: true, weight: 0.5}
"""
ENVIRONMENT = {
    "command": "deit distill digits --teacher runs/teacher",
    "processor": "a processor",
    "device": "cpu",
    "versions": {"deit": "0.1.0", "torch": "2.11.0"},
}


@pytest.fixture(scope="session")
def digits() -> Digits:
    """Images [N, 8, 8, 3] of real digits and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = (data.images * 255 / 16).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), data.target


@pytest.fixture
def write_run(tmp_path: Path, digits: Digits) -> Callable[..., Path]:
    """`make_run` in this test's folder."""
    return functools.partial(make_run, tmp_path, digits)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Path:
    """A finished run with two heads and its report, for tests that only read."""
    run = make_run(tmp_path_factory.mktemp("finished"), digits)
    write_report(run)
    return run


@pytest.fixture(scope="session")
def finished_page(finished_run: Path) -> "Page":
    """The report of `finished_run`."""
    return Page((finished_run / "report.html").read_text(encoding="utf-8"))


def make_run(
    root: Path,
    digits: Digits,
    folder: str = "hard-token",
    names: tuple[str, ...] = tuple("0123456789"),
    heads: tuple[str, ...] = ("class", "distillation", "joint"),
    journal: bool = True,
    **result: Any,
) -> Path:
    """Write the folder of a finished run, as training leaves it.

    Its decisions are those of two simple classifiers on real digits. `names` are the classes,
    `heads` of a one-head model are ("class",); other values go into result.json.
    """
    run = root / folder
    (run / "weights").mkdir(parents=True)
    (run / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (run / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (run / "weights" / "model.json").write_text(json.dumps({"classes": names}))
    evaluations = write_decisions(run, digits, names, heads)
    if journal:
        write_journal(run, heads, evaluations)
    finished = {
        "state": "finished",
        "step": 690,
        "epoch": 30.0,
        "seconds": 84.2,
        "best": {"weights": "ema", "epoch": 28, "top1": 0.9711},
        "teacher": {"teacher": "runs/teacher", "accuracy": 0.9861, "count": 360},
        "notes": ["360 of 1797 images were set aside for validation."],
        "bad_images": [],
        "evaluations": evaluations,
    }
    (run / "result.json").write_text(json.dumps(finished | result))
    return run


def write_decisions(
    run: Path, digits: Digits, names: tuple[str, ...], heads: tuple[str, ...]
) -> dict[str, Any]:
    """Predictions and pictures of two classifiers of pixels; the evaluation that follows."""
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier

    images, labels = digits
    pixels = images[..., 0].reshape(len(images), -1) / 255
    train, val = slice(360, None), slice(0, 360)
    near = KNeighborsClassifier(30).fit(pixels[train], labels[train]).predict_proba(pixels[val])
    noisy = pixels + np.random.default_rng(0).normal(0, 0.2, pixels.shape)
    bayes = GaussianNB(var_smoothing=0.1).fit(noisy[train], labels[train]).predict_proba(noisy[val])
    probabilities = {"class": bayes, "distillation": near, "joint": (near + bayes) / 2}
    decided = {head: probabilities[head].argmax(1) for head in heads}
    last = heads[-1]
    confidence = probabilities[last].max(1)
    truth = labels[val]
    with (run / "predictions.csv").open("w", newline="", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "label", "class", "distillation", "joint", "confidence"])
        for row in range(360):
            columns = [names[decided[h][row]] if h in decided else "" for h in probabilities]
            writer.writerow([f"{row}.png", names[truth[row]], *columns, confidence[row]])
    worst = confident_mistakes(decided[last] == truth, confidence)
    entries = [
        Mistake(f"{i}.png", names[truth[i]], names[decided[last][i]], float(confidence[i]))
        for i in worst
    ]
    save_mistakes(run, [images[val][i] for i in worst], entries)
    save_mixed_views(run, images[train], labels[train], names)
    measured = {
        head: {
            "top1": float((decided[head] == truth).mean()),
            "top5": 0.997,
            "nll": float(-np.log(probabilities[head][range(360), truth] + 1e-3).mean()),
            "count": 360,
        }
        for head in heads
    }
    return {"raw": measured, "ema": measured}


def save_mixed_views(
    run: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> None:
    """Twelve images mixed with their mirror partners; the teacher errs on every fifth."""
    first, second = images[:12].astype(float), images[11::-1].astype(float)
    mixed = (0.62 * first + 0.38 * second).astype(np.uint8).repeat(2, 1).repeat(2, 2)
    targets = [[(names[labels[i]], 0.62), (names[labels[11 - i]], 0.38)] for i in range(12)]
    teacher = [names[(labels[i] + (i % 5 == 4)) % len(names)] for i in range(12)]
    save_views(run, mixed, targets, teacher)


def write_journal(run: Path, heads: tuple[str, ...], evaluations: dict[str, Any]) -> None:
    """Steps and evaluations of 30 epochs of 23 steps that end in the given evaluations."""
    records: list[dict[str, Any]] = [{"event": "start", "step": 0, "epoch": 0}]
    for step in range(10, 691, 10):
        done = step / 690
        label = 0.5 + 1.8 * (1 - done) ** 3 + 0.05 * np.sin(step)
        teacher = 0.4 + 1.9 * (1 - done) ** 3 + 0.05 * np.cos(step)
        values = {
            "loss": (label + teacher) / 2,
            "loss_label": label,
            "loss_teacher": teacher,
            "lr": 1e-3 * min(step / 115, 0.5 + 0.5 * np.cos(np.pi * done)),
            "images_per_second": 600 + 30 * np.sin(step / 40),
            "data_wait": 0.02 + 0.01 * np.cos(step / 30),
        }
        records.append({"event": "step", "step": step, "epoch": step / 23} | values)
    for epoch in range(1, 31):
        for weights, power in (("raw", 3), ("ema", 4)):
            share = 1 - 0.9 * (1 - epoch / 30) ** power
            record = {"event": "evaluation", "step": 23 * epoch, "epoch": epoch, "weights": weights}
            for head in heads:
                last = evaluations[weights][head]
                record[head] = last | {
                    "top1": round(share * last["top1"] * 360) / 360,
                    "nll": last["nll"] + 2 * (1 - share),
                }
            records.append(record)
    records.sort(key=lambda record: record["step"])
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@dataclass(frozen=True)
class Element:
    """A start tag with its attributes and all text below it."""

    tag: str
    attributes: dict[str, str]
    texts: list[str]

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


class Page(HTMLParser):
    """The elements of an HTML page in the order of their start tags."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in ("meta", "img", "br", "link"):
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"<{self._open[-1].tag}> closed by </{tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.texts.append(data)

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    @property
    def text(self) -> str:
        return self.all("main")[0].text

    def rows(self) -> list[str]:
        """The text of every table row."""
        return [row.text for row in self.all("tr")]


@pytest.fixture
def read_page() -> Callable[[Path], Page]:
    return lambda path: Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def check_page() -> Callable[[Page], None]:
    """What holds for every page: it needs nothing from outside, runs nothing, hides nothing."""

    def check(page: Page) -> None:
        assert {e.tag for e in page.elements}.isdisjoint({"script", "link", "iframe", "object"})
        for element in page.elements:
            for name, value in element.attributes.items():
                assert not name.startswith("on"), element
                assert "://" not in value, element
            source = element.attributes.get("src", "data:image/png;")
            assert source.startswith(("data:image/png;", "data:image/jpeg;"))
        styles = " ".join(e.text for e in page.all("style"))
        assert "@import" not in styles
        assert "url(" not in styles
        ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
        assert len(ids) == len(set(ids))
        assert all(e.attributes.get("alt") for e in page.all("img"))
        assert all(e.attributes.get("aria-label") for e in page.all("svg"))
        assert len(page.all("caption")) == len(page.all("table"))
        assert "default-src 'none'" in page.html

    return check
