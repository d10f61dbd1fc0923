"""What goes into an NWB file besides its format: the session, and all contents in one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from retinacodec.nwb_coding import Block
from retinacodec.nwb_traces import Trace
from retinacodec.nwb_trains import CellColumn, Train

__all__ = ["ISOLATED_RETINA", "Prepared", "Session"]

_SYNTHETIC = "http://purl.obolibrary.org/obo/NCBITaxon_32630"  # "synthetic construct"


@dataclass(frozen=True)
class Session:
    """Who recorded what, when and from which animal; the defaults describe a simulation.

    Parameters
    ----------
    description, experiment_description : str
        Plain words on the session and on the experiment.
    start : datetime, optional
        Start of the session, with a time zone; by default now.
    identifier, session_id : str, optional
        Names of the file and the session; by default random and from the identifier.
    experimenter : tuple of str
        "Last name, first name" of each.
    lab, institution : str
        Where it was recorded.
    keywords : tuple of str
        Search terms.
    publications : tuple of str
        DOIs, each with its ``https://doi.org/`` prefix.
    subject_id, species, sex, age, subject_description : str
        The animal: Latin name or an NCBI taxonomy link, M, F, O or U, ISO 8601 age ("P8W"; "P0D/"
        for unknown).
    screen : str
        What showed the movie.
    notes : str
        Anything else.
    """

    description: str = "Movies and responses made by a simulated retina."
    experiment_description: str = "Responses of a simulated retina to visual stimuli."
    start: datetime | None = None
    identifier: str = ""
    session_id: str = ""
    experimenter: tuple[str, ...] = ("Software, Retinacodec",)
    lab: str = "simulation"
    institution: str = "not applicable"
    keywords: tuple[str, ...] = ("retina", "visual stimulus", "simulation")
    publications: tuple[str, ...] = ()
    subject_id: str = "simulation"
    species: str = _SYNTHETIC
    sex: str = "U"
    age: str = "P0D/"
    subject_description: str = "a simulated retina"
    screen: str = "display that showed the movies"
    notes: str = ""


ISOLATED_RETINA = Session(
    description="Recording of isolated retina.",
    experiment_description="Responses of retinal ganglion cells to visual stimuli.",
    experimenter=("Unknown, unknown",),
    lab="unknown",
    institution="unknown",
    keywords=("retina", "ganglion cell", "visual stimulus"),
    subject_id="unknown",
    species="Ambystoma tigrinum",
    subject_description="isolated retina",
)
"""A recording of which the source says next to nothing; of a salamander, if nothing else."""


@dataclass(frozen=True)
class Prepared:
    """Everything that one file will hold.

    Parameters
    ----------
    blocks : sequence of Block
        The movies.
    trains : sequence of Train
        The spikes of each cell.
    session : Session
        Who, when, which animal.
    resolution : float, optional
        Smallest difference between two spike times, s; by default the smallest there is.
    traces : sequence of Trace, optional
        Potentials, fluorescence or rates.
    columns : sequence of CellColumn, optional
        What else is known about each cell, in the order of the trains.
    """

    blocks: Sequence[Block]
    trains: Sequence[Train]
    session: Session
    resolution: float | None = None
    traces: Sequence[Trace] = ()
    columns: Sequence[CellColumn] = ()
