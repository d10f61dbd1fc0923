"""The publications behind receptive fields."""

from __future__ import annotations

from collections.abc import Mapping

from retinacodec.reference import Reference

__all__ = ["FIELD_METHODS"]

_CHICHILNISKY = Reference(
    "chichilnisky2001",
    "Chichilnisky, E. J.",
    "A Simple White Noise Analysis of Neuronal Light Responses",
    2001,
    "Network: Computation in Neural Systems",
    where="volume = {12}; number = {2}; pages = {199--213}",
)
_SCHWARTZ = Reference(
    "schwartz2006",
    "Schwartz, Odelia and Pillow, Jonathan W. and Rust, Nicole C. and Simoncelli, Eero P.",
    "Spike-Triggered Neural Characterization",
    2006,
    "Journal of Vision",
    where="volume = {6}; number = {4}; pages = {484--507}",
    doi="10.1167/6.4.13",
)
_SAHANI = Reference(
    "sahani2003",
    "Sahani, Maneesh and Linden, Jennifer F.",
    "Evidence Optimization Techniques for Estimating Stimulus-Response Functions",
    2003,
    "Advances in Neural Information Processing Systems",
    "inproceedings",
    "volume = {15}; pages = {317--324}",
)
_HUANG = Reference(
    "huang2021",
    "Huang, Ziwei and Ran, Yanli and Oesterle, Jonathan and Euler, Thomas and Berens, Philipp",
    "Estimating Smooth and Sparse Neural Receptive Fields with a Flexible Spline Basis",
    2021,
    "Neurons, Behavior, Data Analysis, and Theory",
    where="volume = {5}; number = {3}",
)
_RODIECK = Reference(
    "rodieck1965",
    "Rodieck, R. W.",
    "Quantitative Analysis of Cat Retinal Ganglion Cell Response to Visual Stimuli",
    1965,
    "Vision Research",
    where="volume = {5}; number = {11}; pages = {583--601}",
    doi="10.1016/0042-6989(65)90033-7",
)
_LIU = Reference(
    "liu2017",
    "Liu, Jian K. and Schreyer, Helene M. and Onken, Arno and Rozenblit, Fernando and "
    "Khani, Mohammad H. and Krishnamoorthy, Vidhyasankar and Panzeri, Stefano and Gollisch, Tim",
    "Inference of Neuronal Functional Circuitry with Spike-Triggered Non-Negative Matrix "
    "Factorization",
    2017,
    "Nature Communications",
    where="volume = {8}; pages = {149}",
    doi="10.1038/s41467-017-00156-9",
)
_STEIN = Reference(
    "stein1981",
    "Stein, Charles M.",
    "Estimation of the Mean of a Multivariate Normal Distribution",
    1981,
    "The Annals of Statistics",
    where="volume = {9}; number = {6}; pages = {1135--1151}",
    doi="10.1214/aos/1176345632",
)

FIELD_METHODS: Mapping[str, tuple[Reference, ...]] = {
    "linear_nonlinear": (_CHICHILNISKY,),
    "sta": (_CHICHILNISKY,),
    "stc": (_SCHWARTZ,),
    "smooth": (_SAHANI,),
    "splines": (_HUANG,),
    "difference_of_gaussians": (_RODIECK,),
    "subunits": (_LIU,),
    "compare_with_average": (_STEIN, _CHICHILNISKY),
}
"""Publications of each method, as in `retinacodec.literature.METHODS`."""
