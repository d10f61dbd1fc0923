"""Graded responses in NWB: potentials, fluorescence and rates, each as the series made for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from retinacodec.errors import InputError, Problems

if TYPE_CHECKING:
    from retinacodec.nwb_coding import Block

__all__ = ["Trace", "add_traces", "packed", "plain_name", "timing", "trace_of"]

_NOTE = "retinacodec: "

_VOLTS = ("V", "volt", "volts")


@dataclass(frozen=True)
class Trace:
    """Graded responses of cells at common moments.

    Parameters
    ----------
    name : str
        What was measured, such as ``firing_rate_10ms``; traces of one name become one series.
    cells : tuple of str
        Names of the cells.
    times : ndarray (sample,)
        Moments, s, increasing.
    values : ndarray (sample, cell)
        Responses; NaN where a cell was not sampled.
    unit : {"mV", "dF/F", "Hz"}
        Potentials become current clamp series, fluorescence responses of regions of interest,
        rates plain series in the processing module ``ecephys``.
    """

    name: str
    cells: tuple[str, ...]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    unit: str


def trace_of(traces: xr.Dataset, block: Block) -> Trace:
    """Take the traces that were recorded while a movie was shown.

    Parameters
    ----------
    traces : Traces
        ``trace`` (time, cell) on the frames of the movie, or ``repeats`` (repeat, time, cell);
        attribute ``units`` is "mV", "volts", "dF/F" or "Hz".
    block : Block
        The movie.

    Returns
    -------
    Trace
        Values at the flips of all presentations.

    Raises
    ------
    InputError
        If they do not lie on the frames of the movie or have another unit.
    """
    problems = Problems()
    source = "repeats" if "repeats" in traces else "trace"
    dims = ("repeat", "time", "cell")[source == "trace" :]
    if problems.require(source in traces, "no variable 'trace'"):
        found = traces[source].dims
        problems.require(found == dims, f"{source}: dims must be {dims}, got {found}")
    problems.raise_as(f"traces of {block.name!r}")
    values = traces[source].values.astype(np.float32)
    values = values.reshape(-1, values.shape[-1])
    unit = str(traces.attrs.get("units", traces[source].attrs.get("units", "")))
    if unit in _VOLTS:  # as they are read from files
        values, unit = values * np.float32(1e3), "mV"
    cells = tuple(str(cell) for cell in traces["cell"].values.tolist())
    times = block.all_onsets()
    problems.require(len(values) == len(times), f"{len(values)} samples for {len(times)} frames")
    problems.require(unit in _KINDS, f"units: expected one of {', '.join(_KINDS)}, got {unit!r}")
    problems.require(len(set(cells)) == len(cells), f"cell names are not unique: {list(cells)}")
    problems.require(not np.isinf(values).any(), "values are infinite somewhere")
    problems.raise_as(f"traces of {block.name!r}")
    return Trace(str(traces.attrs.get("name") or "trace"), cells, times, values, unit)


def add_traces(file: Any, traces: Sequence[Trace]) -> None:
    """Add graded responses to a file, those of one name and unit as one series.

    Parameters
    ----------
    file : pynwb.NWBFile
        The file in memory.
    traces : sequence of Trace
        Responses, in any order of time.
    """
    for unit, add in _KINDS.items():
        names = dict.fromkeys(trace.name for trace in traces if trace.unit == unit)
        alike = [trace for trace in traces if trace.unit == unit]
        if unit == "mV" and alike:
            add(file, _joined(alike))
            continue
        for name in names:
            add(file, _joined([trace for trace in alike if trace.name == name]))


def plain_name(name: str) -> str:
    """Return a name without the characters that NWB paths cannot hold.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    str
        The same with slashes and colons replaced.
    """
    return name.replace("/", "_").replace(":", "_").strip(".") or "unnamed"


def timing(onsets: NDArray[np.float64]) -> dict[str, Any]:
    """Return the rate where times are regular to a nanosecond, as inspectors ask, or the times.

    Parameters
    ----------
    onsets : ndarray (time,)
        Times, s.

    Returns
    -------
    dict
        ``starting_time`` and ``rate``, or ``timestamps``.
    """
    intervals = np.diff(onsets)
    if np.unique(intervals.round(9)).size == 1:
        rate = (onsets.size - 1) / (onsets[-1] - onsets[0])
        return {"starting_time": float(onsets[0]), "rate": float(rate)}
    return {"timestamps": packed(onsets)}


def packed(values: NDArray[Any]) -> Any:
    """Return values that will be written with gzip.

    Parameters
    ----------
    values : ndarray
        Any numbers.

    Returns
    -------
    pynwb.H5DataIO
        The same with its packing.
    """
    from pynwb import H5DataIO

    return H5DataIO(values, compression="gzip", compression_opts=4, shuffle=True)


def _joined(traces: Sequence[Trace]) -> Trace:
    """Put traces one after the other; NaN where a cell is not in one of them."""
    ordered = sorted(traces, key=lambda trace: float(trace.times[0]))
    cells = tuple(dict.fromkeys(cell for trace in ordered for cell in trace.cells))
    values = np.full((sum(len(one.times) for one in ordered), len(cells)), np.nan, np.float32)
    start = 0
    for trace in ordered:
        stop = start + len(trace.times)
        values[start:stop, [cells.index(cell) for cell in trace.cells]] = trace.values
        start = stop
    times = np.concatenate([trace.times for trace in ordered])
    return Trace(ordered[0].name, cells, times, values, ordered[0].unit)


def _names(cells: Sequence[str]) -> list[str]:
    """Return a name in the file for each cell; those that become alike get a number."""
    names: list[str] = []
    for cell in cells:
        name, number = plain_name(cell), 1
        while name in names:
            number += 1
            name = f"{plain_name(cell)}_{number}"
        names.append(name)
    return names


def _add_potentials(file: Any, trace: Trace) -> None:
    from pynwb.icephys import CurrentClampSeries

    amplifier = file.create_device(name="amplifier", description="intracellular amplifier")
    for k, (cell, name) in enumerate(zip(trace.cells, _names(trace.cells), strict=True)):
        seen = np.isfinite(trace.values[:, k])
        if seen.sum() < 2:
            raise InputError(f"traces: cell {cell} has fewer than 2 samples that are numbers")
        electrode = file.create_icephys_electrode(
            name=f"electrode {name}",
            description="intracellular electrode",
            device=amplifier,
            cell_id=cell,
            location="retina",
        )
        file.add_acquisition(
            CurrentClampSeries(
                name=name,
                description=f"membrane potential of {cell}; data are mV",
                comments=_note(trace, (cell,)),
                data=packed(trace.values[seen, k]),
                conversion=1e-3,
                electrode=electrode,
                gain=1.0,
                **timing(trace.times[seen]),
            )
        )


def _add_fluorescence(file: Any, trace: Trace) -> None:
    from pynwb.ophys import DfOverF, RoiResponseSeries

    module = _module(file, "ophys", "fluorescence of cells")
    what = {
        "name": plain_name(trace.name),
        "description": "relative change of fluorescence of each cell",
        "comments": _note(trace, trace.cells),
        "unit": "dF/F",
        "data": packed(trace.values),
        **timing(trace.times),
    }
    if len(trace.cells) < 2:  # a table of one region would be none
        from pynwb import TimeSeries

        module.add(TimeSeries(**what))
        return
    rois = _regions(file, trace, module)
    if "DfOverF" not in module.data_interfaces:
        module.add(DfOverF(name="DfOverF"))
    module["DfOverF"].add_roi_response_series(RoiResponseSeries(rois=rois, **what))


def _regions(file: Any, trace: Trace, module: Any) -> Any:
    """Describe the microscope and one region a cell, as far as they are known."""
    from pynwb.ophys import ImageSegmentation, OpticalChannel

    name = plain_name(trace.name)
    device = file.devices.get("microscope") or file.create_device(
        name="microscope", description="microscope that recorded the fluorescence"
    )
    plane = file.create_imaging_plane(
        name=f"plane of {name}",
        description="plane in which the cells lie",
        optical_channel=OpticalChannel(
            name="channel", description="wavelength not stated", emission_lambda=float("nan")
        ),
        device=device,
        excitation_lambda=float("nan"),
        indicator="unknown",
        location="retina",
    )
    if "ImageSegmentation" not in module.data_interfaces:
        module.add(ImageSegmentation(name="ImageSegmentation"))
    table = module["ImageSegmentation"].create_plane_segmentation(
        name=f"cells of {name}",
        description="one region a cell; which pixels it covered is not stated",
        imaging_plane=plane,
    )
    table.add_column(name="cell_name", description="name of the cell")
    for k, cell in enumerate(trace.cells):
        table.add_roi(pixel_mask=[(k, 0, 1.0)], cell_name=cell)
    return table.create_roi_table_region(
        description="all cells", region=list(range(len(trace.cells)))
    )


def _add_rates(file: Any, trace: Trace) -> None:
    from pynwb import TimeSeries

    module = _module(file, "ecephys", "firing rates of cells")
    names = ", ".join(trace.cells)
    module.add(
        TimeSeries(
            name=plain_name(trace.name),
            description=f"rate of each cell; columns are {names}",
            comments=_note(trace, trace.cells),
            unit="Hz",
            data=packed(trace.values),
            **timing(trace.times),
        )
    )


def _module(file: Any, name: str, description: str) -> Any:
    return file.processing.get(name) or file.create_processing_module(
        name=name, description=description
    )


def _note(trace: Trace, cells: Sequence[str]) -> str:
    note = {"kind": "trace", "name": trace.name, "units": trace.unit, "cells": list(cells)}
    return _NOTE + json.dumps(note)


_KINDS: dict[str, Callable[[Any, Trace], None]] = {
    "mV": _add_potentials,
    "dF/F": _add_fluorescence,
    "Hz": _add_rates,
}
