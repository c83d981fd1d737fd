"""A trained run as an object that predicts."""

from __future__ import annotations

import os
from pathlib import Path

from gcsam_med.errors import InputError
from gcsam_med.inference import Model
from gcsam_med.inference.ensemble import load_ensemble
from gcsam_med.runs.postprocessing import NONE, Postprocessing

PathLike = str | os.PathLike[str]


def load(
    *runs: PathLike,
    device: str = "auto",
    threshold: float | None = None,
    flip: bool = False,
    mc_dropout: int = 0,
    steps: Postprocessing = NONE,
) -> Model:
    """Load a trained run, to predict single images in memory.

    Parameters
    ----------
    *runs : str or path
        A run folder; several, or a folder of them, are an ensemble.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    threshold : float, optional
        Foreground, or the positive class, from this probability on. Default: the one evaluation chose on
        validation, else the model's own.
    flip : bool
        Also ask about the mirrored image and average.
    mc_dropout : int
        Samples of each network with dropout on, to average and to tell how unsure it is; 0: none.
    steps : Postprocessing
        What is done to masks.

    Returns
    -------
    Model
        ``model.predict("a.png")`` answers about one image, ``model.predict_many(files)`` about many.

    Raises
    ------
    InputError
        If a folder is no finished run, or the runs do not answer the same question.
    CheckpointError
        If a model is damaged.
    EnvironmentFault
        If the device is not there.
    """
    if not runs:
        raise InputError("load needs a run folder.", 'For example: load("runs/busi-unet-gcsam-seed0")')
    folders = [Path(run) for run in runs]
    ensemble = load_ensemble(folders, device=device, flip=flip, mc_dropout=mc_dropout)
    return Model(ensemble, threshold, steps)
