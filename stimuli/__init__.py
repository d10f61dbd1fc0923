"""Stimuli with their per-frame ground truth: noise, natural movies, moving bars and objects.

``__all__`` lists the stimuli: functions that return a Stimulus. Beside them stand their parts:
still scenes, the path of the eye, and the values that describe a choice.
"""

from __future__ import annotations

from retinacodec.stimuli.bars import moving_bar
from retinacodec.stimuli.fixation import EyeMovements as EyeMovements
from retinacodec.stimuli.fixation import fixational_path as fixational_path
from retinacodec.stimuli.motions import Jitter as Jitter
from retinacodec.stimuli.motions import Still as Still
from retinacodec.stimuli.motions import Straight as Straight
from retinacodec.stimuli.natural import natural_movie
from retinacodec.stimuli.noise import Binary as Binary
from retinacodec.stimuli.noise import Gaussian as Gaussian
from retinacodec.stimuli.noise import white_noise
from retinacodec.stimuli.objects import moving_object
from retinacodec.stimuli.probes import centre_surround as centre_surround
from retinacodec.stimuli.rerender import rerender as rerender
from retinacodec.stimuli.scenes import Leaves as Leaves
from retinacodec.stimuli.scenes import dead_leaves as dead_leaves
from retinacodec.stimuli.scenes import pink_texture as pink_texture
from retinacodec.stimuli.shapes import Disc as Disc
from retinacodec.stimuli.shapes import Square as Square
from retinacodec.stimuli.surfaces import Grating as Grating
from retinacodec.stimuli.surfaces import Pink as Pink
from retinacodec.stimuli.surfaces import Uniform as Uniform

__all__ = ["moving_bar", "moving_object", "natural_movie", "white_noise"]
