"""Many images with their classes, read when they are wanted, a few at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from retinacodec.errors import InputError

__all__ = ["Array", "ImageBatch", "ImageSource", "OnError"]

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
OnError = Literal["raise", "skip"]


@dataclass(frozen=True)
class ImageBatch:
    """A few images as a network reads them.

    Attributes
    ----------
    images : ndarray (image, channel, y, x)
        float32, in units of the network.
    numbers : ndarray (image,)
        Their places in the source.
    names, labels : ndarray (image,)
        Their names, and positions of their classes; -1 where no class is known.
    """

    images: npt.NDArray[np.float32]
    numbers: npt.NDArray[np.int64]
    names: Array
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ImageSource:
    """Images that are read when they are wanted; `retinacodec.image_files` makes them.

    Parameters
    ----------
    read : callable
        Returns the picture (y, x, 3) of a number, or for `ready` sources (channel, y, x).
    names : ndarray (image,)
        Names, such as file names.
    labels : ndarray (image,)
        Positions of the classes among the outputs; -1 where no class is known.
    classes : tuple of str
        Names of the classes by those positions; empty where they are not known.
    ready : bool
        Whether the images are preprocessed already.
    """

    read: Callable[[int], Array] = field(repr=False)
    names: Array = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...] = ()
    ready: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labelled(self) -> bool:
        """Whether the class of every image is known."""
        return len(self) > 0 and bool((self.labels >= 0).all())

    def take(self, numbers: npt.ArrayLike) -> ImageSource:
        """Return the images of some numbers, counted from 0, in that order."""
        chosen = np.asarray(numbers, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise InputError(f"images: expected numbers in 0 to {len(self) - 1}")
        read = self.read
        return replace(
            self,
            read=lambda number: read(int(chosen[number])),
            names=self.names[chosen],
            labels=self.labels[chosen],
        )

    def subset(self, count: int, *, seed: int = 0) -> ImageSource:
        """Return some images drawn at random without replacement, in their order.

        Raises
        ------
        InputError
            If there are fewer images.
        """
        if not 0 < count <= len(self):
            raise InputError(f"images: expected 1 to {len(self)} of them, got {count}")
        drawn = np.random.default_rng(seed).choice(len(self), count, replace=False)
        return self.take(np.sort(drawn))

    def batches(
        self,
        preprocess: Callable[[Array], npt.NDArray[np.float32]] | None = None,
        *,
        batch: int = 32,
        on_error: OnError = "raise",
    ) -> Iterator[ImageBatch]:
        """Yield the images, some at a time; no more than those are held.

        Parameters
        ----------
        preprocess : callable, optional
            Makes (channel, y, x) of pixels (y, x, 3); needed unless the source is `ready`.
        batch : int, default 32
            Images at a time.
        on_error : {"raise", "skip"}, default "raise"
            What to do about a file that cannot be read; a skipped one is logged.

        Yields
        ------
        ImageBatch
            Images of one size.

        Raises
        ------
        InputError
            If an image cannot be read, is of another size than the first, or none can be read;
            the message names it.
        """
        make = self._maker(preprocess, batch, on_error)
        numbers: list[int] = []
        held: list[Array] = []
        shape: tuple[int, ...] | None = None
        for number in range(len(self)):
            image = self._one(number, make, on_error)
            if image is None:
                continue
            shape = image.shape if shape is None else shape
            if image.shape != shape:
                raise InputError(
                    f"{self.names[number]}: {image.shape} beside {shape}; preprocess with a size"
                )
            numbers.append(number)
            held.append(image)
            if len(held) == batch:
                yield self._batch(numbers, held)
                numbers, held = [], []
        if held:
            yield self._batch(numbers, held)
        elif shape is None:
            raise InputError(f"images: none of {len(self)} could be read")

    def _maker(
        self, preprocess: Callable[[Array], Any] | None, batch: int, on_error: str
    ) -> Callable[[Array], Array]:
        if not isinstance(batch, int) or batch < 1:
            raise InputError(f"images: expected a whole batch of at least 1, got {batch!r}")
        if on_error not in ("raise", "skip"):
            raise InputError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
        if self.ready:
            return lambda image: np.asarray(image, dtype=np.float32)
        if preprocess is None:
            raise InputError(
                "images: pixels have to become what the network reads; make the circuit with "
                "classifier(..., preprocess=...)"
            )
        return preprocess

    def _one(self, number: int, make: Callable[[Array], Array], on_error: str) -> Array | None:
        try:
            return make(self.read(number))
        except InputError as error:
            told = (
                str(error) if str(self.names[number]) in str(error) else f"image {number}: {error}"
            )
            if on_error == "raise":
                raise InputError(told) from error
            _log.warning("left out: %s", told)
            return None

    def _batch(self, numbers: list[int], held: list[Array]) -> ImageBatch:
        chosen = np.asarray(numbers, dtype=np.int64)
        return ImageBatch(np.stack(held), chosen, self.names[chosen], self.labels[chosen])
