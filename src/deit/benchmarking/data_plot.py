"""Views per second of all sides as bars."""

from pathlib import Path

from deit.benchmarking.data import HOST_PART, OURS, DataTimes, epochs_of, views_of_an_image

_COLOURS = {OURS: "#1f5fbf", HOST_PART: "#8fb4e8"}
_PEER = "#b0b0b0"


def draw_speeds(measured: DataTimes, path: Path) -> None:
    """One group of bars for each case, ours in blue, with the figures at their ends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = list(measured.timings)
    figure = Figure(figsize=(7, 1.7 * len(cases) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, case in zip(figure.subplots(len(cases), 1, squeeze=False)[:, 0], cases, strict=True):
        sides = measured.timings[case]
        speeds = [measured.views_of(case) / timing.median for timing in sides.values()]
        bars = axes.barh(
            list(sides), speeds, color=[_COLOURS.get(side, _PEER) for side in sides], height=0.7
        )
        axes.bar_label(bars, [f"{speed:.0f}" for speed in speeds], padding=3)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, 1.12 * max(speeds))
        axes.set_title(_title(case, measured.cores), loc="left", fontsize=10)
    axes.set_xlabel("training views per second")
    figure.savefig(path, dpi=150)


def _title(case: str, cores: int) -> str:
    views = {1: "one view of each image", 3: "three views of each image"}[views_of_an_image(case)]
    return f"{views}, {'one core' if epochs_of(case) == 1 else f'{cores} cores'}"
