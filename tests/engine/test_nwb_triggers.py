"""Pulses wherever a file keeps them, and the flips between pulses."""

import h5py
import numpy as np
import pytest

from retinacodec.errors import InputError, RecordingError
from retinacodec.nwb import open_nwb
from retinacodec.nwb_movies import open_movie
from retinacodec.nwb_triggers import Triggers, flips_of
from retinacodec.recordings import bin_spikes

base = pytest.importorskip("pynwb.base")
epoch = pytest.importorskip("pynwb.epoch")
event = pytest.importorskip("pynwb.event")
image = pytest.importorskip("pynwb.image")
misc = pytest.importorskip("pynwb.misc")

PULSES = 2.0 + np.cumsum(np.random.default_rng(0).uniform(0.033, 0.034, 40))


def pulses(path, triggers):
    with open_nwb(path) as file:
        return triggers.pulses(file, str(path))


def movie(frames=40):
    data = np.random.default_rng(1).integers(0, 255, (frames, 3, 2), dtype=np.uint8)
    return image.ImageSeries("clip", data=data, unit="n.a.", rate=30.0, starting_time=0.0)


def events_table(extra=()):
    table = event.EventsTable(name="ttl", description="pulses")
    table.add_column("kind", "what happened")
    for time, kind in sorted([*((time, "frame") for time in PULSES), *extra]):
        table.add_event(timestamp=float(time), kind=kind)
    return table


def test_an_events_table_of_the_core_schema(lab_file):
    path = lab_file(movie(), change=lambda nwb: nwb.add_events_table(events_table()))
    np.testing.assert_array_equal(pulses(path, Triggers()), PULSES)
    with open_nwb(path) as file:
        np.testing.assert_array_equal(
            open_movie(file, str(path), triggers=Triggers()).flips[0], PULSES
        )


def test_one_kind_of_event_is_chosen_by_its_label(lab_file):
    extra = [(1.0, "start"), (2.5, "lick"), (2.7, "lick")]
    path = lab_file(movie(), change=lambda nwb: nwb.add_events_table(events_table(extra)))
    with pytest.raises(RecordingError, match=r"several kinds \(kind: frame, lick, start\); choose"):
        pulses(path, Triggers())
    np.testing.assert_array_equal(pulses(path, Triggers(label="frame")), PULSES)
    np.testing.assert_array_equal(pulses(path, Triggers("ttl", label="lick")), [2.5, 2.7])
    assert pulses(path, Triggers(label="*")).size == 43
    with pytest.raises(RecordingError, match=r"no events 'flip'; it has frame, lick, start"):
        pulses(path, Triggers(label="flip"))


def test_annotations(lab_file):
    words = [f"frame {number}" for number in range(40)] + ["end"]
    times = np.append(PULSES, PULSES[-1] + 1)
    notes = misc.AnnotationSeries("notes", data=words, timestamps=times)
    path = lab_file(movie(), acquisition=[notes])
    np.testing.assert_array_equal(pulses(path, Triggers(label="frame *")), PULSES)


def test_labelled_events_and_ttl_tables_of_the_extension(lab_file):
    path = lab_file(movie())
    with h5py.File(path, "r+") as file:
        old = file.create_group("acquisition/LabeledEvents")
        old.attrs["neurodata_type"] = "LabeledEvents"
        old["timestamps"] = np.sort(np.append(PULSES, [2.5, 2.6]))
        old["data"] = np.isin(old["timestamps"][()], [2.5, 2.6]).astype("u1")
        old["data"].attrs["labels"] = ["frame", "reward"]
    np.testing.assert_array_equal(pulses(path, Triggers(label="frame")), PULSES)
    with h5py.File(path, "r+") as file:
        del file["acquisition/LabeledEvents"]
        kinds = file.create_group("general/ttl_types")
        kinds.attrs["colnames"] = ["event_name", "pulse_value"]
        kinds["event_name"], kinds["pulse_value"] = ["camera", "frame"], [1, 7]
        new = file.create_group("acquisition/TtlsTable")
        new.attrs.update(neurodata_type="TtlsTable", colnames=["timestamp", "ttl_type"])
        new["id"], new["timestamp"] = np.arange(42), np.sort(np.append(PULSES, [2.5, 2.6]))
        new["ttl_type"] = (~np.isin(new["timestamp"][()], [2.5, 2.6])).astype(int)
        new["ttl_type"].attrs["table"] = kinds.ref
    np.testing.assert_array_equal(pulses(path, Triggers(label="frame")), PULSES)
    with pytest.raises(RecordingError, match="ttl_type: camera, frame"):
        pulses(path, Triggers())


def test_a_plain_series_and_a_column_of_times(lab_file):
    ttl = base.TimeSeries("ttl", data=np.ones(40), unit="n.a.", timestamps=PULSES)
    rows = epoch.TimeIntervals("flips", "frames")
    rows.add_column("photodiode", "s")
    for time in PULSES:
        rows.add_row(start_time=time, stop_time=time + 0.03, photodiode=time + 0.005)
    path = lab_file(movie(), acquisition=[ttl], change=lambda nwb: nwb.add_time_intervals(rows))
    np.testing.assert_array_equal(pulses(path, Triggers("ttl")), PULSES)
    np.testing.assert_array_equal(pulses(path, Triggers("acquisition/ttl")), PULSES)
    np.testing.assert_array_equal(pulses(path, Triggers("intervals/flips")), PULSES)
    column = Triggers("intervals/flips/photodiode", between=(2.0, 3.0))
    np.testing.assert_array_equal(pulses(path, column), (PULSES + 0.005)[PULSES + 0.005 < 3])
    with pytest.raises(RecordingError, match="no triggers 'none'; it has no table or series"):
        pulses(path, Triggers("none"))
    with pytest.raises(RecordingError, match=r"no table or series of events; say where"):
        pulses(path, Triggers())


@pytest.mark.parametrize("slab", [1 << 22, 97])
def test_a_voltage_trace_has_a_pulse_where_it_rises(lab_file, monkeypatch, slab):
    monkeypatch.setattr("retinacodec.nwb_triggers._SLAB", slab)
    rate = 20000.0
    samples = np.arange(int(4 * rate)) / rate
    since = samples[:, None] - PULSES
    high = ((since >= 0) & (since < 0.01)).any(1)
    volts = np.where(high, 1000, 20).astype(np.int16)
    trace = base.TimeSeries("diode", data=volts, unit="V", conversion=0.005, rate=rate)
    path = lab_file(movie(), acquisition=[trace])
    found = pulses(path, Triggers("diode", threshold=2.5))
    np.testing.assert_allclose(found, np.ceil(PULSES * rate) / rate, atol=1.01 / rate)
    with pytest.raises(
        RecordingError, match=r"rises to 9 in 0 places; its values go from 0\.1 to 5"
    ):
        pulses(path, Triggers("diode", threshold=9))
    with pytest.raises(RecordingError, match="no timestamps of pulses; if it is a voltage trace"):
        pulses(path, Triggers("diode"))


def test_two_channels_need_a_name(lab_file):
    notes = [misc.AnnotationSeries(name, data=["f"] * 40, timestamps=PULSES) for name in "ab"]
    path = lab_file(movie(), acquisition=notes)
    with pytest.raises(RecordingError, match=r"has 2 .* choose one: .* of acquisition/a, acq"):
        pulses(path, Triggers())
    np.testing.assert_array_equal(pulses(path, Triggers("b")), PULSES)


def display(frames, every, drops=(), stops=()):
    """True flips of a 60 Hz display that held some frames longer, and its pulses."""
    intervals = np.full(frames, 1 / 60)
    for frame in drops:
        intervals[frame] *= 2
    for frame, seconds in stops:
        intervals[frame] += seconds
    flips = 5.0 + np.concatenate([[0], np.cumsum(intervals[:-1])])
    return flips, flips[::every]


@pytest.mark.parametrize("every", [1, 2, 5, 30])
@pytest.mark.parametrize("frames", [300, 299, 271])
def test_frames_between_pulses_are_interpolated(every, frames):
    flips, sent = display(frames, every)
    np.testing.assert_allclose(flips_of(sent, every, frames), flips, atol=1e-9)


def test_one_dropped_frame_moves_no_spike():
    flips, sent = display(300, 1, drops=[100])
    train = flips + 0.004
    counts = bin_spikes([train], flips_of(sent, 1, 300))
    np.testing.assert_array_equal(counts[:, 0], 1)
    nominal = bin_spikes([train], flips[0] + np.arange(300) / 60)
    assert nominal[101, 0] == 0 and nominal.sum() == 299  # later spikes are one frame late
    flips, sent = display(300, 5, drops=[102])
    found = flips_of(sent, 5, 300)
    outside = np.r_[0:101, 105:300]
    np.testing.assert_allclose(found[outside], flips[outside], atol=1e-9)
    assert np.abs(found - flips).max() < 1 / 60


def test_a_missed_pulse_is_filled_in_because_a_frame_count_needs_it(caplog):
    flips, sent = display(300, 5)
    for missed in ([17], [17, 18, 40]):
        found = flips_of(np.delete(sent, missed), 5, 300, name="clip")
        np.testing.assert_allclose(found, flips, atol=1e-9)
        assert f"{len(missed)} missed pulses of clip are filled in, first after" in caplog.text


def test_a_display_that_stood_still_is_no_missed_pulse(caplog):
    flips, sent = display(300, 5, stops=[(84, 5 / 60)])  # looks exactly like one missed pulse
    found = flips_of(sent, 5, 300)
    np.testing.assert_allclose(found, flips, atol=1e-9)
    assert "missed" not in caplog.text
    counts = bin_spikes([flips + 0.004], found)
    np.testing.assert_array_equal(counts[:, 0], 1)


def test_one_pulse_more_or_less_is_cut_with_a_notice(caplog):
    flips, sent = display(300, 5)
    np.testing.assert_allclose(flips_of(np.append(sent, sent[-1] + 1 / 12), 5, 300), flips)
    assert "needs 60 pulses and there are 61; the last pulse is left out" in caplog.text
    np.testing.assert_allclose(flips_of(sent[:-1], 5, 300), flips[:295])
    assert "there are 59; the frames after the last pulse are left out" in caplog.text
    for some in (sent[:-2], np.append(sent, sent[-1] + np.arange(1, 4) / 12)):
        with pytest.raises(
            RecordingError, match=rf"need 60 pulses .* but there are {some.size}; c"
        ):
            flips_of(some, 5, 300)


def test_a_stop_and_a_missed_pulse_at_once_are_not_guessed():
    _, sent = display(300, 5, stops=[(84, 5 / 60)])
    found = np.delete(sent, [40, 41, 50])  # three wanting, four explained by long intervals
    with pytest.raises(RecordingError, match=r"need 60 pulses .* but there are 57"):
        flips_of(found, 5, 300)


def test_movie_and_pulses_through_the_file(lab_file, caplog):
    flips, sent = display(200, 4, drops=[50])
    ttl = base.TimeSeries("ttl", data=np.ones(50), unit="n.a.", timestamps=sent)
    path = lab_file(movie(200), acquisition=[ttl])
    with open_nwb(path) as file:
        found = open_movie(file, str(path), triggers=Triggers("ttl", every=4))
        assert np.abs(found.flips[0] - flips).max() < 1 / 60
        with pytest.raises(RecordingError, match=r"200 frames, which need 100 pulses .* are 50"):
            open_movie(file, str(path), triggers=Triggers("ttl", every=2))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"every": 0}, "every=1 frame or more"),
        ({"threshold": np.nan}, "a finite threshold"),
        ({"between": (3, 2)}, r"between=\(from, to\)"),
    ],
)
def test_triggers_that_mean_nothing_are_refused(bad, message):
    with pytest.raises(InputError, match=message):
        Triggers(**bad)
