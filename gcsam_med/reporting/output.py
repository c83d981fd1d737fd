"""The files of a report in their folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gcsam_med.errors import EnvironmentFault
from gcsam_med.files import write_durably


def write_files(folder: Path, content: Mapping[str, bytes], what: str) -> list[Path]:
    """Write files, each whole or not at all.

    Parameters
    ----------
    folder : Path
        Created if it is not there; files of the same names are replaced.
    content : mapping of str to bytes
        By name relative to `folder`, with ``/``.
    what : str
        What they are, for a message: ``"The report"``.

    Returns
    -------
    list of Path
        The files, in order.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written to.
    """
    files = [folder / name for name in content]
    try:
        for path, data in zip(files, content.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, data)
    except OSError as error:
        raise EnvironmentFault(
            f"{what} cannot be written to {folder}: {error.strerror}.", "Give another folder with --output."
        ) from error
    return files
