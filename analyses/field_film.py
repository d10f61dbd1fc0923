"""A film of a cell's receptive field beside the stimulus, the rate and the active modes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.analyses.field_frames import loading_at, loading_on
from retinacodec.analyses.field_windows import Square
from retinacodec.analyses.named_rows import position_of
from retinacodec.circuit import Circuit, predict
from retinacodec.errors import InputError, Problems
from retinacodec.gradients import latent_fields
from retinacodec.plotting import (
    COLOURS,
    colour_bar,
    colour_map,
    field_map,
    figure,
    panel_letter,
    style,
    symmetric_limit,
    trace,
)
from retinacodec.progress import track
from retinacodec.schema import check_modes
from retinacodec.video import write_video

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FieldScene", "draw_field_scene", "field_film", "field_scene"]

Array = npt.NDArray[Any]

_MOST_MODES = 12
_DPI = 150


@dataclass(frozen=True)
class FieldScene:
    """What a stretch of film shows.

    Attributes
    ----------
    table : xarray.Dataset
        Over the frames of the stretch: ``stimulus`` (time, y, x), ``rate`` (time), Hz, and of
        the cell's field ``spatial`` (time, y, x) in Hz per unit contrast, ``temporal`` (time,
        lag) and ``separability`` (time); ``loading`` (time, mode), over its largest value, where
        there are modes.
    cell : str
        Name of the cell.
    box : tuple of slice
        Rows and columns around the cell's mean field.
    """

    table: xr.Dataset
    cell: str
    box: tuple[slice, slice]


def field_scene(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    cell: int | str = 0,
    start: float | None = None,
    seconds: float = 5.0,
    modes: xr.Dataset | None = None,
    window: int = 20,
    device: str | torch.device | None = None,
) -> FieldScene:
    """Compute what a film of a cell's receptive field shows.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    cell : int or str, default 0
        Position or name of the cell.
    start : float, optional
        Time of the first frame, s; the stretch in which the cell's rate changes most if left out.
    seconds : float, default 5
        Length of the stretch, s.
    modes : xarray.Dataset, optional
        Modes with ``loading`` (time, mode) of the same movie; of many the twelve strongest.
    window : int, default 20
        Pixels on each side of the window around the field.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.

    Returns
    -------
    FieldScene
        Stimulus, rate, field and loadings of every frame.

    Raises
    ------
    InputError
        If the cell does not exist, the stretch does not lie inside the movie, or modes belong to
        another movie.

    Notes
    -----
    The field is the exact gradient of the rate at each frame; its map and time course are those
    of the best separable form, the map with the polarity of the strongest frame. In the film the
    map is drawn over its strongest pixel, whose value, Hz per unit contrast, stands above it.
    """
    rate = predict(circuit, movie, device=device)
    number = position_of(rate, "cell", cell)
    problems = Problems()
    problems.require(seconds > 0, f"seconds: expected above 0, got {seconds}")
    problems.require(window >= 1, f"window: expected at least 1 pixel, got {window}")
    problems.raise_as("field_scene")
    frames = _stretch(circuit, movie, rate.values[:, number], start, seconds)
    fields = latent_fields(
        circuit, movie, cells=[number], frames=frames, device=device, progress=False
    )
    forms = fields.separable().isel(cell=0, drop=True)
    table = forms[["spatial", "temporal", "separability"]]
    table = table.assign(rate=fields.rate.isel(cell=0, drop=True))
    shown = movie["contrast"].isel(time=frames)
    table["stimulus"] = shown.drop_vars("time")
    if modes is not None:
        table["loading"] = _strongest(loading_at(loading_on(check_modes(modes), movie), frames))
    energy = (forms["spatial"].fillna(0) ** 2).mean("time").values
    middle = np.unravel_index(int(energy.argmax()), energy.shape)
    near = Square.around(middle, window, energy.shape)
    return FieldScene(table, str(rate["cell"].values[number]), near.pixels)


def field_film(
    scene: FieldScene,
    out: str | Path,
    *,
    slower: float = 4.0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write a film of a cell's receptive field.

    Parameters
    ----------
    scene : FieldScene
        What `field_scene` returns.
    out : str or Path
        Where to, with a name that ends in .mp4.
    slower : float, default 4
        How many times slower than life it plays, above 0.
    overwrite : bool, default False
        Replace a film of this name.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    Path
        The film.

    Raises
    ------
    InputError
        If the name or a number cannot be used, or something is there already.
    """
    if not slower > 0:
        raise InputError(f"slower: expected a number above 0, got {slower}")
    time = scene.table["time"].values
    rate = (len(time) - 1) / (time[-1] - time[0]) if len(time) > 1 else 1.0
    pictures = _pictures(scene, progress)
    return write_video(out, pictures, frame_rate=rate / slower, overwrite=overwrite)


def draw_field_scene(scene: FieldScene, frame: int = 0) -> Figure:
    """Draw one picture of the film.

    Parameters
    ----------
    scene : FieldScene
        What `field_scene` returns.
    frame : int, default 0
        Position of the frame in the stretch.

    Returns
    -------
    matplotlib.figure.Figure
        Stimulus, map and time course of the field above; rate and loadings below.

    Raises
    ------
    InputError
        If there is no such frame.
    """
    if not 0 <= frame < scene.table.sizes["time"]:
        raise InputError(f"frame: expected 0 to {scene.table.sizes['time'] - 1}, got {frame}")
    with style():
        stage = _Stage(scene)
        stage.show(frame)
    return stage.figure


def _pictures(scene: FieldScene, progress: bool) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the pictures of the film."""
    with style():
        stage = _Stage(scene)
        stage.figure.set_dpi(_DPI)
        canvas: Any = stage.figure.canvas
        canvas.draw()
        stage.figure.set_layout_engine("none")
        count = scene.table.sizes["time"]
        for frame in track(range(count), "film", enabled=progress):
            stage.show(frame)
            canvas.draw()
            yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


class _Stage:
    """The figure of a film: what stands still, and what moves from frame to frame."""

    def __init__(self, scene: FieldScene) -> None:
        self.scene, table = scene, scene.table
        self.figure = figure(width_mm=150, height_mm=100)
        modes = "loading" in table
        halves: Any = self.figure.subfigures(2, 1, height_ratios=[3, 3 if modes else 2])
        upper, lower = halves
        stimulus, field, course = upper.subplots(1, 3)
        below = lower.subplots(2 if modes else 1, 1, sharex=True, squeeze=False)[:, 0]
        self._draw_stimulus(stimulus)
        self._draw_field(field)
        self._draw_course(course)
        self._draw_rate(below[0])
        if modes:
            self._draw_modes(below[1])
        below[-1].set_xlabel("time (s)")
        time = table["time"].values
        below[-1].set_xlim(time[0], time[-1])
        self.cursors = [ax.axvline(time[0], color=COLOURS.highlight, linewidth=0.8) for ax in below]
        for letter, ax in zip("ABCDE", (stimulus, field, course, *below), strict=False):
            panel_letter(ax, letter)

    def show(self, frame: int) -> None:
        """Move everything that moves to a frame of the stretch."""
        now, box = self.scene.table.isel(time=frame), self.scene.box
        self.stimulus.set_data(now["stimulus"].values)
        near = np.nan_to_num(now["spatial"].values[box])
        peak = symmetric_limit(near)
        self.field.set_data(near / peak)
        self.peak.set_text(f"field now, peak {peak:.2g} Hz")
        self.course.set_ydata(now["temporal"].values)
        time = float(now["time"])
        for cursor in self.cursors:
            cursor.set_xdata([time, time])
        self.title.set_text(f"stimulus, {time:.2f} s")

    def _draw_stimulus(self, ax: Any) -> None:
        values = self.scene.table["stimulus"]
        limit = float(np.percentile(np.abs(values), 99)) or 1.0
        field_map(ax, values.isel(time=0), limit=limit)
        self.stimulus = ax.images[-1]
        self.stimulus.set_cmap(colour_map("grayC_r"))
        rows, columns = self.scene.box
        y, x = (values[axis].values for axis in ("y", "x"))
        half = [abs(axis[1] - axis[0]) / 2 if axis.size > 1 else 0.5 for axis in (y, x)]
        corner = x[columns][0] - half[1], y[rows][0] - half[0]
        spans = x[columns][-1] + half[1] - corner[0], y[rows][-1] + half[0] - corner[1]
        from matplotlib.patches import Rectangle

        ax.add_patch(Rectangle(corner, *spans, fill=False, edgecolor=COLOURS.highlight))
        self.title = ax.set_title("")

    def _draw_field(self, ax: Any) -> None:
        maps = self.scene.table["spatial"][:, self.scene.box[0], self.scene.box[1]]
        field_map(ax, maps.isel(time=0).fillna(0), limit=1.0)
        self.field = ax.images[-1]
        self.peak = ax.set_title("")
        colour_bar(ax, "share of the peak")

    def _draw_course(self, ax: Any) -> None:
        courses = self.scene.table["temporal"]
        trace(ax, 1000 * courses["lag"], courses.isel(time=0))
        self.course = ax.lines[-1]
        ax.axhline(0, color=COLOURS.quiet, linewidth=0.5)
        limit = float(np.nanmax(np.abs(courses.values)))
        ax.set(ylim=(-1.05 * limit, 1.05 * limit), xlabel="time before response (ms)")
        ax.set(ylabel="weight", title="its time course", box_aspect=0.8)

    def _draw_rate(self, ax: Any) -> None:
        trace(ax, self.scene.table["time"], self.scene.table["rate"], fill=True)
        ax.set(ylabel="rate (Hz)", ylim=(0, None))
        ax.set_title(self.scene.cell, loc="left")

    def _draw_modes(self, ax: Any) -> None:
        loading = self.scene.table["loading"].transpose("mode", "time")
        time = self.scene.table["time"].values
        step = (time[-1] - time[0]) / max(len(time) - 1, 1) or 1.0
        ax.imshow(
            loading,
            aspect="auto",
            interpolation="nearest",
            cmap=colour_map("acton_r"),
            vmin=0,
            vmax=1,
            extent=(time[0] - step / 2, time[-1] + step / 2, len(loading) - 0.5, -0.5),
        )
        names = loading["mode"].values
        shown = np.arange(0, len(names), 1 + len(names) // 9)
        ax.set_yticks(shown, labels=names[shown])
        ax.set(ylabel="mode")


def _stretch(
    circuit: Circuit, movie: xr.Dataset, rate: Array, start: float | None, seconds: float
) -> Array:
    """Return the movie frames of the stretch."""
    count = max(round(seconds * movie.attrs["frame_rate"]), 2)
    if count > rate.size:
        raise InputError(
            f"seconds: {seconds:g} s are {count} frames, the movie has {rate.size} with a response"
        )
    if start is None:
        changes = np.abs(np.diff(rate.astype(np.float64), prepend=rate[:1]))
        first = int(np.convolve(changes, np.ones(count), "valid").argmax())
    else:
        times = movie["time"].values[circuit.first_frame :][: rate.size]
        first = int(np.searchsorted(times, start - 1e-9))
        if start < times[0] - 1 / movie.attrs["frame_rate"] or first + count > rate.size:
            raise InputError(
                f"start: {start:g} s and {seconds:g} s more do not lie between {times[0]:.2f} and "
                f"{times[-1]:.2f} s"
            )
    return circuit.first_frame + first + np.arange(count)


def _strongest(loading: xr.DataArray) -> xr.DataArray:
    """Return the strongest modes of a stretch, over the largest loading of each."""
    size = abs(loading.transpose("time", "mode"))
    order = np.argsort(-size.sum("time").values, kind="stable")[:_MOST_MODES]
    kept = size.isel(mode=np.sort(order))
    top = kept.max("time")
    return (kept / top.where(top > 0)).fillna(0).assign_attrs(units="1")
