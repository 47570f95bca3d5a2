"""Images that are lost in small crops."""

import numpy as np
import pytest

from deit.data.classes import ClassList
from deit.data.dataset import ArraySource
from deit.data.plan import ViewConfig, crop_box, plan_views
from deit.measuring.crops import Crops, crop_views, find_crop_losses
from deit.measuring.votes import Views, Votes


def crops_of(sample, agrees, sides) -> Crops:
    """Centred square crops of these sides."""
    sides = np.array(sides)
    corner = (1 - sides) / 2
    return Crops(
        samples=np.full(len(sides), sample),
        agrees=np.array(agrees, dtype=bool),
        weights=np.ones(len(sides)),
        boxes=np.stack([corner, corner, sides, sides], axis=1),
    )


def votes_of(labels, views) -> Votes:
    """So many views of each image, decided as labelled: losses only read how many there are."""
    votes, size = Votes(np.array(labels), 2), len(labels) * views
    samples = np.repeat(np.arange(len(labels)), views)
    decisions, beside = np.array(labels)[samples], np.full(size, -1)
    votes.add(Views(samples=samples, decisions=decisions, weights=np.ones(size), beside=beside))
    return votes


SIDES = [0.3, 0.9, 0.4, 1.0, 0.5, 0.8, 0.2, 0.7]
LARGE = [side > 0.6 for side in SIDES]


def test_drop_of_the_class_is_taken_off():
    """8 views: 4 of 4 against 0 of 4, drawn by one view to 0.8; two images of the class: 0.4."""
    found = find_crop_losses(crops_of(0, LARGE, SIDES), votes_of([0, 0, 1], 8))
    assert len(found) == 1
    assert (found[0].sample, found[0].much, found[0].little) == (0, 1.0, 0.0)
    assert found[0].excess == pytest.approx(0.4)
    assert found[0].lost[:, 2].tolist() == [0.5, 0.4, 0.3, 0.2]
    assert found[0].kept[:, 2].tolist() == [0.7, 0.8, 0.9, 1.0]


def test_loss_in_large_crops_is_none():
    """The other way round, and independent of the size."""
    both = [
        crops_of(0, [not large for large in LARGE], SIDES),
        crops_of(1, [1, 1, 0, 0, 1, 0, 0, 1], SIDES),
    ]
    assert find_crop_losses(Crops.joined(both), votes_of([0, 1], 8)) == []


def test_too_few_views_say_nothing():
    """Seven of them, and none at all."""
    assert find_crop_losses(crops_of(0, LARGE[:7], SIDES[:7]), votes_of([0, 0], 7)) == []
    assert find_crop_losses(crops_of(0, [], []), votes_of([0], 8)) == []


def test_of_equal_shares_the_central_ones_show_more():
    """Shifted crops of one size, as on images that are wider than high: lost at the side."""
    crops = crops_of(0, [1] * 4 + [0] * 4, [0.5] * 8)
    crops.boxes[:, 0] += [0, 0.01, -0.01, 0.02, 0.2, -0.2, 0.21, -0.22]
    (loss,) = find_crop_losses(crops, votes_of([0, 0], 8))
    assert (loss.much, loss.little) == (1.0, 0.0)


def test_a_border_shows_nothing():
    """A padded crop that sticks out by a quarter shows three quarters."""
    crops = crops_of(0, [1, 1], [1.0, 1.0])
    crops.boxes[0, 0] = 0.25
    assert crops.shown().tolist() == [0.75, 1.0]


@pytest.mark.parametrize("crop", ["random-resized", "pad", "simple", "resize"])
def test_boxes_are_those_of_the_rendered_views(crop):
    """Whatever else the view goes through."""
    config = ViewConfig(crop=crop)
    source = ArraySource(
        np.zeros((3, 20, 40, 3), np.uint8), np.zeros(3, np.int64), ClassList(("a",)), list("abc")
    )
    positions, samples = np.array([5, 2, 9]), np.array([0, 2, 0])
    nothing = np.ones(3)
    found = crop_views(config, 16, 7, 1, positions, samples, nothing > 0, nothing, source, {})
    plan = plan_views(config, 16, 7, 1, positions)
    for row in range(3):
        pixels = found.boxes[row] * (40, 20, 40, 20)
        assert pixels == pytest.approx(crop_box(plan, row, 40, 20))
