"""Charts of a fleet day: plain axes, one idea each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, SOFT, GRID = "#1f2933", "#52606d", "#e4e8ed"
BLUE, ORANGE, RED, GREEN, GREY = "#2f6fde", "#e8833a", "#c8442e", "#2a9d76", "#c3cad3"
HOURS = range(24)
LEAST_ROWS = 4
THOUSANDS = FuncFormatter(
    lambda value, _: f"{value:,.0f}" if value == round(value) else f"{value:g}"
)


def style() -> None:
    """Set the look of every chart of the notebook."""
    plt.rcParams.update(
        {
            "font.family": "DejaVu Sans", "font.size": 9.5, "text.color": INK,
            "axes.labelcolor": SOFT, "axes.edgecolor": "#c3cad3", "axes.titlecolor": INK,
            "axes.titlelocation": "left", "axes.titlesize": 11, "axes.titleweight": "bold",
            "axes.titlepad": 10, "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8,
            "xtick.color": SOFT, "ytick.color": SOFT, "xtick.major.size": 0, "ytick.major.size": 0,
            "legend.frameon": False, "figure.dpi": 100, "figure.facecolor": "white",
        }
    )  # fmt: skip


def show(figure: Figure, alt_text: str) -> None:
    """Show a figure once, with what it tells as its alternative text."""
    display(figure, metadata={"image/png": {"alt": alt_text}})
    plt.close(figure)


def distances(
    vehicles: Sequence[tuple[str, float, float, float]], all_km: Sequence[float]
) -> Figure:
    """Distance and speeds of `vehicles` (name, km, mean and highest km/h), and of all the km."""
    figure, (far, fast, spread) = plt.subplots(
        1, 3, figsize=(11, 1.3 + 0.24 * max(len(vehicles), 6)), width_ratios=(1.25, 1, 1),
        layout="constrained",
    )  # fmt: skip
    names, km, mean, highest = zip(*vehicles, strict=True)
    mean, highest = np.array(mean, float), np.array(highest, float)
    rows = np.arange(len(names))
    far.barh(rows, km, color=BLUE, height=0.68)
    _rows(far, names)
    far.set(title="Distance by GPS", xlabel="km")
    far.xaxis.set_major_formatter(THOUSANDS)
    fast.hlines(rows, mean, highest, color=GREY, linewidth=2.2)
    fast.plot(mean, rows, "o", color=BLUE, markersize=5.5, label="mean")
    fast.plot(highest, rows, "o", color=RED, markersize=5.5, label="highest")
    _rows(fast, [""] * len(names))
    fast.set(title="Speed", xlabel="km/h")
    fast.set_xlim(left=0)
    fast.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=2, handletextpad=0.1,
                columnspacing=0.8, borderaxespad=0.2)  # fmt: skip
    spread.hist(all_km, bins=min(20, max(4, len(all_km) // 3)), range=(0, max(*all_km, 1)),
                color=BLUE, alpha=0.75, rwidth=0.94)  # fmt: skip
    spread.set(title="All vehicles by distance", xlabel="km", ylabel="vehicles")
    spread.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    spread.xaxis.set_major_formatter(THOUSANDS)
    spread.grid(axis="x", visible=False)
    return figure


def hours_of_day(driving_min: Sequence[float], idle_min: Sequence[float], zone: str) -> Figure:
    """Minutes driven and idle in each of the 24 hours, all vehicles together."""
    figure, axes = plt.subplots(figsize=(11, 3.1), layout="constrained")
    axes.bar(HOURS, driving_min, color=BLUE, width=0.78, label="driving")
    axes.bar(HOURS, idle_min, bottom=driving_min, color=ORANGE, width=0.78, label="idle")
    axes.set(title="All vehicles together", xlabel=f"hour of the day, {zone}",
             ylabel="vehicle minutes", xlim=(-0.6, 23.6))  # fmt: skip
    axes.set_xticks(HOURS, [f"{hour:02d}" for hour in HOURS])
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


def vehicle_hours(
    names: Sequence[str], driving_min: np.ndarray, idle_min: np.ndarray, zone: str, of: int
) -> Figure:
    """Two grids, vehicle by hour, minutes driven and idle, of `names` out of `of` vehicles."""
    figure, grids = plt.subplots(
        1, 2, figsize=(11, 1.5 + 0.2 * max(len(names), 4)), layout="constrained", sharey=True
    )
    shown = (("Driving", driving_min, BLUE), ("Idle", idle_min, ORANGE))
    for axes, (title, minutes, colour) in zip(grids, shown, strict=True):
        shade = LinearSegmentedColormap.from_list(title, ["#f4f6f8", colour, "#10233f"])
        drawn = axes.pcolormesh(minutes, cmap=shade, vmin=0, vmax=60, edgecolor="white", lw=0.7)
        axes.set_title(f"{title}, {len(names)} of {of:,} vehicles")
        axes.set_xlabel(f"hour of the day, {zone}")
        axes.set_xticks(np.arange(0, 24, 3) + 0.5, [f"{hour:02d}" for hour in range(0, 24, 3)])
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(drawn, ax=axes, pad=0.015, fraction=0.04, ticks=[0, 20, 40, 60])
        bar.outline.set_visible(False)
        bar.set_label("minutes in the hour", color=SOFT)
    grids[0].invert_yaxis()
    return figure


def stacked_rows(
    names: Sequence[str], parts: Mapping[str, tuple[str, Sequence[float]]], title: str, unit: str
) -> Figure:
    """Rows of stacked bars: `parts` is label -> (colour, one number a row). Totals at the end."""
    figure, axes = plt.subplots(
        figsize=(11, 1.25 + 0.27 * max(len(names), LEAST_ROWS)), layout="constrained"
    )
    rows, left = np.arange(len(names)), np.zeros(len(names))
    for label, (colour, numbers) in parts.items():
        axes.barh(rows, numbers, left=left, color=colour, height=0.66, label=label)
        left = left + np.asarray(numbers, float)
    _rows(axes, names)
    axes.set(title=title, xlabel=unit)
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    if len(parts) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(parts), borderaxespad=0.2)
    return figure


def totals(figure: Figure, numbers: Sequence[float]) -> Figure:
    """Write each row's total behind its bar."""
    (axes,) = figure.axes
    axes.set_xlim(0, max(numbers) * 1.08)
    for row, number in enumerate(numbers):
        axes.annotate(f"{number:,.0f}", (number, row), (5, 0), textcoords="offset points",
                      va="center", fontsize=9, color=INK)  # fmt: skip
    return figure


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(max(len(names), LEAST_ROWS) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
