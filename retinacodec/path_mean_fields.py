"""The integrated-gradient field: the mean receptive field on the way from grey to the stimulus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy.typing as npt
import torch
import xarray as xr

from retinacodec.circuit import Circuit, evaluating
from retinacodec.field_paths import FieldPaths, cell_positions, like, path_rule
from retinacodec.field_rows import batch_starts
from retinacodec.gradients import latent_fields
from retinacodec.latents import LatentFields
from retinacodec.progress import track
from retinacodec.rules import Rule, Secant

__all__ = ["integrated_fields"]


def integrated_fields(
    circuit: Circuit,
    movie: xr.Dataset,
    *,
    layer: str | None = None,
    cells: Sequence[int | str] | int | str | None = None,
    frames: npt.ArrayLike | None = None,
    rule: Rule | None = None,
    batch: int = 8,
    budget_gb: float = 2.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> LatentFields:
    """Return the field whose product with the stimulus is the change of a cell's rate.

    Parameters
    ----------
    circuit : Circuit
        The circuit.
    movie : xarray.Dataset
        Stimulus with ``contrast`` (time, y, x).
    layer : str, optional
        The first convolution, as in `retinacodec.gradients.latent_fields`; found if left out.
    cells : sequence of int or str, optional
        Positions or names of cells; all if left out.
    frames : array_like of int, optional
        Movie frames whose responses are asked about; all that have a response if left out.
    rule : Rule, optional
        How the path from the baseline is summed; ``Secant(10)`` if left out.
        ``IntegratedGradients(20)`` gives the plain derivatives' mean.
    batch : int, default 8
        Frames computed at a time, each with all points of its path; the result does not
        depend on it.
    budget_gb : float, default 2.0
        Largest result, GB.
    device : str or torch.device, optional
        Where to compute; the model's own device if left out.
    progress : bool, default True
        Show how far it has come.

    Returns
    -------
    LatentFields
        Fields, Hz per unit contrast, in the form of instantaneous ones: they project, and have
        means, cosines and separable forms. ``rate`` is that at the frame.

    Raises
    ------
    InputError
        If the movie does not fit, a cell or frame does not exist, the result is larger than the
        budget, the rule has no path or several starts, or an operation has no exact factor.

    Notes
    -----
    ``F(t) = integral_0^1 dr/dx (x0 + a (x(t) - x0)) da``, so that
    ``<F(t), x(t) - x0> = r(x(t)) - r(x0)``: exactly with chord slopes, to the error of the
    quadrature with derivatives. The first convolution is affine, so that the mean of gradients
    at its output is the latent of the mean gradient.

    References
    ----------
    .. [1] Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", 2017, eq. 1.
    .. [2] Melander et al., ICLR 2026, Definition 1.

    Examples
    --------
    >>> import numpy as np
    >>> from retinacodec.models import ToyCircuit
    >>> from retinacodec.schema import make_stimulus
    >>> movie = make_stimulus(np.ones((3, 3, 3)), frame_rate=60, pixel_um=50, name="white")
    >>> toy = ToyCircuit()
    >>> fields = integrated_fields(Circuit(toy, ["relu1"]), movie, progress=False)
    >>> rise = toy(torch.ones(1, 3, 3, 3)) - toy(torch.zeros(1, 3, 3, 3))
    >>> np.allclose(fields.project().sum(("lag", "y", "x")), rise, atol=1e-5)
    True
    """
    rule = path_rule(Secant() if rule is None else rule)
    found = latent_fields(
        circuit,
        movie,
        layer=layer,
        cells=cells,
        frames=frames,
        budget_gb=budget_gb,
        device=device,
        progress=False,
    )
    paths = FieldPaths.prepare(circuit, movie, rule, root=found.filters.name, device=device)
    numbers, chosen = found.rate["frame"].values, cell_positions(circuit, found)
    values = torch.empty(found.latent.shape, dtype=torch.from_numpy(found.latent.values[:0]).dtype)
    with evaluating(circuit.model, paths.generic.device):
        starts = batch_starts(len(numbers), batch)
        for at in track(starts, "integrated fields", enabled=progress):
            run = paths.run(numbers[at : at + batch])
            for place, cell in enumerate(chosen):
                slope = torch.autograd.grad(
                    run.one.score[..., cell], run.root, run.one.weights, retain_graph=True
                )[0]
                values[at : at + batch, place] = paths.average(run.by_path(slope)).cpu()
    latent = like(found, values)
    latent.attrs["rule"] = repr(rule)
    return replace(found, latent=latent)
