"""`deit benchmark data`: every side does the same work, and what is said is what was measured."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deit.benchmarking import data
from deit.benchmarking.data import DataTimes, compare_views, our_batches, time_data
from deit.benchmarking.data_peers import PEERS, timm_batches
from deit.benchmarking.data_plot import draw_speeds
from deit.benchmarking.data_stages import OF_AN_IMAGE, ON_THE_DEVICE
from deit.benchmarking.photographs import link_images, write_photographs
from deit.cli import benchmarks
from deit.cli.main import main
from deit.errors import RunError, UserError

# timm opens files and leaves closing them to the collector; torchvision 0.29 means to give up its
# decoder.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:The image decoding:DeprecationWarning",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight JPEGs of 500 x 375 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, 8)
    return folder


@pytest.fixture(scope="module")
def measured() -> DataTimes:
    """All sides, once, with few images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "COMPARED", 8)
        return time_data(list(PEERS), images=8, batch_size=4, rounds=1)


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("side", ["deit", *PEERS])
def test_every_side_delivers_as_many_views(side: str, repeats: int, photographs: Path) -> None:
    """Whole batches of the paper's size, from two epochs of the same files."""
    batches = our_batches(photographs, 4, "host") if side == "deit" else PEERS[side](photographs, 4)
    shapes = [tuple(batch.shape) for batch in batches(repeats, 0, 2)]
    assert shapes == [(4, 3, 224, 224)] * 4


def test_peers_go_through_other_images_in_each_epoch(photographs: Path) -> None:
    """Their sampler draws anew when it is told the epoch. Ours does so by the step."""
    batches = timm_batches(photographs, 8)
    orders = [next(batches(1, 0, 1)).float().mean((1, 2, 3)).tolist() for _ in range(2)]
    assert orders[0] != orders[1]
    ours = our_batches(photographs, 8, "host")
    first, second = (next(ours(1, 0, 1)) for _ in range(2))
    assert not torch.equal(first, second)


def test_ratios_are_of_medians_and_above_one_where_ours_is_faster(measured: DataTimes) -> None:
    """The published form: ratios.PEER.CASE."""
    told = measured.to_json()
    cases = ["single", "repeat3", "single_all_cores", "repeat3_all_cores"]
    assert list(told["sides"]) == cases
    for peer, case in itertools.product(PEERS, cases):
        ours, theirs = (told["sides"][case][side]["median_seconds"] for side in ("deit", peer))
        assert told["ratios"][peer][case] == pytest.approx(theirs / ours)
        views = 8 * (4 if case.endswith("all_cores") else 1)
        assert told["images_per_second"][case][peer] == pytest.approx(views / theirs)
    assert set(OF_AN_IMAGE + ON_THE_DEVICE) < set(told["stage_microseconds"])
    assert json.loads(json.dumps(told)) == told


def test_table_and_picture_show_every_side(measured: DataTimes, tmp_path: Path, capsys) -> None:
    """Eighty columns suffice."""
    from rich.console import Console

    benchmarks.show_data(Console(width=80).print, measured)
    shown = capsys.readouterr().out
    for words in ("1 view of an image, one core", "3 views of an image", *PEERS, "decode"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 80
    draw_speeds(measured, tmp_path / "speeds.png")
    assert np.asarray(Image.open(tmp_path / "speeds.png")).std() > 10


def test_views_that_do_not_look_alike_are_not_timed(photographs: Path) -> None:
    """A side that makes black pictures would be fast."""
    ours = our_batches(photographs, 4, "host")
    black = torch.zeros((4, 3, 224, 224), dtype=torch.uint8)
    with pytest.raises(RunError, match=r"timm's views have a mean of 0\.0"):
        compare_views({"deit": ours, "timm": lambda *asked: iter([black])}, views=8)
    with pytest.raises(RunError, match="shape"):
        compare_views({"deit": lambda *asked: iter([black[..., :9]])}, views=8)


def test_images_of_a_folder_are_used_where_they_lie(photographs: Path, tmp_path: Path) -> None:
    """Links, as many as were asked for, the same ones each time."""
    for name in ("once", "again"):
        link_images(str(photographs), tmp_path / name, 6)
    chosen = [
        [path.resolve() for path in sorted((tmp_path / name / "train").rglob("*.jpg"))]
        for name in ("once", "again")
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 6
    with pytest.raises(UserError, match="16 JPEG files"):
        link_images(str(photographs), tmp_path / "more", 17)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--peers", "tim"], "did you mean timm"),
        (["--peers", "timm,timm"], "at most once"),
        (["--images", "100"], "a multiple of the batch size"),
        (["--plot", "x.gif"], ".svg or .png"),
        (["--rounds", "0"], "--rounds"),
    ],
)
def test_wrong_use_is_answered_before_anything_is_timed(words, message, capsys) -> None:
    """Exit code 2 and one message."""
    assert main(["benchmark", "data", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_line_knows_the_peers() -> None:
    """Their names stand there again, so that help needs no torch."""
    assert tuple(PEERS) == benchmarks._DATA_PEERS
