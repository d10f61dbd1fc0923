"""Small valid recordings of each kind that the readers take, for the fuzzing to damage."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np


def make_files(folder: Path) -> list[Path]:
    """Write one valid file of each kind."""
    from retinacodec.nwb import write_nwb
    from retinacodec.schema import make_recording, make_stimulus

    rng = np.random.default_rng(0)
    flips = 2.0 + np.cumsum(rng.uniform(0.033, 0.034, 120))
    movie = make_stimulus(
        rng.choice([-1, 1], (120, 12, 10)), frame_rate=30, pixel_um=50, name="noise", time=flips
    )
    trains = {str(cell): np.sort(rng.uniform(0, 6, 60)) for cell in range(4)}
    own = write_nwb(folder / "own.nwb", movie, spike_times=trains)
    counts = make_recording(
        rng.poisson(0.5, (120, 3)).astype(float), time=flips, frame_rate=30, cells=list("abc")
    )
    counted = write_nwb(folder / "counts.nwb", movie, counts)
    makers = (_foreign, _pictures, _film, _traces, _ret1, _laboratory)
    paths = [own, counted, *(maker(folder, rng, flips) for maker in makers)]
    return [_slim(path) for path in paths]


def _slim(path: Path) -> Path:
    """Leave out the schema that NWB files carry, so that damage hits what is read."""
    import h5py

    slim = path.with_suffix(".slim")
    with h5py.File(path) as old, h5py.File(slim, "w") as new:
        new.attrs.update({key: old.attrs[key] for key in old.attrs if key != ".specloc"})
        for name in sorted(set(old) - {"specifications"}):
            old.copy(name, new, expand_refs=False)
    with h5py.File(slim, "r+") as new:  # references still point where they did in the old file
        _mend(new, path)
    return slim.replace(path)


def _mend(file, source: Path) -> None:
    """Write the order of pictures again, whose references were those of another file."""
    import h5py

    images = file.get("stimulus/templates/pictures")
    if images is not None:
        with h5py.File(source) as old:
            group = old["stimulus/templates/pictures"]
            names = [old[reference].name for reference in group["order_of_images"][()]]
        attrs = dict(images["order_of_images"].attrs)
        del images["order_of_images"]
        order = [file[name].ref for name in names]
        images.create_dataset("order_of_images", data=order, dtype=h5py.ref_dtype)
        images["order_of_images"].attrs.update(attrs)


def _session(identifier: str):
    from pynwb import NWBFile

    return NWBFile("a session", identifier, datetime(2024, 1, 2, tzinfo=UTC))


def _units(file, rng) -> None:
    for number in range(3):
        train = np.sort(rng.uniform(0, 6, 50))
        file.add_unit(spike_times=train, obs_intervals=[[0.0, 6.0]], id=10 + number)


def _save(file, path: Path) -> Path:
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "w") as out:
        out.write(file)
    return path


def _foreign(folder: Path, rng, flips) -> Path:
    """A movie in chunks with spikes beside it, as pynwb writes them."""
    import h5py

    path = folder / "foreign.nwb"
    shutil.copy(folder / "own.nwb", path)
    with h5py.File(path, "r+") as file:
        group = file["stimulus/presentation/noise"]
        del group.attrs["comments"]
        group["data"].attrs.update(conversion=1.0, offset=0.0)
    return path


def _pictures(folder: Path, rng, flips) -> Path:
    """Picture numbers that point to pictures in an order, with a table of repeats."""
    from pynwb.base import ImageReferences, Images
    from pynwb.image import GrayscaleImage, IndexSeries

    file = _session("pictures")
    drawn = [
        GrayscaleImage(name=f"p{k}", data=rng.integers(0, 255, (12, 10)), resolution=200.0)
        for k in range(5)
    ]
    order = ImageReferences(name="order_of_images", data=drawn)
    images = Images(name="pictures", images=drawn, order_of_images=order)
    file.add_stimulus_template(images)
    index = np.tile(rng.integers(0, 5, 60), 2).astype("u4")
    file.add_stimulus(
        IndexSeries(
            name="shown", data=index, unit="N/A", indexed_images=images, timestamps=flips[:120]
        )
    )
    _units(file, rng)
    file.add_epoch(1.0, 5.0, ["all"])
    return _save(file, folder / "pictures.nwb")


def _film(folder: Path, rng, flips) -> Path:
    """A movie whose pixels are a film clip beside the file."""
    import av
    from pynwb.image import ImageSeries

    with av.open(str(folder / "film.mkv"), "w") as clip:
        stream = clip.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "gray"
        for _ in range(40):
            frame = av.VideoFrame.from_ndarray(
                rng.integers(0, 255, (12, 16), dtype=np.uint8), format="gray"
            )
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode())
    file = _session("film")
    file.add_stimulus(
        ImageSeries(
            name="film",
            external_file=["film.mkv"],
            format="external",
            starting_frame=[0],
            timestamps=flips[:40],
            unit="n.a.",
            num_samples=40,
        )
    )
    _units(file, rng)
    return _save(file, folder / "film.nwb")


def _traces(folder: Path, rng, flips) -> Path:
    """Potentials of one cell beside a movie, and a binned rate."""
    from pynwb.base import TimeSeries
    from pynwb.icephys import CurrentClampSeries
    from pynwb.image import OpticalSeries

    file = _session("traces")
    device = file.create_device(name="amplifier")
    electrode = file.create_icephys_electrode(
        name="e1", description="glass", device=device, cell_id="amacrine"
    )
    for sweep in range(2):
        file.add_acquisition(
            CurrentClampSeries(
                name=f"vm{sweep}",
                data=rng.normal(-50, 5, 800).astype("f4"),
                electrode=electrode,
                gain=np.nan,
                conversion=1e-3,
                starting_time=2.0 + sweep,
                rate=1000.0,
            )
        )
    module = file.create_processing_module(name="rates", description="binned")
    module.add(TimeSeries(name="rate", data=rng.random((120, 3)), unit="Hz", timestamps=flips))
    file.add_stimulus(
        OpticalSeries(
            name="noise",
            distance=0.1,
            field_of_view=[6e-4, 5e-4],
            orientation="seen from above",
            data=rng.integers(0, 2, (120, 12, 10), dtype=np.uint8),
            unit="n.a.",
            format="raw",
            timestamps=flips,
        )
    )
    return _save(file, folder / "traces.nwb")


def _ret1(folder: Path, rng, flips) -> Path:
    """The old format of the mouse recordings: seeds and no pixels."""
    import h5py

    with h5py.File(folder / "ret1.nwb", "w") as file:
        words = {
            "nwb_version": "1.0.6",
            "identifier": "test",
            "session_description": "a session",
            "session_start_time": "2008-06-06 14:36:28",
            "general/experimenter": "Ada B Love",
            "general/lab": "lab",
            "general/institution": "place",
            "general/session_id": "7",
        }
        for place, word in words.items():
            file[place] = word
        movie = file.create_group("stimulus/presentation/rec_stim_1")
        kind = "type = binarywhitenoise; seed = -10000"
        movie.attrs.update(dx=10, dy=10, pixel_size=8.3, description=kind)
        movie["dimension"], movie["timestamps"] = (6, 5), flips
        epoch = file.create_group("epochs/stim_1")
        epoch["start_time"], epoch["stop_time"] = 1.5, 7.0
        for cell in (1, 2):
            file[f"processing/Cells/UnitTimes/cell_{cell}/times"] = np.sort(rng.uniform(2, 6, 50))
    return folder / "ret1.nwb"


def _laboratory(folder: Path, rng, flips) -> Path:
    """Train and test arrays with counts in bins."""
    import h5py

    with h5py.File(folder / "laboratory.h5", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/time"] = np.arange(80) / 100
            file[f"{part}/stimulus"] = rng.integers(0, 255, (80, 6, 4), dtype=np.uint8)
            file[f"{part}/response/binned"] = rng.poisson(0.3, (3, 80)).astype("f8")
            file[f"{part}/response/firing_rate_10ms"] = rng.random((3, 80))
    return folder / "laboratory.h5"
