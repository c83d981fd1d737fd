"""How often a split was looked at. A test set that is looked at again and again becomes a validation set."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from typing import Any

from gcsam_med.errors import EnvironmentFault
from gcsam_med.files import append_line
from gcsam_med.runs import RunFolder

TEST_PARTS = frozenset({"test_fold", "leave_out"})
"""Settings of a run that choose its test cases."""


def log_evaluation(run: RunFolder, entry: Mapping[str, Any]) -> bool:
    """Append one evaluation to a run's log; False if the folder is read-only."""
    try:
        append_line(run.evaluation_log_file, json.dumps(entry, ensure_ascii=False))
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return False
        raise EnvironmentFault(
            f"{run.evaluation_log_file} cannot be written: {error.strerror}.",
            "Move it away, or allow to write it.",
        ) from error
    return True


def former_evaluations(
    run: RunFolder, task: str, split: str, dataset_sha256: str, part: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Collect every evaluation on this split of these data by this run and the runs beside it, by time.

    `part` names the ``test_fold`` or the centre (``leave_out``) that is tested on instead of the test split.
    """
    part = part or {}
    logs = sorted(run.root.resolve().parent.glob(f"*/{run.evaluation_log_file.name}"))
    former = [
        entry
        for path in logs
        for entry in RunFolder(path.parent).evaluations()
        if (entry.get("task"), entry.get("split"), entry.get("dataset_sha256"))
        == (task, split, dataset_sha256)
        and all(entry.get(key) == part.get(key) for key in TEST_PARTS)
    ]
    return sorted(former, key=lambda entry: str(entry.get("time", "")))
