"""Views per second of all sides as bars."""

from pathlib import Path

from deit.benchmarking.data import HOST_PART, OURS, DataTimes

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
        speeds = [measured.views / timing.median for timing in sides.values()]
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
    name = case.removesuffix("_all_cores")
    views = {"single": "one view of each image", "repeat3": "three views of each image"}[name]
    return f"{views}, {'one core' if name == case else f'{cores} cores'}"
