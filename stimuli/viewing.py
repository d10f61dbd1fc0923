"""A window that moves over a still scene by fractions of a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FINE", "Window"]

FINE = 3  # pixels of a scene to the side of a pixel of the movie

Image = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """The frame of a movie, looking at a scene of finer pixels.

    Parameters
    ----------
    size : (int, int)
        Pixels (y, x) of a frame.
    pixel_um : float
        Side of a pixel on the retina, um.
    reach_um : (float, float)
        Farthest that the gaze goes from the scene's middle along y and x, um.

    Notes
    -----
    A pixel of a frame is the mean of 3 x 3 pixels of the scene; between whole scene pixels the
    means are interpolated linearly. Gaze to the right (+x) shows what lies to the right.
    """

    size: tuple[int, int]
    pixel_um: float
    reach_um: tuple[float, float]

    @property
    def scene_shape(self) -> tuple[int, int]:
        """Pixels (y, x) that a scene must have."""
        tall, wide = (
            side * FINE + int(np.ceil(2 * reach * FINE / self.pixel_um)) + 2
            for side, reach in zip(self.size, self.reach_um, strict=True)
        )
        return tall, wide

    def frames(self, scene: Image, gaze_y: Array, gaze_x: Array) -> Image:
        """Return what the window shows (time, y, x) for gaze positions (time,) in um."""
        blocks = self._box_means(scene)
        rows, down = self._corner(gaze_y, 0)
        columns, right = self._corner(gaze_x, 1)
        shown = np.empty((len(rows), *self.size), dtype=np.float32)
        tall, wide = (FINE * (side - 1) + 1 for side in self.size)
        places = zip(rows, columns, down.tolist(), right.tolist(), strict=True)
        for k, (i, j, v, u) in enumerate(places):
            window = blocks[i : i + tall + 1, j : j + wide + 1]
            upper = (1 - u) * window[:tall:FINE, :wide:FINE] + u * window[:tall:FINE, 1::FINE]
            lower = (1 - u) * window[1::FINE, :wide:FINE] + u * window[1::FINE, 1::FINE]
            shown[k] = (1 - v) * upper + v * lower
        return shown

    def means(self, scene: Image, gaze_y: Array, gaze_x: Array) -> Array:
        """Return the mean (time,) of each frame, without making the frames."""
        total = np.zeros((scene.shape[0] + 1, scene.shape[1] + 1))
        total[1:, 1:] = scene.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
        rows, down = self._corner(gaze_y, 0)
        columns, right = self._corner(gaze_x, 1)
        tall, wide = (FINE * side for side in self.size)
        mean = np.zeros(len(rows))
        for row, by_row in ((rows, 1 - down), (rows + 1, down)):
            for column, by_column in ((columns, 1 - right), (columns + 1, right)):
                window = total[row + tall, column + wide] + total[row, column]
                window -= total[row, column + wide] + total[row + tall, column]
                mean += by_row * by_column * window
        return mean / (tall * wide)

    def _corner(self, gaze: Array, axis: int) -> tuple[npt.NDArray[np.intp], Array]:
        """Return the scene pixel of the window's first corner, and the fraction beyond it."""
        offset = (np.asarray(gaze) + self.reach_um[axis]) * FINE / self.pixel_um
        offset = np.clip(offset, 0, 2 * self.reach_um[axis] * FINE / self.pixel_um)
        whole = np.floor(offset).astype(np.intp)
        return whole, offset - whole

    @staticmethod
    def _box_means(scene: Image) -> Image:
        """Return the mean of the block that starts at each pixel of the scene."""
        tall, wide = (side - FINE + 1 for side in scene.shape)
        rows = sum((scene[k : k + tall] for k in range(FINE)), start=np.zeros(1, np.float32))
        blocks = sum((rows[:, k : k + wide] for k in range(FINE)), start=np.zeros(1, np.float32))
        means: Image = blocks / np.float32(FINE**2)
        return means
