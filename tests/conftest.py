"""What every test may ask for: real data where they are, quiet threads, and a drawing backend."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")


def _data_dir() -> Path:
    fallback = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("RETINACODEC_DATA", fallback))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real recordings."""
    return _data_dir()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with a reason; files with slow tests come first."""
    import torch

    no_data = pytest.mark.skip(reason="no real recordings here; set RETINACODEC_DATA")
    no_gpu = pytest.mark.skip(reason="no CUDA device here")
    for item in items:
        if "realdata" in item.keywords and not _data_dir().is_dir():
            item.add_marker(no_data)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)
