"""Whatever a file holds, the readers return or raise one line; nothing else comes out."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retinacodec.errors import RecordingError
from retinacodec.importers import describe
from retinacodec.nwb import read_nwb, read_stimulus
from retinacodec.validation import validate

PLAIN = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBERS = st.sampled_from(["f8", "f4", "f2", "i8", "u1", "i2", "u4", "?", "c16", "S3"])


@st.composite
def layouts(draw):
    """Shapes, types, times, ids and chunks of a recording, sensible or not."""
    frames, cells = draw(st.integers(0, 8)), draw(st.integers(0, 4))
    shape = draw(
        st.one_of(
            st.tuples(st.just(frames), st.integers(0, 4), st.integers(0, 4)),
            arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
        )
    )
    times = st.one_of(
        st.just(np.arange(frames) / 30),
        arrays.arrays(draw(NUMBERS), draw(st.integers(0, 9))),
        arrays.arrays("f8", frames, elements=st.floats(-1e9, 1e9) | st.just(np.nan)),
    )
    spikes = arrays.arrays(draw(NUMBERS), st.integers(0, 12))
    index = st.one_of(
        st.just(np.sort(np.random.default_rng(0).integers(0, 6, cells))),
        arrays.arrays(st.sampled_from(["i8", "u1", "f8", "u8"]), st.integers(0, 5)),
    )
    return {
        "data": draw(arrays.arrays(draw(NUMBERS), shape)),
        "chunked": draw(st.booleans()),
        "timestamps": draw(st.one_of(st.none(), times)),
        "rate": draw(st.one_of(st.none(), st.floats(allow_nan=True))),
        "conversion": draw(st.one_of(st.none(), st.floats(allow_nan=True), st.text(max_size=3))),
        "field_of_view": draw(st.one_of(st.none(), arrays.arrays("f4", st.integers(0, 3)))),
        "spike_times": draw(spikes),
        "spike_times_index": draw(index),
        "id": draw(
            st.lists(st.text(max_size=3), max_size=4) | st.just(list(map(str, range(cells))))
        ),
        "obs_intervals": draw(arrays.arrays("f8", arrays.array_shapes(max_dims=3, max_side=4))),
        "note": draw(st.one_of(st.just(""), st.text(max_size=20), st.just('{"retinacodec": 1}'))),
    }


def write(path, layout):
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.5.0"
        movie = file.create_group("stimulus/presentation/movie")
        movie.attrs.update(
            neurodata_type="OpticalSeries", comments=layout["note"].replace("\0", "")
        )
        data = layout["data"]
        chunks = True if layout["chunked"] and data.ndim and data.size else None
        movie.create_dataset("data", data=data, chunks=chunks)
        if layout["conversion"] is not None:
            words = layout["conversion"]
            words = words.replace("\0", "") if isinstance(words, str) else words
            movie["data"].attrs["conversion"] = words
        for name in ("timestamps", "field_of_view"):
            if layout[name] is not None:
                movie[name] = layout[name]
        if layout["rate"] is not None:
            movie["starting_time"] = 0.0
            movie["starting_time"].attrs["rate"] = layout["rate"]
        units = file.create_group("units")
        for name in ("spike_times", "spike_times_index", "obs_intervals"):
            units[name] = layout[name]
        units["obs_intervals_index"] = layout["spike_times_index"]
        units["id"] = [name.encode(errors="replace").replace(b"\0", b"") for name in layout["id"]]


@PLAIN
@given(layout=layouts())
def test_any_layout_is_read_or_refused_in_one_line(tmp_path, layout):
    path = tmp_path / "any.nwb"
    write(path, layout)
    for use in (read_nwb, read_stimulus, describe, validate):
        try:
            use(path)
        except RecordingError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
    findings = validate(path)
    assert all(str(finding).isprintable() for finding in findings)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_of_every_kind_are_read_or_refused(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from fuzz_files import fuzz

    counts = fuzz(48, seed=7)  # in one process of its own
    assert counts["files"] == 48 and len(counts["kinds"]) == 8
    assert counts["crashed"] == counts["hung"] == counts["traceback"] == 0, counts["wrong"]
    assert counts["read"] > 5 and counts["refused"] > 5
