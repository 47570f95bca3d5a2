"""A check of data: faults planted one by one into a clean set; each is found, and nothing else."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from deit.data.findings import KINDS
from deit.data.shrinking import ShrinkConfig
from deit.data.sources import open_data
from deit.data.survey import survey
from deit.errors import UserError
from deit.programs.check_data import Checked, check_data
from deit.programs.prepare_data import prepare_data

TRAIN, VAL = 12, 4


def picture(seed: int, size: int = 32) -> Image.Image:
    """Colour that changes slowly with some grain: no two are alike."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(float)
    grain = random.normal(0, 6, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def clean_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of PNGs of 32 px in train/ and val/, like CIFAR-10 unpacked."""
    root = tmp_path_factory.mktemp("clean")
    for number, name in enumerate(("bird", "cat", "ship")):
        for split, count in (("train", TRAIN), ("val", VAL)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                picture(1000 * number + 100 * (split == "val") + index).save(
                    folder / f"{index}.png"
                )
    return root


@pytest.fixture
def data(clean_set: Path, tmp_path: Path) -> Path:
    """A copy of the clean set to plant faults in."""
    return Path(shutil.copytree(clean_set, tmp_path / "data"))


def named(checked: Checked) -> dict[str, list[list[str]]]:
    """For each kind of finding the names, or the classes, of its items."""
    return {
        finding.kind: [
            [image.name for image in item.images] or [*item.classes] for item in finding.items
        ]
        for finding in checked.findings
    }


def test_a_clean_set_has_no_finding(clean_set: Path) -> None:
    """48 images, and nothing to say about them."""
    checked = check_data(str(clean_set))
    assert checked.findings == []
    assert checked.images == {"train": 3 * TRAIN, "val": 3 * VAL}
    assert (checked.image_size, checked.failed) == (32, False)


def cut(root: Path) -> None:
    path = root / "train/cat/3.png"
    path.write_bytes(path.read_bytes()[:200])


def text(root: Path) -> None:
    (root / "val/ship/1.png").write_text("<html>404</html>")


def bomb(root: Path) -> None:
    (root / "train/cat/bomb.ppm").write_bytes(b"P6 20000 20000 255\n" + bytes(100))


def misnamed(root: Path) -> None:
    picture(9001).save(root / "train/cat/photo.jpg", "BMP")


def tiny(root: Path) -> None:
    picture(9002, 12).save(root / "train/cat/icon.png")


def huge(root: Path) -> None:
    picture(9003, 132).save(root / "train/cat/huge.png")


def stretched(root: Path) -> None:
    picture(9004, 132).crop((0, 0, 132, 32)).save(root / "train/cat/panorama.png")


def blank(root: Path) -> None:
    Image.new("RGB", (32, 32), (9, 20, 30)).save(root / "train/cat/blank.png")


def copied(root: Path) -> None:
    shutil.copy(root / "train/cat/3.png", root / "train/cat/copy.png")


def leaked(root: Path) -> None:
    Image.open(root / "train/cat/3.png").save(root / "val/cat/leak.bmp")


def relabelled(root: Path) -> None:
    shutil.copy(root / "train/cat/3.png", root / "train/ship/3b.png")


def leaked_and_relabelled(root: Path) -> None:
    shutil.copy(root / "train/cat/3.png", root / "val/ship/3b.png")


def edited(source: Path, target: Path) -> None:
    """Brighter, and as a JPEG of low quality."""
    brighter = ImageEnhance.Brightness(Image.open(source)).enhance(1.1)
    brighter.save(target, quality=60)


def nearly_copied(root: Path) -> None:
    edited(root / "train/cat/3.png", root / "train/cat/edited.jpg")


def nearly_leaked(root: Path) -> None:
    edited(root / "train/cat/3.png", root / "val/cat/edited.jpg")


def nearly_relabelled(root: Path) -> None:
    edited(root / "train/cat/3.png", root / "val/ship/edited.jpg")


def grey(root: Path) -> None:
    picture(9005).convert("L").save(root / "train/cat/grey.png")


def transparent(root: Path) -> None:
    image = picture(9006).convert("RGBA")
    image.putalpha(128)
    image.save(root / "train/cat/glass.png")


def turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(9007).save(root / "train/cat/turned.jpg", exif=exif)


def cmyk(root: Path) -> None:
    picture(9008).convert("CMYK").save(root / "train/cat/print.jpg")


def animated(root: Path) -> None:
    frames = [picture(seed) for seed in (9009, 9010)]
    frames[0].save(root / "train/cat/film.gif", save_all=True, append_images=frames[1:])


def unknown(root: Path) -> None:
    (root / "val/zebra").mkdir()
    picture(9011).save(root / "val/zebra/0.png")


def respelled(root: Path) -> None:
    (root / "val/cat").rename(root / "val/Cat")


def unmeasured(root: Path) -> None:
    shutil.rmtree(root / "val/cat")


def empty(root: Path) -> None:
    (root / "train/zebra").mkdir()


def uneven(root: Path) -> None:
    for index in range(1, TRAIN):
        (root / f"train/cat/{index}.png").unlink()


def sibling(root: Path) -> None:
    for split in ("train", "val"):
        for index in range(TRAIN):
            (root / split / "cats").mkdir(exist_ok=True)
            picture(5000 + 100 * (split == "val") + index).save(root / split / f"cats/{index}.png")


CAT = "train/cat/3.png"
PLANTED: list[tuple[Callable[[Path], None], dict[str, list[list[str]]]]] = [
    (cut, {"unusable": [[CAT]]}),
    (text, {"unusable": [["val/ship/1.png"]]}),
    (bomb, {"too-large": [["train/cat/bomb.ppm"]]}),
    (misnamed, {"wrong-suffix": [["train/cat/photo.jpg"]]}),
    (tiny, {"tiny": [["train/cat/icon.png"]]}),
    (huge, {"oversized": [["train/cat/huge.png"]]}),
    (stretched, {"stretched": [["train/cat/panorama.png"]]}),
    (blank, {"constant": [["train/cat/blank.png"]]}),
    (copied, {"duplicate": [[CAT, "train/cat/copy.png"]]}),
    (leaked, {"duplicate-splits": [[CAT, "val/cat/leak.bmp"]]}),
    (relabelled, {"duplicate-labels": [[CAT, "train/ship/3b.png"]]}),
    (
        leaked_and_relabelled,
        {
            "duplicate-labels": [[CAT, "val/ship/3b.png"]],
            "duplicate-splits": [[CAT, "val/ship/3b.png"]],
        },
    ),
    (nearly_copied, {"near": [[CAT, "train/cat/edited.jpg"]]}),
    (nearly_leaked, {"near-splits": [[CAT, "val/cat/edited.jpg"]]}),
    (nearly_relabelled, {"near-labels": [[CAT, "val/ship/edited.jpg"]]}),
    (grey, {"odd-colour": [["train/cat/grey.png"]]}),
    (transparent, {"transparent": [["train/cat/glass.png"]]}),
    (turned, {"turned": [["train/cat/turned.jpg"]]}),
    (cmyk, {"cmyk": [["train/cat/print.jpg"]]}),
    (animated, {"animated": [["train/cat/film.gif"]]}),
    (unknown, {"refused": [[]], "unknown-class": [["zebra"]]}),
    (
        respelled,
        {
            "refused": [[]],
            "unknown-class": [["Cat"]],
            "unmeasured-class": [["cat"]],
            "alike-names": [["cat", "Cat"]],
        },
    ),
    (unmeasured, {"unmeasured-class": [["cat"]]}),
    (empty, {"refused": [[]], "empty-class": [["zebra"]]}),
    (uneven, {"few-images": [["cat"]], "imbalance": [["bird"], ["cat"]]}),
    (sibling, {"alike-names": [["cat", "cats"]]}),
]


@pytest.mark.parametrize(
    ("plant", "expected"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED]
)
def test_a_planted_fault_is_found_and_nothing_else(
    data: Path, plant: Callable[[Path], None], expected: dict[str, list[list[str]]]
) -> None:
    """Its kind, its images by name, and the exit code by its severity."""
    plant(data)
    checked = check_data(str(data))
    assert named(checked) == expected
    assert checked.failed == any(KINDS[kind].severity == "error" for kind in expected)


def test_every_kind_of_finding_is_planted_once() -> None:
    """A kind that no test brings about could be dead."""
    assert {kind for _, expected in PLANTED for kind in expected} == set(KINDS)


def test_all_faults_at_once_are_all_found(data: Path) -> None:
    """None hides another; the order is that of severity, and the same each time."""
    for plant in (
        cut,
        bomb,
        misnamed,
        tiny,
        huge,
        stretched,
        blank,
        grey,
        unknown,
        respelled,
        cmyk,
    ):
        plant(data)
    checked = check_data(str(data))
    kinds = [finding.kind for finding in checked.findings]
    assert kinds == [kind for kind in KINDS if kind in kinds]
    assert {"refused", "unusable", "too-large", "wrong-suffix", "constant", "cmyk"} <= set(kinds)
    assert checked.plain() == check_data(str(data), threads=1).plain()


def test_copies_of_the_same_file_are_told_from_other_files(data: Path) -> None:
    """How many different files show the same pixels."""
    copied(data)
    leaked(data)
    (leak,) = check_data(str(data)).findings
    assert [image.name for image in leak.items[0].images] == [
        CAT,
        "train/cat/copy.png",
        "val/cat/leak.bmp",
    ]
    assert leak.items[0].values == {"files": 2}


def test_likeness_can_be_left_out_or_widened(data: Path) -> None:
    """0 looks for equal images only; the difference in bits is told."""
    nearly_leaked(data)
    assert check_data(str(data), near=0).findings == []
    (near,) = check_data(str(data), near=6).findings
    first, second = near.items[0].values["bits"]
    assert first == 0
    assert second <= 6


def test_sizes_are_judged_by_the_input_of_the_model(data: Path) -> None:
    """Images of 32 px are small for a model of 96 px and large for one of 4."""
    assert named(check_data(str(data), image_size=96)).keys() == {"tiny"}
    assert named(check_data(str(data), image_size=4)).keys() == {"oversized"}


def test_tar_shards_are_checked_like_the_folder(data: Path, tmp_path: Path) -> None:
    """The same findings, refusals of training among them, under the same names."""
    for plant in (text, leaked, misnamed, unknown):
        plant(data)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(data, arcname=".")
    folder, shards = check_data(str(data)), check_data(str(tmp_path / "all.tar"))
    assert named(shards) == named(folder)


def test_data_that_are_not_there_are_wrong_use(tmp_path: Path) -> None:
    """No finding: a message, as for every verb."""
    with pytest.raises(UserError, match="no folder"):
        check_data(str(tmp_path / "nowhere"))
    with pytest.raises(UserError):
        check_data("torchvision:NoSuchSet")


def test_a_folder_without_images_is_a_finding(tmp_path: Path) -> None:
    """It is there, so what is wrong with it is what the check is for."""
    (tmp_path / "cat").mkdir()
    checked = check_data(str(tmp_path))
    assert named(checked) == {"refused": [[]]}
    assert checked.failed
    assert "no image" in checked.plain()["findings"][0]["items"][0]["given"]


GOLDEN = Path(__file__).parent.parent / "golden" / "data_check.json"


def test_the_json_has_the_documented_form(data: Path, tmp_path: Path) -> None:
    """Scripts rely on it: fields, kinds and units are as in the golden file."""
    for plant in (text, leaked, relabelled, nearly_copied, tiny, misnamed, respelled):
        plant(data)
    plain = check_data(str(data)).plain()
    plain["data"] = "data"
    for finding in plain["findings"]:  # the words of other modules may change
        for item in finding["items"]:
            item |= {key: "..." for key in ("reason", "given", "allowed", "todo") if key in item}
    for image in plain["bad_images"]:
        image["reason"] = "..."
    written = json.dumps(plain, indent=1).replace(str(data), "data") + "\n"
    (tmp_path / "data_check.json").write_text(written)  # to copy from after a meant change
    assert json.loads(written) == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_an_image_costs_51_bytes(data: Path) -> None:
    """Whatever its size: a million of them fit into 51 MB."""
    surveyed = survey(open_data(str(data)).splits())
    assert surveyed.facts.nbytes == 51 * 3 * (TRAIN + VAL)
    assert surveyed.facts["layout"].all()


def test_endings_in_a_prepared_store_are_those_of_the_originals(tmp_path: Path) -> None:
    """PNG files that became JPEG keep their names; of a folder that would be a finding."""
    for split, count in (("train", 3), ("val", 1)):
        for number in range(2 * count):
            path = tmp_path / "photos" / split / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(100 * count + number, 48).save(path)
    photos = str(tmp_path / "photos")
    prepare_data(open_data(photos), photos, tmp_path / "store", ShrinkConfig(size=32))
    checked = check_data(str(tmp_path / "store"))
    assert sum(checked.images.values()) == 8
    assert "wrong-suffix" not in [finding.kind for finding in checked.findings]


@pytest.mark.parametrize("name", ["preparing.json", "dataset_dict.json"])
def test_a_store_that_cannot_be_opened_is_refused_once(name: str, tmp_path: Path) -> None:
    """Interrupted, or damaged: it is no folder without class folders."""
    (tmp_path / name).write_text("{}")
    (checked,) = check_data(str(tmp_path)).findings
    (item,) = checked.items
    assert checked.kind == "refused"
    assert "class folders" not in item.values["given"]
