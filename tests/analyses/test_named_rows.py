"""Rows by position and by name are the same rows; what does not exist is named."""

import numpy as np
import pytest
import xarray as xr

from retinacodec.analyses.named_rows import one_of, position_of
from retinacodec.errors import InputError


@pytest.fixture
def table():
    values = ("mode", "cell"), np.arange(6).reshape(2, 3)
    return xr.Dataset({"value": values}, coords={"mode": [4, 7], "cell": ["a", "b", "c"]})


def test_names_and_positions_choose_the_same_row(table):
    assert one_of(table, cell="c", mode=0)["value"] == one_of(table, cell=-1, mode=-2)["value"] == 2
    assert one_of(table, cell=np.int64(1)).sizes == {"mode": 2}
    assert position_of(table["value"], "cell", -3) == 0


@pytest.mark.parametrize("which", ["d", 3, -4])
def test_what_does_not_exist_is_named(table, which):
    with pytest.raises(InputError, match=f"no cell {which!r}; "):
        one_of(table, cell=which)
