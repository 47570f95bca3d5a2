"""Data sets of Hugging Face's `datasets`: which one is meant, where it is, what splits it has.

From a folder written by ``save_to_disk``, a folder that ``load_dataset`` understands, or the Hub.
Only bytes or paths, and labels, are taken; images are decoded by this library, like any other.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from deit.data.classes import listed
from deit.data.huggingface_source import HuggingFaceSource, Split
from deit.data.named_sets import PROBE_SECONDS, answers
from deit.data.names import printable
from deit.data.tree import TRAIN, VALIDATION
from deit.errors import UserError, did_you_mean

PREFIX = "hf:"
HUB = "https://huggingface.co"

SYNTAX = "hf:NAME or hf:FOLDER; options behind commas: config=, label=, image=, revision="

_OPTIONS = ("config", "label", "image", "revision")


@dataclass(frozen=True, slots=True)
class HuggingFaceSet:
    """The splits of a data set; see `load_set`.

    Attributes:
        title: how it is called in messages.
        splits: its splits by name.
        notes: what was decided.
    """

    title: str
    splits: Mapping[str, Split]
    notes: Sequence[str]

    def open(self) -> tuple[HuggingFaceSource, HuggingFaceSource | None, list[str]]:
        """Training images, validation images where there is such a split, notes.

        Raises:
            UserError: for a set that cannot be trained on, saying why.
        """
        if TRAIN not in self.splits:
            raise UserError(
                f"{self.title}: no split is called {TRAIN}; there are {listed(self.splits)}",
                f"{TRAIN} and one of {', '.join(VALIDATION)}; a validation split alone can be "
                "measured on",
                "rename the splits, or give another set",
            )
        train, notes = self.splits[TRAIN].open()
        if len(train.classes) == 1:
            raise UserError(
                f"{self.title}: images of one class only, {listed(train.classes.names)}",
                "two classes or more",
                "add images of others",
            )
        used = self._validation()
        unused = [name for name in self.splits if name not in (TRAIN, used)]
        if unused:
            notes.append(f"{self.title}: splits that are not used: {listed(unused)}")
        if used is None:
            return train, None, [*self.notes, *notes]
        val, _ = self.splits[used].open()
        new_index = train.classes.map_from(
            val.classes,
            complete=False,
            these=f"the classes of {TRAIN}",
            others=f"those of {used}",
        )
        val = replace(val, labels=new_index[val.labels], classes=train.classes)
        return train, val, [*self.notes, *notes]

    def open_evaluation(self) -> tuple[HuggingFaceSource, list[str]] | None:
        """The images of a validation split that stands alone, with notes; None for other sets.

        Raises:
            UserError: as `open`.
        """
        used = self._validation()
        if TRAIN in self.splits or used is None:
            return None
        source, notes = self.splits[used].open()
        return source, [*self.notes, *notes]

    def _validation(self) -> str | None:
        return next((name for name in VALIDATION if name in self.splits), None)


def is_saved_set(spec: str) -> bool:
    """Whether DATA is a folder that was written by ``save_to_disk``."""
    try:
        there = set(os.listdir(os.path.expanduser(spec)))
    except (OSError, ValueError):
        return False
    return "dataset_dict.json" in there or {"state.json", "dataset_info.json"} <= there


def load_set(spec: str) -> HuggingFaceSet:
    """Open a data set of `datasets`, fetching it first where it is one of the Hub and not there.

    Args:
        spec: a folder that `is_saved_set`; or ``hf:`` and a folder or a name on the Hub, with
            options behind commas, as ``hf:uoft-cs/cifar100,label=fine_label``.

    Raises:
        UserError: without `datasets`, and for a set that cannot be opened.
    """
    datasets = _require_datasets(spec)
    name, options = parse(spec)
    title = printable(spec)
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        folder = os.path.abspath(folder)
        found = _load_folder(datasets, title, folder, options)
    else:
        folder = ""
        found = _load_from_hub(datasets, title, name, options)
    notes = []
    if not (folder and is_saved_set(folder)):
        cache = printable(str(datasets.config.HF_DATASETS_CACHE))
        notes.append(f"{title} is read from {cache}, where `datasets` keeps it")
    splits = {
        split: Split(title, split, dataset, folder, options)
        for split, dataset in _by_split(found, os.path.basename(folder)).items()
    }
    return HuggingFaceSet(title, splits, notes)


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """The name or folder that is meant, and the options behind commas.

    >>> parse("hf:uoft-cs/cifar100,label=fine_label")
    ('uoft-cs/cifar100', {'label': 'fine_label'})

    Raises:
        UserError: for an option that there is not, and where there is no name.
    """
    if not spec.startswith(PREFIX):
        return spec, {}
    whole = spec.removeprefix(PREFIX)
    if whole and os.path.isdir(os.path.expanduser(whole)):
        return whole, {}
    name, *rest = whole.split(",")
    options = {}
    for part in rest:
        key, _, value = part.partition("=")
        if key not in _OPTIONS or not value:
            raise UserError(
                f"{printable(spec)}: '{printable(part)}'",
                SYNTAX,
                did_you_mean(key, _OPTIONS) or "correct it",
            )
        options[key] = value
    if not name:
        raise UserError(f"{printable(spec)}: no name", SYNTAX, "name a set or a folder")
    return name, options


def _require_datasets(spec: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{printable(spec)}: datasets is not installed",
            "data sets of Hugging Face with the extra `data`",
            'pip install "deit[data]"',
        ) from error
    return datasets


def _load_folder(datasets: Any, title: str, folder: str, options: Mapping[str, str]) -> Any:
    with _explained(title, "a folder that `datasets` can load"):
        if is_saved_set(folder):
            return datasets.load_from_disk(folder)
        return datasets.load_dataset(folder, options.get("config"))


def _load_from_hub(datasets: Any, title: str, name: str, options: Mapping[str, str]) -> Any:
    """A set of the Hub: from there, or where it does not answer from the cache."""
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{title}: no folder {printable(name)}", SYNTAX, "check the path")
    offline = bool(datasets.config.HF_HUB_OFFLINE) or not answers(HUB, PROBE_SECONDS)
    allowed = "a set of the Hub, or a folder"
    if offline:
        allowed = f"a set in the cache, while {HUB} cannot be reached; or a folder"
    with _explained(title, allowed), _offline(datasets, offline):
        return datasets.load_dataset(name, options.get("config"), revision=options.get("revision"))


@contextmanager
def _offline(datasets: Any, offline: bool) -> Iterator[None]:
    """Keep `datasets` from asking for half a minute where nobody answers."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


@contextmanager
def _explained(title: str, allowed: str) -> Iterator[None]:
    """Turn whatever `datasets` raises into one message; its errors have no class in common."""
    try:
        yield
    except Exception as error:
        reason = printable(" ".join(str(error).split())[:400]) or type(error).__name__
        raise UserError(
            f"{title} cannot be opened: {reason}",
            allowed,
            "check its name and options; or fetch it where there is a network, `save_to_disk` it, "
            "and give that folder",
        ) from error


def _by_split(found: Any, folder_name: str) -> dict[str, Any]:
    """The splits by name; one that stands alone is called as it or its folder is, else train."""
    if isinstance(found, dict):
        return {str(name): dataset for name, dataset in found.items()}
    own = [name for name in (str(found.split), folder_name) if name in VALIDATION]
    return {own[0] if own else TRAIN: found}
