"""A streamed decomposition is as good as one in memory, whatever its blocks and interruptions."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses import project_modes
from retinacodec.dictionaries import BalancedRows, DirectPursuit, RandomRows, TimeBlocks
from retinacodec.dictionary_scores import held_out_r2, row_r2
from retinacodec.errors import InputError
from retinacodec.metrics import explained_variance, matched_cosine
from retinacodec.row_files import open_rows
from retinacodec.row_source import ArrayRows
from retinacodec.store import open_result
from retinacodec.stream_plan import plan_stream
from retinacodec.streamed_loadings import LoadingsFolder
from retinacodec.streamed_pursuit import stream_modes

METHOD = DirectPursuit(modes=8, gain=0.04, consensus_seeds=1)
BALANCED = replace(METHOD, scaling=BalancedRows())
QUIET = {"progress": False, "sample_rows": 2000}


@pytest.fixture(scope="module")
def table(planted):
    found = planted(10000, 32, 8, own=0.0)
    found.x = found.x.astype(np.float32)
    return found


@pytest.fixture(scope="module")
def plain(table, tmp_path_factory):
    """The result of a run that nothing disturbed, read."""
    folder = tmp_path_factory.mktemp("plain")
    return run(open_rows(table.x), folder / "modes.zarr")


@pytest.fixture(scope="module")
def balanced(table, tmp_path_factory):
    """Where a result with balanced rows lies that nothing disturbed."""
    out = tmp_path_factory.mktemp("balanced") / "modes.zarr"
    run(open_rows(table.x), out, BALANCED)
    return out


class Killed(BaseException):
    """What no handler of errors catches."""


class Dying:
    """A table whose reading is cut off after some blocks."""

    def __init__(self, x, blocks):
        self.rows, self.left, self.seen = open_rows(x), blocks, 0
        self.shape, self.dtype, self.columns = self.rows.shape, self.rows.dtype, self.rows.columns
        self.unit_rows, self.stamp = self.rows.unit_rows, self.rows.stamp

    def read(self, start, stop):
        if self.seen == self.left:
            raise Killed
        self.seen += 1
        return self.rows.read(start, stop)


def run(source, out, method=METHOD, **options):
    with stream_modes(source, method, out=out, **QUIET | options) as modes:
        return modes.load()


def small_blocks(monkeypatch):
    """Read a single stretch at a time."""
    monkeypatch.setattr("retinacodec.stream_plan._BLOCK_BYTES", 1)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_it_is_as_good_as_in_memory(table, plain):
    whole = METHOD.fit(table.x, progress=False)
    streamed = plain["atom"].values
    assert matched_cosine(table.atoms, streamed).min() > 0.998
    assert matched_cosine(whole.atoms, streamed).min() > 0.998
    fitted, held = TimeBlocks().split(len(table.x))
    assert plain.attrs["r2"] == pytest.approx(held_out_r2(METHOD, table.x), abs=5e-4)
    made = plain.attrs["scale"] * plain["loading"].values @ streamed
    assert plain.attrs["r2"] == pytest.approx(explained_variance(table.x[held], made[held]))
    assert plain.attrs["r2_fitted"] == pytest.approx(
        explained_variance(table.x[fitted], made[fitted])
    )
    assert plain.attrs["r2_low"] < plain.attrs["r2"] < plain.attrs["r2_high"]
    np.testing.assert_allclose(plain["reconstruction_r2"], row_r2(table.x, made), atol=1e-6)
    assert plain.attrs["scale"] == pytest.approx(table.x[fitted].astype(float).std(), rel=1e-12)
    assert plain.attrs["l0"] == pytest.approx((plain["loading"].values > 0).sum(axis=1).mean())
    used = plain["loading"].values[fitted].sum(axis=0, dtype=float)
    assert (np.diff(used) <= 0).all()
    np.testing.assert_allclose(plain["share"].sum(), 1)


def test_columns_are_those_of_numpy(table, plain):
    x = table.x.astype(np.float64)
    np.testing.assert_allclose(plain["column_mean"], x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(plain["column_deviation"], x.std(axis=0), rtol=1e-12)
    assert plain["varies"].all()


def test_a_far_mean_does_not_cost_digits(tmp_path):
    x = 1e6 + np.random.default_rng(0).normal(size=(9000, 3))
    modes = run(open_rows(x), tmp_path / "m.zarr", DirectPursuit(modes=2))
    np.testing.assert_allclose(modes["column_deviation"], x.std(axis=0), rtol=1e-9)


def test_more_rows_than_the_sample_make_better_atoms(planted, tmp_path):
    table = planted(12000, 32, 8, own=0.0, noise=0.7)
    options = {"sample_rows": 200, "progress": False}
    errors = []
    for sweeps in (1, 6):
        path = tmp_path / f"{sweeps}.zarr"
        with stream_modes(open_rows(table.x), METHOD, out=path, sweeps=sweeps, **options) as modes:
            errors.append(1 - matched_cosine(table.atoms, modes["atom"].values).mean())
            explained = modes["log_explained"].values
    assert explained[-1] > explained[0] and errors[1] < 0.6 * errors[0]
    whole = METHOD.fit(table.x, progress=False)
    assert errors[1] < 1.1 * (1 - matched_cosine(table.atoms, whole.atoms).mean())


@pytest.mark.parametrize("kind", ["npy", "zarr", "array"])
def test_neither_blocks_nor_files_change_a_bit(kind, table, plain, tmp_path, monkeypatch):
    import zarr

    small_blocks(monkeypatch)
    source = table.x
    if kind == "npy":
        np.save(tmp_path / "x.npy", table.x)
        source = tmp_path / "x.npy"
    if kind == "zarr":
        zarr.create_array(tmp_path / "x", data=table.x, chunks=(999, 7))
        source = tmp_path / "x"
    opened = open_rows(source)
    assert plan_stream(opened, METHOD).block < len(table.x)
    assert run(opened, tmp_path / "modes.zarr").identical(plain)


@pytest.mark.parametrize("blocks", [1, 4, 7, 9, 11, 13, 16])
def test_a_killed_run_goes_on_to_the_same_files(blocks, table, balanced, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    out = tmp_path / "modes.zarr"
    with pytest.raises(Killed):
        run(Dying(table.x, blocks), out, BALANCED)
    assert not out.exists()
    run(open_rows(table.x), out, BALANCED, resume=True)
    assert files(out) == files(balanced)
    assert [path.name for path in tmp_path.iterdir()] == ["modes.zarr"]


def test_what_was_done_is_not_done_again(table, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    np.save(tmp_path / "x.npy", table.x)
    source = open_rows(tmp_path / "x.npy")
    first = Dying(table.x, 10_000)
    run(first, tmp_path / "whole.zarr")
    dying, rest = Dying(table.x, first.seen - 1), Dying(table.x, 10_000)
    dying.stamp = rest.stamp = source.stamp
    with pytest.raises(Killed):
        run(dying, tmp_path / "modes.zarr")
    run(rest, tmp_path / "modes.zarr", resume=True)
    assert rest.seen == 1


def test_a_process_that_is_killed_leaves_no_result(table, plain, tmp_path):
    np.save(tmp_path / "x.npy", table.x)
    out = tmp_path / "modes.zarr"
    script = f"""
        import time
        from retinacodec import stream_plan, stream_run
        from retinacodec.dictionaries import DirectPursuit
        from retinacodec.row_files import open_rows
        from retinacodec.streamed_pursuit import stream_modes
        stream_plan._BLOCK_BYTES = 1
        note = stream_run.Journal.mark
        def slowly(self, phase, row, running):
            note(self, phase, row, running)
            if phase == "score":
                time.sleep(60)
        stream_run.Journal.mark = slowly
        stream_modes(open_rows({str(tmp_path / "x.npy")!r}), {METHOD!r}, out={str(out)!r},
                     sample_rows=2000, progress=False)
    """
    names = "from retinacodec.dictionaries import DirectPursuit, OneScale, TimeBlocks"
    code = f"{names}\n{textwrap.dedent(script)}"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        chunk = tmp_path / "modes.unfinished" / "result.zarr" / "loading" / "c"
        end = time.monotonic() + 60
        while not chunk.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
    assert chunk.exists() and not out.exists()
    with pytest.raises(InputError, match="no such file"):
        open_result(out)
    assert run(open_rows(tmp_path / "x.npy"), out, resume=True).identical(plain)


def test_another_run_is_not_gone_on_with(table, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    out = tmp_path / "modes.zarr"
    with pytest.raises(Killed):
        run(Dying(table.x, 7), out)
    with pytest.raises(InputError, match="seed was 0, is 1"):
        run(open_rows(table.x), out, seed=1, resume=True)
    with pytest.raises(InputError, match=r"method was DirectPursuit.modes=8.*rows was 10000"):
        run(open_rows(table.x[1:]), out, DirectPursuit(modes=7), resume=True)
    other = table.x.copy()
    other[5000, 3] += 1e-3
    with pytest.raises(InputError, match="values of the table are not those"):
        run(open_rows(other), out, resume=True)
    with pytest.raises(InputError, match="was not finished; go on with resume=True"):
        run(open_rows(table.x), out)
    assert run(open_rows(table.x), out, overwrite=True).attrs["seed"] == 0


def test_a_result_is_not_replaced_unasked(table, plain, tmp_path):
    out = tmp_path / "modes.zarr"
    out.mkdir()
    with pytest.raises(InputError, match="exists already"):
        run(open_rows(table.x), out)
    with pytest.raises(InputError, match="is no result"):
        run(open_rows(table.x), out, overwrite=True)
    with pytest.raises(InputError, match="does not exist"):
        run(open_rows(table.x), tmp_path / "none" / "modes.zarr")
    with pytest.raises(InputError, match=r"ending in \.zarr"):
        run(open_rows(table.x), tmp_path / "modes.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["modes.zarr"]


def test_a_full_disk_is_said_and_the_run_goes_on(table, plain, tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    out, write = tmp_path / "modes.zarr", LoadingsFolder.write

    def full(self, first, loading, r2):
        if first:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, first, loading, r2)

    monkeypatch.setattr(LoadingsFolder, "write", full)
    with pytest.raises(InputError, match=r"disk is full; make room .* resume=True"):
        run(open_rows(table.x), out)
    assert not out.exists()
    monkeypatch.setattr(LoadingsFolder, "write", write)
    assert run(open_rows(table.x), out, resume=True).identical(plain)
    free = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(InputError, match="are free, expected at least"):
        run(open_rows(table.x), tmp_path / "more.zarr")


def test_bad_rows_are_counted_and_nothing_is_left(table, tmp_path):
    bad = table.x.copy()
    bad[[4321, 9000], 3], bad[9999] = np.nan, np.inf
    with pytest.raises(InputError, match="3 of 10000 rows are NaN or infinite, first row 4321"):
        run(open_rows(bad), tmp_path / "modes.zarr")
    with pytest.raises(InputError, match="do not vary"):
        run(open_rows(np.full((9000, 4), 2.0)), tmp_path / "modes.zarr")
    with pytest.raises(InputError, match="expected at least 60 rows to fit, got"):
        run(open_rows(table.x[:70]), tmp_path / "modes.zarr", DirectPursuit(modes=60))
    with pytest.raises(InputError, match="expected -1, 0 or 1 for each of 32 columns"):
        run(open_rows(table.x), tmp_path / "modes.zarr", signs=[1, 2])
    assert not list(tmp_path.iterdir())


def test_a_table_that_changes_meanwhile_is_no_result(table, tmp_path):
    np.save(tmp_path / "x.npy", table.x)
    source = open_rows(tmp_path / "x.npy")
    last = table.x.copy()
    last[-1] *= 2

    class Changing(Dying):
        def read(self, start, stop):
            if self.seen == 2:
                np.save(tmp_path / "x.npy", last)
            super().read(start, stop)
            return source.read(start, stop)

    changing = Changing(table.x, 1000)
    changing.stamp = source.stamp
    with pytest.raises(InputError, match="values of the table are not those"):
        run(changing, tmp_path / "modes.zarr")
    assert not (tmp_path / "modes.zarr").exists()


def test_balanced_rows_have_the_scale_of_all_rows_fitted(table, tmp_path):
    x = table.x * np.exp(np.random.default_rng(0).normal(size=(len(table.x), 1)))
    scaling, split = BalancedRows(0.7), RandomRows()
    method = replace(METHOD, scaling=scaling, split=split)
    modes = run(open_rows(x), tmp_path / "m.zarr", method, split=split)
    fitted, _ = split.split(len(x))
    expected = scaling.of(x[fitted])
    assert modes.attrs["scale"] == pytest.approx(expected.deviation, rel=1e-6)
    assert matched_cosine(table.atoms, modes["atom"].values).min() > 0.995
    made = modes.attrs["scale"] * modes["loading"].values @ modes["atom"].values
    np.testing.assert_allclose(modes["reconstruction_r2"], row_r2(x, made), atol=1e-5)


def test_the_number_of_modes_can_be_left_open(table, tmp_path):
    modes = run(
        open_rows(table.x), tmp_path / "m.zarr", DirectPursuit(gain=0.04, consensus_seeds=2)
    )
    assert modes.sizes["mode"] == 8 and "log_tried_modes" in modes


def test_modes_of_channels_are_projected_on_new_rows(table, tmp_path):
    source = open_rows(table.x, channels=list("abcdefghijklmnop"))
    modes = run(source, tmp_path / "m.zarr")
    assert modes["atom"].dims == ("mode", "sign", "channel")
    values = table.x[:50].reshape(50, 2, 16)
    dims = ("time", "sign", "channel")
    node = xr.Dataset({"contribution": (dims, values)}, {"sign": ["negative", "positive"]})
    np.testing.assert_allclose(
        project_modes(modes, node).values, modes["loading"].values[:50], atol=1e-6
    )


def test_memory_stays_within_what_was_predicted(tmp_path, monkeypatch):
    monkeypatch.setattr("retinacodec.stream_plan._BLOCK_BYTES", 8_000_000)
    path = tmp_path / "x.npy"
    random = np.random.default_rng(0)
    atoms = np.abs(random.normal(size=(4, 128))).astype(np.float32)
    x = np.lib.format.open_memmap(path, "w+", np.float32, (120_000, 128))
    for part in np.array_split(x, 10):
        part[:] = (random.random((len(part), 4)) < 0.2).astype(np.float32) @ atoms
    x.flush()
    del x
    source, method, budget = open_rows(path), replace(METHOD, modes=4), {"budget_gb": 0.26}
    plan = plan_stream(source, method, sample_rows=2000, **budget)
    tracemalloc.start()
    run(source, tmp_path / "modes.zarr", method, **budget)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert plan.working_gb <= 0.26 and peak < 60e6 < path.stat().st_size
    assert peak < plan.working_gb * 1e9 - 0.2e9 + 20e6
    with pytest.raises(InputError, match=r"need at least .* GB, got budget_gb=0\.1"):
        plan_stream(source, method, budget_gb=0.1)


def test_an_array_is_read_where_it_lies(table):
    source = open_rows(table.x)
    assert isinstance(source, ArrayRows) and np.shares_memory(source.read(3, 9), table.x)
