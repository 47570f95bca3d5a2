"""Class trees with random faults, in which every image says its true class by its grey level.

A label that disagrees with the pixels is a silent shift: the worst that can happen to a data set.
The judge reads pixels and labels and knows nothing of how names are matched.
"""

import io
import os
import random
import tarfile
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deit.data.classes import ClassList
from deit.data.dataset import DataSet, Source
from deit.data.sources import open_data, open_evaluation
from deit.data.spellings import match_classes
from deit.errors import UserError

WORDNET = {
    "tench": "n01440764",
    "great white shark": "n01484850",
    "junco": "n01534433",
    "red fox": "n02119022",
    "Arctic fox": "n02120079",
    "crane": "n02012849",  # the bird; ImageNet has a machine of this name, n03126707
}
OWN = ["cat", "cat2", "cat_big", "Cat Food", "café", "naïve übung", "1", "2", "10", "a", "A", "b-c"]
OWN += ["n03126707"]
NEW = ["okapi", "zzz", "0", "fox", "aardvark", "n99999999"]


@dataclass
class Tree:
    """What a data folder is to hold.

    Attributes:
        train, val: the true class of each folder, by the folder's name.
        val_name: what the validation split is called.
        empty: folders without images.
        links: folders that lie elsewhere and are linked to.
        faults: what was changed, by name.
    """

    train: dict[str, int]
    val: dict[str, int]
    val_name: str = "val"
    empty: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def other_case(name: str, draw: random.Random) -> str:
    """The name in capitals, in small letters, or with its case exchanged."""
    return draw.choice((str.upper, str.lower, str.title, str.swapcase))(name)


def other_signs(name: str, draw: random.Random) -> str:
    """Another sign between the words, or a space around them."""
    if " " in name or "_" in name or "-" in name:
        return name.translate(str.maketrans(" _-", draw.choice(("___", "---", "   "))))
    return draw.choice((f"{name} ", f" {name}", f"{name}_"))


def typing_error(name: str, draw: random.Random) -> str:
    """A letter lost, doubled, or exchanged with its neighbour."""
    spot = draw.randrange(len(name))
    lost = name[:spot] + name[spot + 1 :]
    exchanged = name[:spot] + name[spot : spot + 2][::-1] + name[spot + 2 :]
    return draw.choice((lost, name[:spot] + name[spot] + name[spot:], exchanged)) or f"{name}{name}"


def other_letters(name: str, draw: random.Random) -> str:
    """The same letters in another form of Unicode."""
    return unicodedata.normalize(draw.choice(("NFC", "NFD", "NFKD")), name)


def other_vocabulary(name: str, draw: random.Random) -> str:
    """An ImageNet class by its WordNet id instead of in words, or the other way round."""
    words = {wordnet_id: word for word, wordnet_id in WORDNET.items()}
    return WORDNET.get(name) or words.get(name, name)


def longer(name: str, draw: random.Random) -> str:
    """With something before or behind it."""
    return draw.choice(
        (f"{draw.randrange(20):02d}_{name}", f"{name}2", f"the {name}", f"{name}.old")
    )


def unrelated(name: str, draw: random.Random) -> str:
    """Another name altogether."""
    return "".join(draw.choices("bdfgkpt", k=5))


RENAMINGS: tuple[Callable[[str, random.Random], str], ...] = (
    other_case,
    other_signs,
    typing_error,
    other_letters,
    other_vocabulary,
    longer,
    unrelated,
)


def perturbed_names(classes: dict[str, int], draw: random.Random) -> tuple[dict[str, int], str]:
    """Names with one fault: a class renamed, lost, added, or all of them respelled."""
    names = list(classes)
    kind = draw.choice(("rename", "rename", "rename all", "lose", "add", "nothing"))
    if kind == "lose" and len(names) > 2:
        names.remove(draw.choice(names))
        return {name: classes[name] for name in names}, kind
    if kind == "add":
        extra = draw.choice([name for name in NEW if name not in classes])
        return classes | {extra: 200 + NEW.index(extra)}, kind
    if kind.startswith("rename"):
        how = draw.choice(RENAMINGS)
        chosen = names if kind == "rename all" else [draw.choice(names)]
        new = {(how(name, draw) if name in chosen else name): classes[name] for name in names}
        usable = all(name.strip(". ") and "/" not in name and name[0] != "." for name in new)
        if usable and len(new) == len(classes):  # else two would be one folder
            return new, "nothing" if list(new) == names else f"{kind}: {how.__name__}"
    return dict(classes), "nothing"


def draw_classes(draw: random.Random) -> dict[str, int]:
    """Three to seven classes; their numbers follow no order of their names."""
    words = list(WORDNET) if draw.random() < 0.5 else list(WORDNET.values())
    pool = [*words, *OWN]
    names = draw.sample(pool, draw.randint(3, 7))
    return dict(zip(names, draw.sample(range(100), len(names)), strict=True))


def draw_tree(seed: int) -> Tree:
    """A tree with up to three faults, none of which makes one name stand for two classes.

    That would be a wrong label, not a shift, and nothing but the pixels could tell.
    """
    draw = random.Random(seed)
    while True:
        tree = _draw_tree(draw)
        if all(tree.train.get(name, number) == number for name, number in tree.val.items()):
            return tree


def _draw_tree(draw: random.Random) -> Tree:
    classes = draw_classes(draw)
    tree = Tree(dict(classes), dict(classes), draw.choice(("val", "val", "validation", "test")))
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        fault = draw.choice(("val", "val", "train", "empty", "link"))
        if fault == "val":
            tree.val, said = perturbed_names(tree.val, draw)
        elif fault == "train":
            tree.train, said = perturbed_names(tree.train, draw)
        else:
            split, names = draw.choice((("train", tree.train), (tree.val_name, tree.val)))
            said = f"{fault} in {split}"
            if fault == "link":
                tree.links.append(f"{split}/{draw.choice(list(names))}")
            else:
                tree.empty.append(f"{split}/{draw.choice([*names, *NEW])}")
        tree.faults += [] if said == "nothing" else [said]
    return tree


def pixel(level: int) -> bytes:
    """An image file of one pixel."""
    return b"P5 1 1 255 " + bytes([level])


def files_of(tree: Tree, draw: random.Random) -> list[tuple[str, bytes]]:
    """Name and content of every file, in no order; folders end in a slash."""
    files = []
    for split, classes in (("train", tree.train), (tree.val_name, tree.val)):
        for name, number in classes.items():
            folder = f"{split}/{name}"
            files.append((f"{folder}/", b""))
            if folder not in tree.empty:
                deeper = draw.choice(("", "", "", "deeper/"))
                files.append((f"{folder}/{draw.choice('abc')}1.pgm", pixel(number)))
                files.append((f"{folder}/{deeper}2.pgm", pixel(number)))
    files += [(f"{folder}/", b"") for folder in tree.empty]
    draw.shuffle(files)
    return files


def write_folder(tree: Tree, root: Path, draw: random.Random) -> str:
    """The tree on the disk, made in a random order; linked folders lie elsewhere."""
    for number, folder in enumerate(dict.fromkeys(tree.links)):
        if (folder.partition("/")[2]) in (tree.train if folder[:6] == "train/" else tree.val):
            aside = root / f".aside{number}"
            aside.mkdir(parents=True)
            (root / folder).parent.mkdir(exist_ok=True)
            os.symlink(aside, root / folder)
    for name, content in files_of(tree, draw):
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return str(root)


def write_shards(tree: Tree, root: Path, draw: random.Random) -> str:
    """The tree in one to three tar files, each member in any of them."""
    root.mkdir(parents=True, exist_ok=True)
    files = files_of(tree, draw)
    count = draw.randint(1, 3)
    for number in range(count):
        with tarfile.open(root / f"{number}.tar", "w") as archive:
            for name, content in files[number::count]:
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return str(root / f"{{0..{count - 1}}}.tar") if count > 1 else str(root / "0.tar")


def levels(source: Source) -> list[int]:
    """What each image says of itself."""
    return [int(source.read(index)[0, 0, 0]) for index in range(len(source))]


def meaning(source: Source, said: Sequence[int]) -> dict[int, int]:
    """The true class of each label of the training images.

    Raises:
        AssertionError: when images of one label are of two classes.
    """
    found: dict[int, int] = {}
    for label, level in zip(source.labels.tolist(), said, strict=True):
        assert found.setdefault(label, level) == level, "one label for two classes"
    return found


def shifts(data: DataSet) -> int:
    """How many validation images have a label that the training images use for another class."""
    known = meaning(data.train, levels(data.train))
    labels = zip(data.val.labels.tolist(), levels(data.val), strict=True)
    return sum(known[label] != level for label, level in labels)


def judge_splits(spec: str) -> str:
    """Whether training and validation images agree on every label: mapped, refused or shifted."""
    try:
        data = open_data(spec)
    except UserError:
        return "refused"
    return "shifted" if shifts(data) else "mapped"


def judge_evaluation(spec: str, tree: Tree, draw: random.Random) -> str:
    """The same of images to measure on, for a model of the training classes in another order."""
    model = tree.train
    names = draw.sample(list(model), len(model))
    try:
        source, _ = open_evaluation(spec)
        places = match_classes(source.classes.names, ClassList(tuple(names)), "the model").places
    except UserError:
        return "refused"
    said = [model[names[places[label]]] for label in source.labels.tolist()]
    return "mapped" if said == levels(source) else "shifted"


def judge_teacher(classes: dict[str, int], teacher: dict[str, int], draw: random.Random) -> str:
    """The same of a teacher's class list, in another order and with faults of its own."""
    names = draw.sample(list(teacher), len(teacher))
    try:
        match = match_classes(list(classes), ClassList(tuple(names)), "the teacher")
    except UserError:
        return "refused"
    said = [teacher[names[place]] for place in match.places]
    return "mapped" if said == list(classes.values()) else "shifted"
