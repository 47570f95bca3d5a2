import math
import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from deit.report.intervals import Interval
from deit.report.plots import Series, bar_plot, dot_plot, interval_plot, line_plot, thin

LINES = [Series("one", [0, 1, 2], [1.0, 2.0, 3.0]), Series("two", [1], [2.0], colour=1)]


def all_plots() -> list:
    intervals = [Interval(0.01, -0.01, 0.03), Interval(-0.02)]
    return [
        line_plot("lines", "a line", LINES, x_label="epoch", percent=True),
        bar_plot("bars", "two bars", [0, 1, 3], [5, 2], x_label="pixels"),
        dot_plot("dots", "a row", ["a", "b"], [[0.5, 0.6], [0.7]], [0, 4]),
        interval_plot("differences", "an interval", ["a", "b"], intervals, [0, 1]),
    ]


@pytest.mark.parametrize("plot", all_plots(), ids=lambda plot: plot.title)
def test_plot_is_part_of_the_page(plot):
    """Whole XML, described in words, in the page's colours, without an outside name."""
    root = ElementTree.fromstring(plot.svg)
    assert root.attrib["aria-label"] == plot.description
    assert "//" not in plot.svg
    assert "font-family" not in plot.svg
    assert not re.search(r"#[0-9a-f]{6}", plot.svg)
    assert {"var(--soft)", "var(--line)", "var(--c0)"} <= set(re.findall(r"var\(.*?\)", plot.svg))


def test_plot_is_the_same_each_time():
    """Neither the clock nor chance enters a report."""
    assert [plot.svg for plot in all_plots()] == [plot.svg for plot in all_plots()]


def test_plot_ignores_and_keeps_the_callers_style():
    """A style that someone set for their own figures does not reach the report, nor is it lost."""
    expected = all_plots()[0].svg
    with mpl.rc_context({"font.size": 30, "axes.linewidth": 9}):
        assert all_plots()[0].svg == expected
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize("label", ["<script>", "$x_1", "$\\frac$", "&amp;", "#010101", "十二"])
def test_labels_are_text(label):
    """No label is markup, mathematics or one of the marker colours."""
    plot = dot_plot("dots", label, [label], [[0.5]], [0])
    root = ElementTree.fromstring(plot.svg)
    assert label in [element.text for element in root.iter("text")]
    assert root.attrib["aria-label"] == label


def test_values_that_are_no_numbers_are_left_out():
    """A loss that was not finite once leaves a gap in nothing else."""
    holed = [Series("one", [0, 1, 2, 3], [1.0, math.nan, math.inf, 2.0])]
    whole = [Series("one", [0, 3], [1.0, 2.0])]
    plots = [line_plot("t", "d", lines, x_label="epoch") for lines in (holed, whole)]
    assert plots[0].svg == plots[1].svg


def test_long_lines_are_thinned_by_means():
    """A hundred thousand steps are drawn as 400 points whose mean is the same."""
    x = np.arange(100_000.0)
    y = np.random.default_rng(0).normal(size=100_000)
    few_x, few_y = thin(x, y)
    assert len(few_x) == len(few_y) == 400
    assert few_y.mean() == pytest.approx(y.mean())
    assert (np.diff(few_x) > 0).all()
