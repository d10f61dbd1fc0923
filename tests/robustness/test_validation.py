"""validate and info: every finding, its level and its numbers; commands that work."""

import json
import shlex
import sys

import h5py
import numpy as np
import pytest

from retinacodec.errors import RecordingError
from retinacodec.importers import describe
from retinacodec.models import DeepRetina, save_model
from retinacodec.nwb import read_nwb, read_stimulus, write_nwb
from retinacodec.schema import make_stimulus
from retinacodec.validation import validate

MOVIE = "stimulus/presentation/noise"


def levels(findings):
    return {finding.level for finding in findings}


def told(findings, words):
    """Return the one finding with some words in it."""
    (found,) = [finding for finding in findings if words in str(finding)]
    return found


def spikes(*trains):
    def change(file):
        units = file["units"]
        for name in ("spike_times", "spike_times_index", "id", "obs_intervals"):
            units.pop(name, None)
        units.pop("obs_intervals_index", None)
        units["spike_times"] = np.concatenate([np.asarray(train, float) for train in trains])
        units["spike_times_index"] = np.cumsum([len(train) for train in trains])
        units["id"] = np.arange(len(trains))

    return change


def test_a_good_file_has_no_error_and_no_warning(good):
    found = validate(good)
    assert levels(found) <= {"note"}
    assert "nothing tells whether the 10 x 12 pixels" not in " ".join(map(str, found))


def test_everything_is_collected_and_not_only_the_first(bad):
    def many(file):
        values = file["units/spike_times"][()]
        values[[10, 90]] = values[[90, 10]]
        values[160] = np.nan
        values[451] = np.inf
        file["units/spike_times"][...] = values
        del file[f"{MOVIE}/field_of_view"]
        file[f"{MOVIE}/data"].attrs["conversion"] = np.nan
        file.copy(file[MOVIE], "stimulus/presentation/other")
        stamps = file["stimulus/presentation/other/timestamps"]
        stamps[40:42] = stamps[40:42][::-1]
        del file["session_start_time"]
        file["session_start_time"] = "2024-01-02T03:04:05"
        group = file.create_group("acquisition/ünbekannt")
        group.attrs["neurodata_type"], group.attrs["namespace"] = "NewThing", "ndx-new"

    path = bad(many)
    found = validate(path)
    errors = [str(finding) for finding in found if finding.level == "error"]
    for words in (
        "unit 0 has unsorted spike times",
        "unit 1 has 1 spike times that are NaN",
        "unit 3 has 1 spike times that are NaN or infinite, the first at 1",
        "conversion nan",
        "timestamps do not increase after frame 40",
    ):
        assert any(words in error for error in errors), words
    assert told(found, "has no time zone").level == "note"
    assert "ndx-new:NewThing" in told(found, "extension type").what
    assert [f.level for f in found] == sorted(
        (f.level for f in found), key=("error", "warning", "note").index
    )
    with pytest.raises(RecordingError):
        read_nwb(path, stimulus="noise")


def test_dropped_frames_are_told_with_their_times_and_lengths(bad):
    def drop(file):
        stamps = file[f"{MOVIE}/timestamps"]
        stamps[...] = 2 + 0.1 * np.arange(300)
        stamps[100:] = stamps[100:] + 0.1
        stamps[200:] = stamps[200:] + 5.0

    found = validate(bad(drop))
    note = told(found, "frames dropped after the flips")
    assert note.level == "note" and note.place == f"/{MOVIE}"
    assert "11.9000 s (2), 22.0000 s (51)" in note.what
    notice = told(found, "2 intervals above 1.5 frames, 1 of them gaps above 3")
    assert notice.level == "warning" and not notice.what.startswith("/")


def test_spikes_beside_the_movie_short_intervals_and_cells_that_saw_nothing(bad):
    inside = np.linspace(3, 9, 100)
    doubled = np.sort(np.concatenate([inside[:50], inside[:5] + 5e-4]))
    change = spikes(inside, [*inside[:75], *np.linspace(100, 110, 25)], [0.5, 1.0], [], doubled)
    found = validate(bad(change))
    assert "1 25 %" in told(found, "spikes outside every movie").what
    assert told(found, "no spike in any movie: 2").level == "warning"
    assert "without a single spike" in told(found, "cell 3").what
    short = told(found, "intervals below 1 ms")
    assert f"4 {100 * 5 / 54:.3g} %" in short.what and short.level == "note"
    twice = validate(bad(spikes([*inside, 9.5, 9.5])))
    assert told(twice, "the very time of the spike before").level == "warning"


def test_a_movie_that_ends_before_the_spikes_begin(bad):
    found = validate(bad(spikes(np.linspace(20, 30, 50))))
    error = told(found, "the last movie ends at")
    assert error.level == "error" and "the first spike comes at 20 s" in error.what


def test_observation_that_cuts_the_movie(bad):
    def cut(file):
        flips = file[f"{MOVIE}/timestamps"]
        flips[...] = 2 + 0.1 * np.arange(300)  # to 32 s
        spikes(np.linspace(3, 9, 30), np.linspace(3, 9, 30))(file)
        file["units/obs_intervals"] = [[0.0, 9.5], [17.0, 100.0], [0.0, 100.0]]
        file["units/obs_intervals_index"] = [2, 3]

    note = told(validate(bad(cut)), "obs_intervals cover a part of noise")
    assert note.what.endswith("noise: 0 75 %") and note.level == "note"


def test_axes_that_nothing_tells_apart_and_values_without_a_meaning(bad):
    def square(file):
        file[f"{MOVIE}/field_of_view"][...] = [5e-4, 5e-4]
        data = file[f"{MOVIE}/data"][()][:, :10, :10]
        del file[f"{MOVIE}/data"]
        file[f"{MOVIE}/data"] = data
        file[f"{MOVIE}/data"].attrs["unit"] = "unknown"

    found = validate(bad(square))
    assert told(found, "(x, y) or (row, column)").level == "note"
    assert "spatial_order='yx'" in told(found, "(x, y) or (row, column)").hint
    assert told(found, "unit 'unknown'").level == "note"

    def without(file):
        del file[f"{MOVIE}/field_of_view"]

    found = validate(bad(without))
    assert told(found, "does not say how large its pixels are").level == "error"
    assert told(found, "(x, y) or (row, column)").level == "note"

    def swapped(file):
        file[f"{MOVIE}/field_of_view"][...] = file[f"{MOVIE}/field_of_view"][()][::-1]

    found = validate(bad(swapped))
    assert "which are not square" in told(found, "spatial_order=").what
    assert not any("(row, column)" in str(finding) for finding in found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values * 0, "every pixel of noise is"),
        (lambda values: np.where(np.arange(300)[:, None, None] == 250, np.nan, values), "NaN"),
    ],
)
def test_pixels_are_read_to_the_end(bad, change, words):
    def apply(file):
        values = file[f"{MOVIE}/data"][()].astype(float)
        del file[f"{MOVIE}/data"]
        file[f"{MOVIE}/data"] = change(values)

    path = bad(apply)
    assert told(validate(path), words).level == "error"
    assert describe(path).problems == ()  # which does not read pixels


def test_potentials_in_millivolts_without_a_conversion(bad):
    def potentials(file):
        group = file.create_group("acquisition/vm")
        group.attrs["neurodata_type"] = "CurrentClampSeries"
        group["data"], group["timestamps"] = np.linspace(-70, -40, 50), np.arange(50) / 100
        group["data"].attrs["unit"] = "volts"

    found = validate(bad(potentials))
    assert "states no conversion; 1 is used" in told(found, "conversion").what
    assert told(found, "mV stored as volts?").level == "error"
    assert any("acquisition/vm" in name for name, _ in describe(bad(potentials)).contents)


def test_voltages_that_are_not_sorted(bad):
    def unsorted(file):
        del file["units"], file["stimulus"]
        group = file.create_group("acquisition/events")
        group.attrs["neurodata_type"] = "SpikeEventSeries"

    assert "not spike-sorted yet" in told(validate(bad(unsorted)), "no sorted units").hint


def test_one_movie_of_several_can_be_asked_for(bad):
    def second(file):
        file.copy(file[MOVIE], "stimulus/presentation/other")
        file["stimulus/presentation/other/timestamps"][5] = np.nan

    path = bad(second)
    assert "error" in levels(validate(path))
    assert "error" not in levels(validate(path, stimulus="noise"))
    assert "has no movie 'none'" in told(validate(path, stimulus="none"), "none").what


def test_the_command_prints_one_line_a_finding_and_fails_on_errors(bad, good, call):
    path = bad(lambda file: file[f"{MOVIE}/data"].attrs.update(conversion=0.0))
    code, out, err = call("validate", path)
    assert code == 1 and not err
    assert out.splitlines() == [str(finding) for finding in validate(path)]
    code, out, _ = call("validate", path, "--json")
    assert code == 1 and json.loads(out)[0]["level"] == "error"
    code, out, err = call("validate", good)
    assert code == 0 and out and not err
    assert call("validate", path, "--stimulus", "nothing")[0] == 1


def test_what_nwbinspector_says_comes_along(good, monkeypatch):
    found = validate(good, inspector=True)
    assert any(finding.place.startswith("nwbinspector") for finding in found)
    monkeypatch.setitem(sys.modules, "nwbinspector", None)
    found = validate(good, inspector=True)
    assert told(found, "nwbinspector is not installed").hint == "pip install nwbinspector"


def test_notices_stand_beside_problems_and_are_not_printed_twice(bad, call):
    path = bad(spikes(np.linspace(3, 9, 50), []))
    assert any("without a single spike" in notice for notice in describe(path).notices)
    code, out, err = call("info", path)
    assert code == 0 and "notice: " in out and not err
    code, out, _ = call("info", path, "--json")
    assert json.loads(out)["notices"]


def run_next(call, step, tmp_path, **given):
    """Type the command that `info` proposes, with a file for each word in capitals."""
    words = [given.get(word, word) for word in shlex.split(step)]
    assert words[0] == "retinacodec"
    place = words.index("--out") + 1
    words[place] = tmp_path / words[place]
    return call(*words[1:])


@pytest.mark.slow
def test_the_next_command_works_for_a_recording(good, call, tmp_path):
    path = tmp_path / "my cells.nwb"
    path.write_bytes(good.read_bytes())
    code, out, err = run_next(call, describe(path).next + " --epochs 1", tmp_path)
    assert code == 0, out + err


def test_the_next_command_works_for_bars(call, tmp_path):
    rng = np.random.default_rng(0)
    bars = make_stimulus(rng.choice([-1, 1], (600, 1, 12)), frame_rate=30, pixel_um=50, name="bars")
    trains = {"a": np.sort(rng.uniform(0, 20, 200))}
    path = write_nwb(tmp_path / "bars.nwb", bars, spike_times=trains)
    step = describe(path).next
    assert step.startswith("retinacodec sta ")
    code, out, err = run_next(call, step, tmp_path)
    assert code == 0, out + err


def test_the_next_command_works_for_a_movie_alone(call, tmp_path, good):
    path = write_nwb(tmp_path / "movie.nwb", read_stimulus(good), None)
    step = describe(path).next
    model = tmp_path / "model.safetensors"
    network = DeepRetina(2, size=(12, 10), history=8, channels=(2, 2), kernels=(3, 3)).eval()
    save_model(network, model)
    code, out, err = run_next(call, step, tmp_path, MODEL=model)
    assert code == 0, out + err


def test_the_next_step_for_units_alone_is_a_call_that_works(bad, good):
    def alone(file):
        del file["stimulus"]

    path = bad(alone)
    found = describe(path)
    assert found.problems == () and "give stimulus=" in found.next
    import retinacodec

    step = found.next.removeprefix("in Python: ").partition("; ")[0]
    cells = eval(step, {"retinacodec": retinacodec, "MOVIE": read_stimulus(good)})
    np.testing.assert_array_equal(cells["spike_count"], read_nwb(good)["spike_count"])


def test_a_listing_of_very_many_cells_and_movies_stays_readable(bad, call):
    def many(file):
        rng = np.random.default_rng(0)
        spikes(*[np.sort(rng.uniform(1, 14, 3)) for _ in range(2_000)])(file)
        for number in range(30):
            file.copy(file[MOVIE], f"stimulus/presentation/ü{number}")

    code, out, err = call("info", bad(many))
    assert code == 0, out + err
    assert "2000 (0, 1, 2, 3, 4, 5, 6, 7 ...), 6000 spikes" in out
    assert "11 more" in out and len(out.splitlines()) < 120
    assert max(map(len, out.splitlines())) < 400


@pytest.mark.parametrize("what", ["group", "compound"])
def test_units_that_cannot_be_looked_at_one_by_one_are_still_said(bad, what):
    def change(file):
        del file["units/spike_times"]
        if what == "group":
            file.create_group("units/spike_times")
        else:
            file["units/spike_times"] = np.zeros(600, [("a", "f8")])

    assert any(f.level == "error" and "spike_times" in f.what for f in validate(bad(change)))


def test_the_file_stays_closed_and_unchanged(good):
    before = good.read_bytes()
    validate(good)
    with h5py.File(good, "r+"):
        pass
    assert good.read_bytes()[:8] == before[:8]
