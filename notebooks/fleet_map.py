"""Tracks on a plain map: degrees scaled by the cosine of the latitude, no tiles, no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

KM_PER_DEGREE = 111.195
INK, QUIET, PAPER, GRID = "#1f2933", "#9aa5b1", "#f7f8fa", "#dfe4ea"
COLOURS = ("#2f6fde", "#e8733a", "#2a9d76", "#b5368c", "#7a5cc2", "#c99a1a")
LEAST_KM, CLOSE_UP_KM = 2.0, 4.0
Track = tuple[np.ndarray, np.ndarray]
Box = tuple[float, float, float, float]


def tracks_of(
    vehicle: np.ndarray, at_s: np.ndarray, lat: np.ndarray, lon: np.ndarray, gap_s: float
) -> dict[str, Track]:
    """One line a vehicle from rows sorted by vehicle and time, broken where it was silent."""
    tracks = {}
    starts = np.flatnonzero(np.r_[True, vehicle[1:] != vehicle[:-1]])
    for start, end in zip(starts, [*starts[1:], len(vehicle)], strict=True):
        mine = slice(start, end)
        breaks = np.flatnonzero(np.diff(at_s[mine]) > gap_s) + 1
        tracks[str(vehicle[start])] = (
            np.insert(lat[mine], breaks, np.nan),
            np.insert(lon[mine], breaks, np.nan),
        )
    return tracks


def draw(tracks: Mapping[str, Track], named: Mapping[str, str], title: str) -> Figure:
    """All tracks in grey, the vehicles of `named` in colour with its text as legend.

    Beside the map lies a close-up of the busiest square; a frame on the map shows where it is.
    """
    lat = np.concatenate([track[0] for track in tracks.values()])
    lon = np.concatenate([track[1] for track in tracks.values()])
    lat, lon = lat[~np.isnan(lat)], lon[~np.isnan(lon)]
    figure = plt.figure(figsize=(11, 6.9))
    whole = figure.add_axes((0.065, 0.07, 0.60, 0.84))
    close = figure.add_axes((0.705, 0.41, 0.29, 0.462))
    box = _around(lat, lon, whole)
    centre = _busiest(lat, lon)
    square = _square(centre, min(CLOSE_UP_KM, _width_km(box) / 3), close)
    for axes, area, weight in ((whole, box, 1.0), (close, square, 1.7)):
        _paper(axes, area)
        _lines(axes, tracks, named, weight)
    _degrees(whole)
    _scale_bar(whole, box)
    _scale_bar(close, square)
    _north(whole)
    close.set_xticks([])
    close.set_yticks([])
    close.set_title("Close-up of the busiest square", loc="left", fontsize=10, color=INK)
    whole.add_patch(
        Rectangle(
            (square[0], square[2]), square[1] - square[0], square[3] - square[2],
            fill=False, edgecolor=INK, linewidth=1.1, zorder=6,
        )
    )  # fmt: skip
    whole.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=10)
    handles, labels = whole.get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.70, 0.385), frameon=False,
        fontsize=9.5, labelcolor=INK, handlelength=1.8, labelspacing=0.55,
    )  # fmt: skip
    for line in legend.get_lines():
        line.set(linewidth=2.2, alpha=1)
    return figure


def _around(lat: np.ndarray, lon: np.ndarray, axes: Axes) -> Box:
    """A box round nearly all points, of the shape of the axes, so that stray points do not rule."""
    south, north = np.quantile(lat, [0.0002, 0.9998])
    west, east = np.quantile(lon, [0.0002, 0.9998])
    shrink = math.cos(math.radians((south + north) / 2))
    high = max((north - south) * KM_PER_DEGREE, LEAST_KM) * 1.08
    wide = max((east - west) * KM_PER_DEGREE * shrink, LEAST_KM) * 1.08
    frame = axes.get_window_extent()
    ratio = frame.width / frame.height
    high, wide = max(high, wide / ratio), max(wide, high * ratio)
    return _box((south + north) / 2, (west + east) / 2, high, wide)


def _square(centre: tuple[float, float], size_km: float, axes: Axes) -> Box:
    frame = axes.get_window_extent()
    return _box(*centre, size_km * frame.height / frame.width, size_km)


def _box(lat: float, lon: float, high_km: float, wide_km: float) -> Box:
    up = high_km / 2 / KM_PER_DEGREE
    side = wide_km / 2 / (KM_PER_DEGREE * math.cos(math.radians(lat)))
    return lon - side, lon + side, lat - up, lat + up


def _width_km(box: Box) -> float:
    return (box[1] - box[0]) * KM_PER_DEGREE * math.cos(math.radians((box[2] + box[3]) / 2))


def _busiest(lat: np.ndarray, lon: np.ndarray) -> tuple[float, float]:
    """Centre of the square kilometre with most points."""
    step_lat = 1 / KM_PER_DEGREE
    step_lon = step_lat / math.cos(math.radians(float(np.median(lat))))
    cells = np.stack([np.floor(lat / step_lat), np.floor(lon / step_lon)], axis=1)
    squares, counts = np.unique(cells, axis=0, return_counts=True)
    row, column = squares[counts.argmax()]
    return (row + 0.5) * step_lat, (column + 0.5) * step_lon


def _paper(axes: Axes, box: Box) -> None:
    axes.set_facecolor(PAPER)
    axes.set_xlim(box[0], box[1])
    axes.set_ylim(box[2], box[3])
    axes.set_aspect(1 / math.cos(math.radians((box[2] + box[3]) / 2)))
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor="#52606d")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#c3cad3")


def _lines(
    axes: Axes, tracks: Mapping[str, Track], named: Mapping[str, str], weight: float
) -> None:
    others = [track for name, track in tracks.items() if name not in named]
    for number, (lat, lon) in enumerate(others):
        label = f"{len(others):,} more" if number == 0 else None
        axes.plot(lon, lat, color=QUIET, linewidth=0.7 * weight, alpha=0.55, label=label, zorder=2)
    for colour, (name, text) in zip(COLOURS, named.items(), strict=False):
        lat, lon = tracks[name]
        axes.plot(lon, lat, color="white", linewidth=2.6 * weight, alpha=0.6, zorder=3)
        axes.plot(lon, lat, color=colour, linewidth=1.5 * weight, label=text, zorder=4)


def _degrees(axes: Axes) -> None:
    for axis, (positive, negative) in ((axes.xaxis, "EW"), (axes.yaxis, "NS")):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(_degree_text(positive, negative)))


def _degree_text(positive: str, negative: str) -> Callable[[float, int], str]:
    return lambda value, _: f"{abs(value):.6g}° {positive if value >= 0 else negative}"


def nice_length(km: float) -> float:
    """The greatest of 1, 2, 5 times a power of ten that is not longer than `km`."""
    power = 10.0 ** math.floor(math.log10(km))
    return max(step * power for step in (1, 2, 5) if step * power <= km)


def _scale_bar(axes: Axes, box: Box) -> None:
    length = nice_length(_width_km(box) / 4)
    share = length / _width_km(box)
    text = f"{length:g} km" if length >= 1 else f"{length * 1000:g} m"
    left, bottom = 0.035, 0.035
    frame = Rectangle(
        (left - 0.018, bottom - 0.018), share + 0.036, 0.075 if share > 0.1 else 0.08,
        transform=axes.transAxes, facecolor="white", edgecolor="none", alpha=0.85, zorder=7,
    )  # fmt: skip
    axes.add_patch(frame)
    axes.plot(
        [left, left, left + share, left + share],
        [bottom + 0.012, bottom, bottom, bottom + 0.012],
        transform=axes.transAxes, color=INK, linewidth=1.4, solid_joinstyle="miter", zorder=8,
    )  # fmt: skip
    axes.text(
        left + share / 2, bottom + 0.014, text, transform=axes.transAxes, ha="center",
        va="bottom", fontsize=8.5, color=INK, zorder=8,
    )  # fmt: skip


def _north(axes: Axes) -> None:
    axes.annotate(
        "N", xy=(0.965, 0.972), xytext=(0.965, 0.905), xycoords="axes fraction", ha="center",
        va="center", fontsize=9.5, color=INK, zorder=8,
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.1, "shrinkA": 4},
    )  # fmt: skip
