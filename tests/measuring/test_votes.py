"""Votes are counted as documented, mixed views in proportion."""

import numpy as np
import pytest

from deit.errors import UserError
from deit.measuring.votes import Views, Votes, larger_part


def views_of(samples, decisions, weights=None, beside=None, **kept) -> Views:
    """Views, unmixed unless told otherwise."""
    size = len(samples)
    return Views(
        samples=np.array(samples),
        decisions=np.array(decisions),
        weights=np.ones(size) if weights is None else np.array(weights),
        beside=np.full(size, -1) if beside is None else np.array(beside),
        **{name: np.array(value) for name, value in kept.items()},
    )


def table(votes: Votes) -> dict[tuple[int, int], tuple[int, float, float]]:
    """(image, class) to views, decided, mass."""
    columns = (votes.images, votes.classes, votes.views, votes.decided, votes.mass)
    return {
        (int(image), int(class_)): (int(views), float(decided), float(mass))
        for image, class_, views, decided, mass in zip(*columns, strict=True)
    }


def test_unmixed_views_are_whole_votes():
    """Three views of one image in two calls."""
    votes = Votes(np.array([1, 0]), 3)
    votes.add(views_of([0, 0], [1, 2]))
    votes.add(views_of([0], [2]))
    assert table(votes) == {(0, 1): (1, 1.0, 1.0), (0, 2): (2, 2.0, 2.0)}
    assert votes.total.tolist() == [3.0, 0.0]
    assert np.isnan(votes.sure[0])


def test_mixed_view_counts_in_proportion_and_not_for_its_other_image():
    """For: 0.75. Left out: the other image's label. Against: 0.6. Own label beside: for."""
    votes = Votes(np.array([0, 1, 0]), 3)
    votes.add(views_of([0, 0, 0, 2], [0, 1, 2, 0], [0.75, 0.75, 0.6, 0.5], [1, 1, 1, 0]))
    assert table(votes) == {
        (0, 0): (1, 0.75, 0.75),
        (0, 2): (1, 0.6, 0.6),
        (2, 0): (1, 0.5, 0.5),
    }


def test_probabilities_leave_out_the_other_image():
    """Four classes, given 0, beside 1; kept 1: 0.5 and 2: 0.25, so 0 and 3 have 0.125 each."""
    votes = Votes(np.array([0]), 4)
    votes.add(views_of([0], [1], [0.5], [1], classes=[[1, 2]], probabilities=[[0.5, 0.25]]))
    assert table(votes) == {(0, 0): (0, 0.0, 0.0625), (0, 2): (0, 0.0, 0.125)}
    assert votes.total.tolist() == [0.25]


@pytest.mark.parametrize("beside", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("given", [0, 1, 3])
def test_mass_agrees_with_full_probabilities(beside, given):
    """Top-2 rows against rows written out in full, in float64."""
    full = np.array([0.5, 0.25, 0.125, 0.125])
    votes = Votes(np.array([given]), 4)
    kept = {"classes": [[0, 1]], "probabilities": [[0.5, 0.25]]}
    votes.add(views_of([0], [0], [0.75], [beside], **kept))
    if beside not in (-1, given):
        full[beside] = 0
    assert votes.total[0] == pytest.approx(0.75 * full.sum(), abs=1e-12)
    assert votes.on_given(votes.mass)[0] == pytest.approx(0.75 * full[given], abs=1e-12)


def test_confidence_is_weighted_like_the_vote():
    """0.5 x 0.9 of a mixed view and 0.3 of a whole one."""
    votes = Votes(np.array([0]), 3)
    votes.add(views_of([0, 0], [0, 2], [0.5, 1.0], [1, -1], confidence=[0.9, 0.3]))
    assert votes.sure[0] == pytest.approx(0.75)


def test_the_larger_part_decides_whose_view_it_is():
    """A group of four with weight 0.25: each place shows mostly its partner; 0.5 stays."""
    shown = larger_part(np.full(4, 0.25, np.float32), np.array([3, 2, 1, 0]))
    assert shown.places.tolist() == [3, 2, 1, 0]
    assert shown.others.tolist() == [0, 1, 2, 3]
    even = larger_part(np.full(2, 0.5, np.float32), np.array([1, 0]))
    assert (even.places.tolist(), even.weights.tolist()) == ([0, 1], [0.5, 0.5])


def test_a_label_that_is_no_class_is_refused():
    """An index past the class list."""
    with pytest.raises(UserError, match="label 3 of 3 classes"):
        Votes(np.array([0, 3]), 3)
