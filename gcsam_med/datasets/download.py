"""Fetch a source from its public address or from Kaggle; an interrupted download goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gcsam_med.datasets.case import Download, SourceSpec
from gcsam_med.errors import EnvironmentFault, InputError, MissingExtra
from gcsam_med.files import open_to_append
from gcsam_med.progress import Track, silent
from gcsam_med.reading import open_plain

BLOCK = 2**20
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of data


def fetch(name: str, spec: SourceSpec, folder: Path, track: Track = silent) -> Path:
    """Bring a data set to this machine: an archive in `folder`, or the folder that Kaggle's client keeps.

    Raises
    ------
    InputError
        If no public address is known.
    EnvironmentFault
        Without network, or if the file is not what it should be.
    """
    if spec.download is not None:
        return _from_address(spec.download, folder, track)
    if spec.kaggle:
        return _from_kaggle(spec.kaggle)
    raise InputError(f"No public address is known for '{name}'.", "Give its folder with --source.")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_address(download: Download, folder: Path, track: Track) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")  # progress is shown by `track`
    target = download.url.rsplit("/", 1)[-1]
    part = folder / f"{target}.part"

    def resume(url: str, output_file: str, _: Any) -> None:
        _stream(url, part, target, track)
        part.replace(output_file)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # pooch checks the hash and moves the file into place only if it agrees.
        got = pooch.retrieve(download.url, download.known_hash, target, path=folder, downloader=resume)
    except requests.exceptions.RequestException as error:
        raise EnvironmentFault(
            f"{download.url} cannot be reached ({type(error).__name__}).",
            "Check the network and run the command again (it goes on where it was), or give --source.",
        ) from None
    except ValueError:
        raise EnvironmentFault(
            f"{target} was downloaded, but its {_algorithm(download)} is not the published one.",
            "It may be an error page or another version; download it yourself and give --source.",
        ) from None
    except OSError as error:
        raise EnvironmentFault(f"{target} cannot be stored in {folder}: {error.strerror}.") from None
    return Path(got)


def _algorithm(download: Download) -> str:
    return (download.known_hash or "sha256").split(":")[0]


def _stream(url: str, part: Path, what: str, track: Track) -> None:
    """Append to `part` what is still missing of `url`."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
        if answer.status_code == 416:  # nothing is missing
            return
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0  # the server does not resume: start anew
        length = int(answer.headers.get("Content-Length") or 0)
        blocks: Iterator[bytes] = answer.iter_content(BLOCK)
        with open_to_append(part, anew=not have) as file:
            for block in track(blocks, f"Downloading {what} (MiB)", -(-length // BLOCK) or None):
                file.write(block)


def _from_kaggle(handle: str) -> Path:
    try:
        import kagglehub
    except ImportError:
        raise MissingExtra("Downloading from Kaggle", "kaggle") from None
    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:
        # kagglehub passes on errors of requests, of the API and of the disk.
        raise EnvironmentFault(
            f"Kaggle's data set {handle} could not be downloaded ({type(error).__name__}).",
            "Check the network and your Kaggle login, or download it yourself and give --source.",
        ) from None
