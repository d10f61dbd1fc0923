"""Which classes of images modes go along with, against images in random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from retinacodec.errors import InputError, Problems
from retinacodec.nulls import discoveries, permutations

__all__ = ["mode_class_correlation"]

Array = npt.NDArray[Any]

_CHUNK = 2**22
_MOST = 1000


def mode_class_correlation(
    loading: xr.DataArray,
    labels: xr.DataArray | npt.ArrayLike,
    *,
    permuted: int | None = None,
    two_sided: bool = False,
    level: float = 0.05,
    any_dependence: bool = False,
    seed: int = 0,
) -> xr.Dataset:
    """Correlate the loading of every mode with membership in every class.

    Parameters
    ----------
    loading : xarray.DataArray (image, mode)
        Loadings; also activations or contributions of channels, renamed.
    labels : xarray.DataArray or array_like (image,) or (image, class)
        Class of each image, in any order; or for each class whether an image belongs to it, for
        classes that overlap or form a hierarchy.
    permuted : int, optional
        Orders of the images in the null, 0 for none; each gives a sample for every class, and
        classes of one size share theirs. If left out, as many as let a single pair of all be
        discovered, but 1000 at most.
    two_sided : bool, default False
        Whether a mode that avoids a class is of interest too.
    level : float, default 0.05
        Share of false ones among the discoveries.
    any_dependence : bool, default False
        As in `retinacodec.nulls.discoveries`.
    seed : int, default 0
        Seed of the null.

    Returns
    -------
    xarray.Dataset
        Over (mode, class): ``correlation``, -1 to 1, ``p``, ``q`` and ``discovered``.
        ``top_correlation`` and ``top_class`` (mode), the largest correlation and its class;
        ``size`` (class), its images; ``null_samples`` (class), and ``q_least`` (class), the q
        that a single pair with the least p would have. ``silent`` (mode) is True for a
        mode that never varies: its correlations are NaN, which the paper counts as 0, and its
        top class is empty. A class of all or of no images has NaN correlations too.

    Raises
    ------
    InputError
        If labels and loadings differ in length, a value is not finite, or there are fewer than
        two images.

    Notes
    -----
    Pearson correlation with the 0/1 indicator of the class, with population deviations:
    ``r = sum_{i in class} z_i / (N sqrt(f (1 - f)))`` for standardised loadings z and a class
    that holds the share f of N images. ``p = (1 + #{null >= r}) / (1 + samples)``, the null of
    the same mode and all classes of the same size in all permutations.

    References
    ----------
    .. [1] Melander et al., ICLR 2026, Figure 5A to D.

    Examples
    --------
    >>> labels = np.repeat(["cat", "dog"], 50)
    >>> modes = xr.DataArray(np.stack([labels == "cat"], 1) * 1.0, dims=("image", "mode"))
    >>> table = mode_class_correlation(modes, labels)
    >>> table["correlation"].values.round(3).tolist(), table["top_class"].values.tolist()
    ([[1.0, -1.0]], ['cat'])
    """
    values = np.asarray(loading.transpose("image", "mode").values, dtype=np.float64)
    names, members = _members(labels)
    _check(values, members, permuted, level)
    scores, silent = _standardised(values)
    pairs = int((~silent).sum()) * len(names)
    null = _Null.of(members, permuted, two_sided, seed, pairs / level)
    r = null.correlate(scores)
    p = null.p(scores, r)
    found = discoveries(p, level, any_dependence=any_dependence)
    pair = ("mode", "class")
    filled = np.nan_to_num(r, nan=-np.inf)
    unknown = np.isnan(r).all(axis=1)
    top = np.where(unknown, "", names.astype(str)[filled.argmax(axis=1)])
    best = np.where(unknown, np.nan, filled.max(axis=1))
    said = {"units": "1", "long_name": "Pearson correlation"}
    return xr.Dataset(
        {
            "correlation": (pair, r, said),
            "p": (pair, p, {"units": "1"}),
            "q": (pair, found.q, {"units": "1"}),
            "discovered": (pair, found.found),
            "top_correlation": ("mode", best, said),
            "top_class": ("mode", top),
            "silent": ("mode", silent),
            "size": ("class", null.size, {"units": "1", "long_name": "images of the class"}),
            "null_samples": ("class", null.samples, {"units": "1"}),
            "q_least": ("class", np.minimum(pairs / (1 + null.samples), 1), {"units": "1"}),
        },
        coords={"mode": loading["mode"].values, "class": names},
        attrs={
            "kind": "mode correlations",
            "images": len(values),
            "permuted": len(null.orders),
            "two_sided": two_sided,
            "level": level,
            "seed": seed,
        },
    )


@dataclass(frozen=True)
class _Null:
    """Correlations with classes, as they are and with the images in random order.

    `members` (class, image) is sparse, `orders` (permutation, image); classes of one `kind` have
    one size.
    """

    members: Any
    orders: Array
    size: Array
    kind: Array
    two_sided: bool

    @classmethod
    def of(
        cls, members: Any, permuted: int | None, two_sided: bool, seed: int, wanted: float
    ) -> _Null:
        images = members.shape[1]
        size = np.asarray(members.sum(axis=1)).ravel().astype(np.int64)
        places = np.arange(images, dtype=np.int32)
        kind = np.unique(size, return_inverse=True)[1]
        if permuted is None:
            permuted = int(min(np.ceil(wanted / np.bincount(kind).min()), _MOST))
        orders = list(permutations(places, permuted, seed=seed)) if permuted else []
        return cls(
            members, np.reshape(orders, (-1, images)).astype(np.int32), size, kind, two_sided
        )

    @property
    def samples(self) -> Array:
        """Number of samples of the null of each class."""
        return len(self.orders) * np.bincount(self.kind)[self.kind]

    def correlate(self, scores: Array) -> Array:
        """Return correlations (mode, class) of standardised loadings (image, mode)."""
        share = self.size / self.members.shape[1]
        spread = self.members.shape[1] * np.sqrt(share * (1 - share))
        varies = spread > 0
        found = (self.members @ scores).T / np.where(varies, spread, 1.0)
        return np.where(varies, found, np.nan)

    def p(self, scores: Array, r: Array) -> Array:
        """Return p-values (mode, class); NaN without permutations."""
        found = np.full(r.shape, np.nan)
        step = max(1, _CHUNK // max(r.shape[1] * len(self.orders), len(scores)))
        for start in range(0, len(r) if len(self.orders) else 0, step):
            part = slice(start, start + step)
            null = np.stack([self.correlate(scores[order, part]) for order in self.orders])
            for kind in range(self.kind.max() + 1):
                same = self.kind == kind
                pooled = null[..., same].transpose(1, 0, 2).reshape(null.shape[1], -1)
                found[part, same] = self._shares(r[part, same], pooled)
        return found

    def _shares(self, r: Array, pooled: Array) -> Array:
        """Return p of correlations (mode, class) against samples (mode, sample)."""
        value, null = (np.abs(r), np.abs(pooled)) if self.two_sided else (r, pooled)
        null = np.sort(null, axis=1)
        below = [np.searchsorted(row, one - 1e-12) for row, one in zip(null, value, strict=True)]
        count = null.shape[1]
        return np.where(np.isnan(r), np.nan, (1 + count - np.stack(below)) / (1 + count))


def _members(labels: xr.DataArray | npt.ArrayLike) -> tuple[Array, Any]:
    """Return the names of the classes and who belongs to them, (class, image), sparse."""
    from scipy.sparse import csr_array

    values = np.asarray(labels)
    if values.ndim == 1:
        names, place = np.unique(values, return_inverse=True)
        ones = np.ones(values.size)
        return names, csr_array((ones, (place, np.arange(values.size))))
    if values.ndim != 2 or not np.isin(values, (0, 1)).all():
        raise InputError(
            "labels: expected a class for each image, or True and False over (image, class), got "
            f"shape {values.shape} of {values.dtype}"
        )
    names = np.arange(values.shape[1])
    if isinstance(labels, xr.DataArray) and "class" in labels.coords:
        names = np.asarray(labels["class"].values)
    return names, csr_array(values.T.astype(np.float64))


def _check(values: Array, members: Any, permuted: int | None, level: float) -> None:
    problems = Problems()
    problems.require(0 < level < 1, f"level: expected between 0 and 1, got {level}")
    problems.require(len(values) >= 2, f"expected at least 2 images, got {len(values)}")
    problems.require(
        members.shape[1] == len(values),
        f"labels of {members.shape[1]} images for loadings of {len(values)}",
    )
    bad = np.count_nonzero(~np.isfinite(values))
    problems.require(bad == 0, f"{bad} loadings are NaN or infinite; leave these images out")
    enough = permuted is None or permuted >= 0
    problems.require(enough, f"permuted: expected at least 0, got {permuted}")
    problems.raise_as("mode_class_correlation")


def _standardised(values: Array) -> tuple[Array, Array]:
    """Return loadings with mean 0 and deviation 1, NaN for silent modes, and which are silent."""
    spread = values.std(axis=0)
    silent = spread <= 1e-12 * np.abs(values).max(axis=0)
    return (values - values.mean(axis=0)) / np.where(silent, np.nan, spread), silent
