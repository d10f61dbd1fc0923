"""Fit and dissect circuit models of the retina.

The face of the package: the verbs and nouns of the main job, and the three rooms
``stimuli``, ``models`` and ``analyses``. Everything opens on first use, so that importing
the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = ("stimuli", "models", "analyses")

_HOMES = {
    "Circuit": "circuit",
    "Tap": "taps",
    "check_circuit": "circuit",
    "predict": "circuit",
    "contributions": "contribute",
    "plan_contributions": "contribute",
    "input_maps": "pixel_maps",
    "step_change": "convergence",
    "instantaneous_fields": "gradients",
    "integrated_fields": "path_mean_fields",
    "latent_fields": "gradients",
    "packed_fields": "gradients",
    "plan_fields": "field_files",
    "stream_fields": "field_files",
    "open_fields": "field_files",
    "field_sources": "channel_parts",
    "Secant": "rules",
    "IntegratedGradients": "rules",
    "ActivationGradient": "gradient_rules",
    "SmoothGradient": "gradient_rules",
    "ZeroContrast": "baselines",
    "MeanFrame": "baselines",
    "GivenFrames": "baselines",
    "DrawnFrames": "baselines",
    "Cell": "targets",
    "EachCell": "targets",
    "Mean": "targets",
    "Population": "targets",
    "PoissonLogLikelihood": "targets",
    "Surprisal": "targets",
    "Class": "targets",
    "Entropy": "targets",
    "Margin": "targets",
    "TopK": "targets",
    "DirectPursuit": "dictionaries",
    "NMF": "dictionaries",
    "SemiNMF": "dictionaries",
    "DictionaryLearning": "dictionaries",
    "PCA": "dictionaries",
    "ICA": "dictionaries",
    "KMeans": "dictionaries",
    "PaperSAE": "dictionaries",
    "TopKSAE": "dictionaries",
    "MatchingPursuitSAE": "dictionaries",
    "Transcoder": "dictionaries",
    "distil": "dictionaries",
    "open_dictionary": "dictionary_files",
    "save_dictionary": "dictionary_files",
    "Warmup": "dictionaries",
    "BalancedRows": "scaling",
    "OneScale": "scaling",
    "RandomRows": "row_splits",
    "TimeBlocks": "row_splits",
    "open_rows": "row_files",
    "stream_modes": "streamed_pursuit",
    "classifier": "classifiers",
    "block_taps": "classifiers",
    "load_weights": "classifiers",
    "Preprocess": "preprocessing",
    "open_images": "image_files",
    "classify": "classification",
    "mode_maps": "local_maps",
    "read_hierarchy": "class_hierarchy",
    "superclass_masks": "class_hierarchy",
    "parse_formula": "formulas",
    "fit": "training",
    "train": "training",
    "split_blocks": "recordings",
    "read_nwb": "nwb",
    "read_stimulus": "nwb",
    "read_traces": "nwb",
    "open_recording": "nwb_lazy",
    "Triggers": "nwb_triggers",
    "BinaryNoise": "nwb_generators",
    "GaussianNoise": "nwb_generators",
    "Contrast": "nwb_contrast",
    "write_nwb": "nwb",
    "add_results": "nwb_results",
    "read_results": "nwb_results",
    "import_recording": "importers",
    "save": "store",
    "open_result": "store",
    "InputError": "errors",
    "RecordingError": "errors",
    "RetinacodecError": "errors",
}

__all__ = ["__version__", *_ROOMS, *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'retinacodec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
