"""HDF5 allows much that NWB does not mean: wrong types and shapes, odd names, empty spaces."""

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.nwb import read_nwb, read_stimulus
from retinacodec.validation import validate

MOVIE = "stimulus/presentation/noise"
PLACES = (
    "units/spike_times",
    "units/spike_times_index",
    "units/id",
    "units/obs_intervals",
    "units/obs_intervals_index",
    "units",
    f"{MOVIE}/timestamps",
    f"{MOVIE}/data",
    f"{MOVIE}/field_of_view",
    f"{MOVIE}/num_samples",
    "session_start_time",
    "intervals",
    "identifier",
)


def ragged(file, place):
    data = file.create_dataset(place, (4,), h5py.vlen_dtype("f8"))
    data[0] = np.arange(3.0)


def numbers(values, kind=None):
    def put(file, place):
        file.create_dataset(place, data=values, dtype=kind)

    return put


def nowhere(file, place):
    file[place] = h5py.SoftLink("/no/such/thing")


def references(file, place):
    file.create_dataset(place, data=[file["/"].ref] * 300, dtype=h5py.ref_dtype)


def own_type(file, place):
    file["a type"] = np.dtype("f8")
    file.create_dataset(place, data=np.arange(300.0), dtype=file["a type"])


ODD = {
    "scalar": numbers(3.0),
    "null dataspace": numbers(h5py.Empty("f8")),
    "no entries": numbers(np.zeros(0)),
    "compound": numbers(np.zeros(600, [("a", "f8"), ("b", "i4")])),
    "words": numbers(np.array([b"a"] * 600)),
    "one word": numbers("hello"),
    "table of numbers": numbers(np.zeros((3, 2))),
    "five axes": numbers(np.zeros((2, 2, 2, 2, 2))),
    "complex": numbers(np.zeros(300, complex)),
    "truth values": numbers(np.zeros(300, bool)),
    "half precision": numbers(np.zeros(300, "f2")),
    "opaque": numbers(np.zeros(4, "V5")),
    "enumeration": numbers(np.zeros(300, "i4"), h5py.enum_dtype({"A": 0, "B": 1}, "i4")),
    "committed type": own_type,
    "variable length": ragged,
    "group": lambda file, place: file.create_group(place),
    "broken soft link": nowhere,
    "references": references,
}


@pytest.mark.parametrize("put", ODD.values(), ids=ODD)
def test_a_wrong_kind_of_thing_anywhere_is_read_or_refused_in_words(bad, put):
    for place in PLACES:

        def change(file, place=place):
            attrs = dict(file[place].attrs) if place in file else {}
            file.pop(place, None)
            put(file, place)
            if file.get(place) is not None:
                file[place].attrs.update(attrs)

        path = bad(change)
        for use in (read_stimulus if MOVIE in place else read_nwb, validate):
            try:
                use(path)
            except RecordingError as error:
                assert "\n" not in str(error) and len(str(error)) < 600
                assert "cannot be read" not in str(error), (place, error)


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        ("units/spike_times", "scalar", r"spike_times have shape \(\), expected one list"),
        ("units/spike_times", "compound", r"/units/spike_times holds .*, expected seconds"),
        ("units/spike_times", "variable length", "/units/spike_times holds object, expected sec"),
        ("units/spike_times_index", "scalar", r"has shape \(\) of float64, expected 4 whole num"),
        ("units/spike_times_index", "null dataspace", "expected 4 whole numbers"),
        (f"{MOVIE}/timestamps", "scalar", r"noise has 1 frames in shape \(\), expected at least"),
        (f"{MOVIE}/timestamps", "words", "timestamps holds .*, expected seconds"),
        (f"{MOVIE}/timestamps", "null dataspace", "timestamps for 300 frames"),
        ("units", "scalar", "has no sorted units"),
        ("units", "group", "units has no column 'spike_times'"),
    ],
)
def test_what_was_expected_is_said(bad, place, kind, message):
    def change(file):
        del file[place]
        ODD[kind](file, place)

    with pytest.raises(RecordingError, match=message):
        read_nwb(bad(change))


@pytest.mark.parametrize(
    "name", ["ünïcödé 視網膜", "a∕b", "trailing ", "dot.", "new\nline", "\x1b[31mred", "x" * 300]
)
def test_odd_names_are_read_and_printed_on_one_line(bad, call, name):
    def rename(file):
        file.move(MOVIE, f"stimulus/presentation/{name}")
        del file["units/id"]
        file["units/id"] = [f"{name}/{number}".encode() for number in range(4)]

    path = bad(rename)
    assert read_nwb(path).attrs["name"] == name
    assert read_nwb(path, stimulus=name)["cell"].values[3] == f"{name}/3"
    assert read_stimulus(path, name)["contrast"].shape == (300, 12, 10)
    for command in ("info", "validate"):
        code, out, err = call(command, path)
        assert code == 0, out + err
        assert all(line.isprintable() for line in out.splitlines()) and not err
    assert len(call("info", path)[1].splitlines()) < 12


def test_names_that_are_no_text_do_not_stop_the_printing(bad, call):
    def rename(file):
        file.id.links.move(MOVIE.encode(), file.id, b"stimulus/presentation/\xff\xfe", None)

    _, out, err = call("info", bad(rename))
    assert "Traceback" not in out + err and out + err
