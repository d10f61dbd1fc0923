"""No file shows anything but itself: every way out of an HDF5 file is found before it is read."""

import re
import time

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.hdf5_safety import Limits, open_hdf5, scan
from retinacodec.importers import describe, import_recording
from retinacodec.nwb import read_nwb, read_stimulus
from retinacodec.validation import validate

MOVIE = "stimulus/presentation/noise"
DOORS = (read_nwb, read_stimulus, describe)


def external_link(file):
    del file["units/spike_times"]
    file["units/spike_times"] = h5py.ExternalLink("/etc/other.h5", "/secret")


def pixels_elsewhere(file):
    del file[f"{MOVIE}/data"]
    file[f"{MOVIE}/data"] = h5py.ExternalLink("/etc/other.h5", "/secret")


def soft_link_to_an_external_link(file):
    del file["units/spike_times"]
    file["scratch/door"] = h5py.ExternalLink("/etc/other.h5", "/secret")
    file["units/spike_times"] = h5py.SoftLink("/scratch/door")


def group_behind_two_soft_links(file):
    del file["units/spike_times"]
    file["scratch/inner/spikes"] = h5py.ExternalLink("/etc/other.h5", "/secret")
    file["near"] = h5py.SoftLink("/scratch/inner")
    file["units/spike_times"] = h5py.SoftLink("/near/spikes")


def raw_storage(file):
    shape = file["units/spike_times"].shape
    del file["units/spike_times"]
    file.create_dataset(
        "units/spike_times", shape, "f8", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    )


def virtual(file):
    del file["units/spike_times"]
    layout = h5py.VirtualLayout((5,), "f8")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "secret", (5,))
    file.create_virtual_dataset("units/spike_times", layout)


def virtual_of_itself(file):
    layout = h5py.VirtualLayout((5,), "f8")
    layout[:] = h5py.VirtualSource(".", "units/spike_times", (5,))
    file.create_virtual_dataset("acquisition/virtual", layout)


def picture_without_a_link(file):
    """A picture that only a reference leads to keeps its pixels in another file."""
    images = file.create_group("stimulus/templates/pictures")
    hidden = file.create_dataset("hidden", (4, 4), "f8", external=[("/etc/hostname", 0, 128)])
    images["order_of_images"] = np.array([hidden.ref] * 3, h5py.ref_dtype)
    del file[MOVIE]
    series = file.create_group(MOVIE)
    series.attrs["neurodata_type"] = "IndexSeries"
    series["data"], series["timestamps"] = [0, 1, 2], [2.0, 2.1, 2.2]
    series["indexed_images"] = h5py.SoftLink("/stimulus/templates/pictures")


def attribute_to_what_has_no_link(file):
    hidden = file.create_dataset("hidden", (4,), "f8", external=[("/etc/hostname", 0, 32)])
    file["units"].attrs["target"] = hidden.ref


def region_of_what_has_no_link(file):
    hidden = file.create_dataset("hidden", (4,), "f8", external=[("/etc/hostname", 0, 32)])
    kind = h5py.regionref_dtype
    file.create_dataset("regions", data=np.array([hidden.regionref[:2]], kind), dtype=kind)


def compound_to_what_has_no_link(file):
    hidden = file.create_dataset("hidden", (4,), "f8", external=[("/etc/hostname", 0, 32)])
    kind = np.dtype([("start", "i4"), ("series", h5py.ref_dtype)])
    file.create_dataset("rows", data=np.array([(0, hidden.ref)], kind), dtype=kind)


def huge(file):
    file.create_dataset("acquisition/huge", (1 << 43,), "f4", chunks=(1 << 20,))


def huge_with_one_chunk(file):
    data = file.create_dataset("acquisition/huge", (1 << 40,), "f4", chunks=(1 << 20,))
    data[:5] = 1.0


ESCAPES = [
    (external_link, r"unsafe: /units/spike_times links to another file \(/etc/other.h5\)"),
    (pixels_elsewhere, r"unsafe: /stimulus/presentation/noise/data links to another file"),
    (soft_link_to_an_external_link, r"unsafe: .*/scratch/door links to another file"),
    (group_behind_two_soft_links, r"unsafe: .*/scratch/inner/spikes links to another file"),
    (raw_storage, r"unsafe: /units/spike_times is stored in another file \(/etc/hostname\)"),
    (virtual, "unsafe: /units/spike_times is put together from other files"),
    (virtual_of_itself, "unsafe: /acquisition/virtual is put together from other files"),
    (picture_without_a_link, r"unsafe: what /stimulus/.*/order_of_images refers to is stored in"),
    (attribute_to_what_has_no_link, "unsafe: what attribute target of /units refers to is stored"),
    (region_of_what_has_no_link, "unsafe: what /regions refers to is stored in another file"),
    (compound_to_what_has_no_link, "unsafe: what /rows refers to is stored in another file"),
    (huge, "unsafe: /acquisition/huge claims 32768.0 GiB and stores nothing"),
    (huge_with_one_chunk, r"unsafe: /acquisition/huge expands \d+ times to 4096.0 GiB"),
]


@pytest.mark.parametrize(
    ("change", "message"), ESCAPES, ids=lambda thing: getattr(thing, "__name__", "")
)
def test_a_file_that_reaches_outside_itself_is_refused(bad, tmp_path, change, message):
    path = bad(change)
    with h5py.File(path, "r+") as file:
        file.pop("hidden", None)  # what it pointed at stays in the file
    for use in DOORS:
        with pytest.raises(RecordingError, match=message):
            use(path)
    (finding,) = validate(path)
    assert finding.level == "error" and re.search(message, finding.what)
    with pytest.raises(RecordingError):
        import_recording(path, tmp_path / "out.nwb")
    assert not (tmp_path / "out.nwb").exists()


@pytest.mark.parametrize("where", ["train/stimulus", "train/time", "train/response/binned"])
def test_links_that_nobody_opens_are_no_way_round_by_soft_links(tmp_path, where):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.random.default_rng(0).integers(0, 9, (30, 4, 4))
    with h5py.File(tmp_path / "lab.h5", "w") as file:
        file["stimulus/presentation/m/data"] = h5py.ExternalLink("secret.h5", "/x")
        file["train/response/firing_rate_10ms"] = np.ones((2, 30))
        for name in {"train/stimulus", "train/time", "train/response/binned"} - {where}:
            file[name] = np.ones((30, 4, 4) if name == "train/stimulus" else 30)
        file[where] = h5py.SoftLink("/stimulus/presentation/m/data")
    message = rf"unsafe: /{where} leads to another file \(secret.h5\)"
    for use in (describe, lambda path: import_recording(path, tmp_path / "out.nwb", pixel_um=50)):
        with pytest.raises(RecordingError, match=message):
            use(tmp_path / "lab.h5")
    assert not (tmp_path / "out.nwb").exists()


def test_soft_links_in_circles_and_to_nowhere_end(tmp_path):
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["a/b"] = np.arange(3)
        file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")
        file["self"], file["a/up"] = h5py.SoftLink("/self/self"), h5py.SoftLink("/a/up/up/up")
        file["nowhere"], file["a/beside"] = h5py.SoftLink("/no/such"), h5py.SoftLink("b")
        file["through"] = h5py.SoftLink("/a/b/c")
        file["out"] = h5py.ExternalLink("other.h5", "/")
        file["a/../b"] = np.arange(2)
    with open_hdf5(tmp_path / "links.h5", unread={"/out"}) as file:
        assert file["a/beside"][()].tolist() == [0, 1, 2]
    with h5py.File(tmp_path / "links.h5", "r+") as file:
        file["a/deep"] = h5py.SoftLink("/./out/x")
    with (
        pytest.raises(RecordingError, match="unsafe: /a/deep leads to another file"),
        open_hdf5(tmp_path / "links.h5", unread={"/out"}),
    ):
        pass


def test_soft_links_through_soft_links_without_end_take_no_time(tmp_path):
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["out"] = h5py.ExternalLink("other.h5", "/")
        for level in range(12):
            file[f"x{level}"] = h5py.SoftLink("/".join([f"x{level + 1}"] * 8))
        file["x12"] = file["/"]
    began = time.process_time()
    with open_hdf5(tmp_path / "links.h5", unread={"/out"}) as file:
        assert file.get("x11", getclass=True) is h5py.Group
    assert time.process_time() - began < 2


def test_cycles_of_links_end(bad):
    def cycle(file):
        file["units/again"] = file["/"]
        file["units/soft"] = h5py.SoftLink("/units/soft")

    assert read_nwb(bad(cycle))["spike_count"].sum() > 300


def test_a_thousandfold_expansion_is_refused_before_it_is_read(tmp_path):
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("zeros", (1 << 23,), "f8", chunks=(1 << 20,), compression="gzip")
        file["zeros"][:] = np.zeros(1 << 23)
    assert (tmp_path / "bomb.h5").stat().st_size < 1 << 20
    limits = Limits(expanded_bytes=1 << 25)
    with (
        pytest.raises(RecordingError, match=r"/zeros expands \d\d\d+ times to 0.1 GiB"),
        open_hdf5(tmp_path / "bomb.h5", limits),
    ):
        pass
    assert scan(tmp_path / "bomb.h5") == []


def test_references_without_end_are_refused(tmp_path):
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["one"] = 1
        file["refs"] = np.array([file["one"].ref] * 50, h5py.ref_dtype)
    assert scan(tmp_path / "many.h5") == []
    found = scan(tmp_path / "many.h5", Limits(references=49))
    assert found == ["/refs holds 50 references, more than 49"]


def test_references_to_nowhere_and_to_remains_do_no_harm(tmp_path):
    with h5py.File(tmp_path / "remains.h5", "w") as file:
        old = file.create_dataset("old", data=np.arange(1000.0))
        regions = np.array([old.regionref[:5]], h5py.regionref_dtype)
        file.create_dataset("regions", data=regions, dtype=h5py.regionref_dtype)
        file["refs"] = np.array([old.ref, h5py.Reference()], h5py.ref_dtype)
        file["refs"].attrs["also"] = old.ref
        del file["old"]
    with h5py.File(tmp_path / "remains.h5", "r+") as file:
        for number in range(20):
            file[f"new{number}"] = np.arange(50)
    assert scan(tmp_path / "remains.h5") == []


def test_two_hundred_thousand_objects_are_too_many(tmp_path):
    with h5py.File(tmp_path / "many.h5", "w") as file:
        names = file.create_group("names")
        for number in range(300):
            names.create_group(str(number))
        for number in range(700):
            file[f"again{number}"] = names
    assert scan(tmp_path / "many.h5", Limits(objects=1000)) == ["more than 1000 objects"]
    assert Limits().objects == 200_000


def test_strings_by_the_million_that_nobody_wrote_are_refused(tmp_path):
    with h5py.File(tmp_path / "names.h5", "w") as file:
        names = file.create_dataset(
            "names", (4,), h5py.string_dtype(), maxshape=(None,), chunks=(4,)
        )
        names[:] = ["a", "b", "c", "d"]
        assert scan(tmp_path / "names.h5") == []
        names.resize((12_000_000,))
    (found,) = scan(tmp_path / "names.h5")
    assert re.match(r"/names expands \d{6,} times to 0.1 GiB", found)
