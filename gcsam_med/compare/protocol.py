"""A sealed external test: what is tested is fixed before, each external set is opened once, all is logged.

``protocol.json`` fixes weights, calibrations, cases, outcome and margin. Beside it, ``protocol.log`` holds a
JSON object a line, each with the hash of the line before: a line that was changed, removed or put in between
breaks the chain. Whoever rewrites the whole chain is found out by the last hash, if it was noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

import gcsam_med
from gcsam_med.compare.analyse import compare
from gcsam_med.compare.finished_runs import arm_names, comparable, finished_of_evaluation
from gcsam_med.config import EvaluateOptions
from gcsam_med.datasets.download import sha256_of
from gcsam_med.datasets.prepared import INFO, PlaneReader, PreparedDataset, open_prepared, prepared_root
from gcsam_med.datasets.selection import select_cases
from gcsam_med.devices import pick_device
from gcsam_med.errors import InputError
from gcsam_med.escape import printable
from gcsam_med.evaluation import evaluate
from gcsam_med.evaluation.context import SealedCases, check_fit
from gcsam_med.fields import Name, chosen
from gcsam_med.files import (
    SEAL,
    append_line,
    check_free,
    is_name,
    locked,
    make_folder,
    sealed,
    write_json,
)
from gcsam_med.metrics.table import main_metric
from gcsam_med.preparation.duplicates import find_overlap
from gcsam_med.preparation.store import THUMBS, fingerprints_of
from gcsam_med.progress import Track, silent
from gcsam_med.reading import parse_json, read_json, read_json_or_empty, read_plain, validate
from gcsam_med.reporting.report import Notice
from gcsam_med.runs import RunFolder, load_card
from gcsam_med.runs.calibration import CALIBRATION, load_calibration

_START = "0" * 64
_MOST_LOG = 2**26
_ANEW = "Freeze a new protocol for what is there now; the old one stays as the record of what was planned."


class _Internal(BaseModel):
    """The outcome on a run's own test split; empty where it was not evaluated."""

    model_config = ConfigDict(extra="allow")

    value: float | None = None
    ci95: tuple[float, float] | None = None


class FrozenRun(BaseModel):
    """A model as it was when the protocol was frozen."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="Of its folder, and of that of its results.")
    path: str
    arm: str = Field(description="Optimizer and settings that differ between the runs.")
    weights_sha256: str
    settings_sha256: str
    calibration_sha256: str = Field(description="Of calibration.json: threshold, temperature, logistic.")
    threshold: float
    internal: dict[str, Any] = Field(description="The outcome on the run's own test split, if evaluated.")

    @field_validator("internal")
    @classmethod
    def _has_numbers(cls, found: dict[str, Any]) -> dict[str, Any]:
        _Internal.model_validate(found)
        return found


class FrozenSet(BaseModel):
    """An external data set, and which of its cases count."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    content_sha256: str
    kept: list[str] = Field(description="Case ids that are evaluated.")
    left_out: dict[str, int] = Field(description="Cases that are not, by reason.")
    shared: list[str] = Field(description="Case ids left out because the training data hold their picture.")


class Protocol(BaseModel):
    """The content of ``protocol.json``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    schema_version: Literal[1] = Field(default=1, alias="schema")
    created: str
    outcome: Literal["dice", "auc", "balanced_accuracy"]
    margin: float = Field(gt=0, lt=1)
    data_root: str
    runs: list[FrozenRun] = Field(min_length=1)
    external: list[FrozenSet] = Field(min_length=1)
    tool_version: str
    code_sha256: str = Field(description="Of the program's own files.")


class Entry(BaseModel):
    """A line of the log."""

    model_config = ConfigDict(extra="forbid")

    n: int
    time: str
    event: Literal["frozen", "look", "result", "amendment"]
    what: dict[str, Any]
    previous: str
    sha256: str


@dataclass(frozen=True)
class Standing:
    """A protocol and all that was done with it."""

    protocol: Protocol
    sha256: str  #: Of ``protocol.json``.
    entries: tuple[Entry, ...]

    def looks(self, name: str) -> list[Entry]:
        """Times that an external set was opened."""
        return [e for e in self.entries if e.event == "look" and e.what.get("external") == name]

    def results(self, name: str) -> list[Entry]:
        """What came out of them; fewer than the looks if one was interrupted."""
        return [e for e in self.entries if e.event == "result" and e.what.get("external") == name]


def freeze(
    runs: Sequence[Path],
    external: Sequence[str],
    out: Path,
    *,
    outcome: str,
    margin: float,
    data_root: Path = Path("data"),
    track: Track = silent,
) -> Standing:
    """Fix what will be tested; no model sees an external image.

    The external sets' images are compared with those that the models were trained on, and pictures that both
    hold are left out.

    Raises
    ------
    InputError
        If a run, a set or the margin does not fit, or `out` is there already.
    """
    if not is_name(out.name) or out.suffix == ".log":
        raise InputError(f"'{out}' cannot be the name of a protocol.", "For example: --out protocol.json")
    if not 0 < margin < 1:
        raise InputError(f"A margin lies between 0 and 1, but got {margin:g}.", "For example: --margin 0.05")
    if any(path.exists() or path.is_symlink() for path in (out, _log_of(out))):
        raise InputError(f"{out} (or its log) is there already; a frozen protocol is not changed.", _ANEW)
    folders = [RunFolder.open(path) for path in runs]
    names = [folder.root.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise InputError("Two runs have one name; their results would lie in one folder.", "Rename one.")
    configs = [folder.config() for folder in folders]
    arms = arm_names(configs)
    if len({config.model for config in configs}) > 1:
        arms = [f"{config.model} {arm}" for config, arm in zip(configs, arms, strict=True)]
    frozen = [_frozen_run(folder, arm, outcome) for folder, arm in zip(folders, arms, strict=True)]
    sets = [
        _frozen_set(open_prepared(data_root, name), folders, data_root, track)
        for name in dict.fromkeys(external)
    ]
    protocol = Protocol.model_validate(
        {
            "created": _now(),
            "outcome": outcome,
            "margin": margin,
            "data_root": str(data_root),
            "runs": frozen,
            "external": sets,
            "tool_version": gcsam_med.__version__,
            "code_sha256": code_sha256(),
        }
    )
    content = sealed(protocol.model_dump(mode="json", by_alias=True))
    with _alone(out):
        check_free(out.parent, [out.name, _log_of(out).name])
        write_json(out, content, indent=1)
        _append(out, "frozen", {"protocol_sha256": content[SEAL]})
    return standing(out)


def standing(path: Path) -> Standing:
    """Read a protocol and its log, and verify the chain.

    Raises
    ------
    InputError
        If the protocol or a line of the log was changed, or a line is missing.
    """
    protocol = read_json(path, Protocol, _ANEW)
    digest = sealed(protocol.model_dump(mode="json", by_alias=True))[SEAL]
    entries: list[Entry] = []
    previous = _START
    log = _log_of(path)
    try:
        lines = read_plain(log, _MOST_LOG, follow=False).splitlines()
    except OSError as error:
        raise InputError(f"The log {log} cannot be read: {error.strerror}.", "Put it beside it.") from None
    for number, line in enumerate(lines):
        try:
            entry = validate(parse_json(line), Entry)
        except ValueError:
            raise InputError(f"Line {number + 1} of {log} is damaged: the chain is broken.", _ANEW) from None
        if (entry.n, entry.previous, entry.sha256) != (number, previous, _digest(entry.model_dump())):
            raise InputError(
                f"Line {number + 1} of {log} is not what was written: the chain is broken.",
                "Lines were changed, removed or added. " + _ANEW,
            )
        entries.append(entry)
        previous = entry.sha256
    first = entries[0].what.get("protocol_sha256") if entries else None
    if first != digest:
        raise InputError(f"{log} is not the log of {path} as it is now.", _ANEW)
    there = Standing(protocol, digest, tuple(entries))
    for external in protocol.external:
        results = _results_of(path) / external.name
        if results.exists() and not there.looks(external.name):
            raise InputError(f"{results} holds a look that {log} does not: its last lines are gone.", _ANEW)
    return there


def run(path: Path, *, amend: str = "", device: str = "auto", track: Track = silent) -> list[dict[str, Any]]:
    """Open each external set once, evaluate every run on its frozen cases, and write what comes out.

    That a set is opened is logged before it is: a look that was interrupted counts.

    Parameters
    ----------
    path : Path
        ``protocol.json``; results go into the folder ``protocol-results`` beside it.
    amend : str
        Why sets are opened again, or with another version of the program; logged with its date.
    device, track
        As of `evaluate`.

    Raises
    ------
    InputError
        If all sets were opened before and there is no `amend`, or a model or data set is not the frozen one.
    """
    root = Path(standing(path).protocol.data_root)
    options = chosen(EvaluateOptions, data_root=root, device=device)
    pick_device(options.device)  # what cannot be has to be known before a set is opened
    with _alone(path):
        return _run(path, printable(amend), options, track)


def _run(path: Path, amend: str, options: EvaluateOptions, track: Track) -> list[dict[str, Any]]:
    there = standing(path)
    protocol = there.protocol
    again = [s.name for s in protocol.external if there.looks(s.name)]
    if not amend and len(again) == len(protocol.external):
        raise InputError(
            f"{', '.join(again)} was opened before, and a sealed test is made once.",
            'To open it again, say why: --amend "REASON". The report and the log will show it.',
        )
    if not amend and protocol.code_sha256 != code_sha256():
        raise InputError(
            "The program is another version than the one the protocol was frozen with.",
            'Use that version, or say why not: --amend "REASON".',
        )
    for frozen in protocol.runs:
        _check_run(frozen, protocol.outcome)
    for external in protocol.external:
        _check_set(external, Path(protocol.data_root))
    if amend:
        _append(path, "amendment", {"reason": amend, "code_sha256": code_sha256(), "opened_before": again})
    found = []
    for external in protocol.external:
        if amend or external.name not in again:
            found.append(_look(path, external, options, track))
    return found


def _look(path: Path, external: FrozenSet, options: EvaluateOptions, track: Track) -> dict[str, Any]:
    """Open one set: log it, evaluate, write, and log what was written."""
    number = len(standing(path).looks(external.name)) + 1
    _append(path, "look", {"external": external.name, "look": number})
    there = standing(path)
    protocol = there.protocol
    open_prepared(Path(protocol.data_root), external.name, deep=True)
    name = external.name if number == 1 else f"{external.name}-look{number}"
    folder = make_folder(path.parent, _results_of(path).name, name)
    reasons = [e.what["reason"] for e in there.entries if e.event == "amendment"]
    notice = Notice(
        "sealed",
        "Sealed external test" if number == 1 else f"Amended external test, look {number}",
        f"Frozen {protocol.created} (protocol {there.sha256[:12]}), before any model saw these images: "
        f"outcome {protocol.outcome}, margin {protocol.margin:g}, {len(external.kept)} cases. "
        f"This is look {number}."
        + (f" Amended: {'; '.join(reasons)}." if reasons else "")
        + f" The log stands at {there.entries[-1].sha256[:12]}.",
        stamp=True,
    )
    cases = SealedCases(frozenset(external.kept), external.left_out, notice)
    options = chosen(EvaluateOptions, options, dataset=external.name)
    hashes = {}
    finished = []
    for frozen in protocol.runs:
        output = folder / frozen.name
        evaluate(frozen.path, options=options, output=output, sealed=cases, track=track)
        hashes[frozen.name] = sha256_of(output / "metrics.json")
        finished.append(finished_of_evaluation(RunFolder(Path(frozen.path)), frozen.arm, output))
    result = _analysed(protocol, external, finished)
    write_json(folder / "result.json", result | {"look": number}, indent=1)
    _append(path, "result", {"external": external.name, "look": number, "metrics_sha256": hashes, **result})
    return result | {"folder": str(folder), "look": number}


def _analysed(protocol: Protocol, external: FrozenSet, finished: list[Any]) -> dict[str, Any]:
    """The outcome of each arm, the fall from the own test split, and each arm against the first."""
    found = compare(comparable(finished), title=external.name, created=_now())
    internal: dict[str, list[_Internal]] = {}
    for frozen in protocol.runs:
        internal.setdefault(frozen.arm, []).append(_Internal.model_validate(frozen.internal))
    arms = []
    for arm in found.arms:
        own = [(e.value, e.ci95[1] - e.ci95[0]) for e in internal[arm.name] if e.ci95 and e.value is not None]
        fall = None
        if own and len(own) == len(internal[arm.name]) and arm.main.ci95 is not None:
            value = float(arm.main.value or 0) - float(np.mean([e[0] for e in own]))
            # Other patients on either side. The runs' own intervals are of the same cases: their mean width.
            widths = np.mean([e[1] for e in own]), arm.main.ci95[1] - arm.main.ci95[0]
            half = float(np.hypot(*widths)) / 2
            ends = (value - half, value + half)
            fall = {"value": value, "ci95": list(ends), "answer": against_margin(ends, protocol.margin)}
        ci95 = None if arm.main.ci95 is None else list(arm.main.ci95)
        arms.append({"arm": arm.name, "value": arm.main.value, "ci95": ci95, "external_minus_own": fall})
    pairs = [
        {
            "pair": f"{pair.second} - {pair.first}",
            "value": pair.difference.value,
            "ci95": None if pair.difference.ci95 is None else list(pair.difference.ci95),
            "answer": against_margin(pair.difference.ci95, protocol.margin),
        }
        for pair in found.pairs
        if pair.first == found.arms_of(pair.model)[0].name
    ]
    return {
        "external": external.name,
        "outcome": protocol.outcome,
        "margin": protocol.margin,
        "n_cases": found.n_cases,
        "n_groups": found.n_groups,
        "arms": arms,
        "pairs": pairs,
    }


def against_margin(ci95: tuple[float, float] | None, margin: float) -> str:
    """Say what a 95 % interval of a difference shows against a margin that was named before."""
    if ci95 is None:
        return "not answerable"
    low, high = ci95
    if low > -margin:
        return "equivalent within the margin" if high < margin else "not worse by more than the margin"
    return "worse by more than the margin" if high < -margin else "not shown"


def _frozen_run(folder: RunFolder, arm: str, outcome: str) -> FrozenRun:
    card = load_card(folder.model)
    folder.config_of(card)
    calibration = load_calibration(folder.model, card.weights_sha256, finished=folder.finished)
    if not folder.finished or calibration is None:
        raise InputError(
            f"The run {folder.root} is not finished, or not calibrated.",
            f"Finish it with: gcsam-med train --resume {folder.root}",
        )
    wanted = main_metric(card.task, len(card.classes))
    if outcome != wanted:
        raise InputError(
            f"The outcome of {folder.root} is {wanted}, not {outcome}.", f"Use --outcome {wanted}."
        )
    metrics = read_json_or_empty(folder.evaluation("test") / "metrics.json")
    same = metrics.get("run", {}).get("weights_sha256") == card.weights_sha256
    return FrozenRun(
        name=folder.root.resolve().name,
        path=str(folder.root),
        arm=arm,
        weights_sha256=card.weights_sha256,
        settings_sha256=card.settings_sha256,
        calibration_sha256=sha256_of(folder.model / CALIBRATION),
        threshold=calibration.threshold,
        internal=metrics.get("metrics", {}).get(outcome, {}) if same else {},
    )


def _check_run(frozen: FrozenRun, outcome: str) -> None:
    """Refuse a run whose weights, settings or calibration are not the frozen ones."""
    now = _frozen_run(RunFolder.open(Path(frozen.path)), frozen.arm, outcome)
    for what in ("weights", "settings", "calibration"):
        if getattr(now, f"{what}_sha256") != getattr(frozen, f"{what}_sha256"):
            raise InputError(f"The {what} of {frozen.path} are not those that were frozen.", _ANEW)


def _check_set(external: FrozenSet, data_root: Path) -> None:
    """Refuse a set that says of itself that it is another one; its files are not opened for that."""
    found = read_json_or_empty(prepared_root(data_root, external.name) / INFO).get("content_sha256")
    if found != external.content_sha256:
        raise InputError(f"'{external.name}' is not there as it was when the protocol was frozen.", _ANEW)


def _frozen_set(
    dataset: PreparedDataset, runs: Sequence[RunFolder], data_root: Path, track: Track
) -> FrozenSet:
    """Which cases of a set count: all that fit the task and show no picture of the training data."""
    ids = dataset.manifest["case_id"].to_numpy(dtype=str)
    shared: set[str] = set()
    keep: np.ndarray | None = None
    reasons: dict[str, int] = {}
    homes: dict[str, PreparedDataset] = {}
    for run_folder in runs:
        card, config = load_card(run_folder.model), run_folder.config()
        check_fit(card, dataset)  # an evaluation that fails later would use up the look
        if card.dataset_sha256 == dataset.info.content_sha256:
            raise InputError(f"'{dataset.info.name}' is the set that {run_folder.root} was trained on.")
        homes[card.dataset] = open_prepared(config.data_root, card.dataset)
        if homes[card.dataset].info.content_sha256 != card.dataset_sha256:
            raise InputError(
                f"'{card.dataset}' was prepared anew since {run_folder.root} was trained, so pictures that "
                "training and external data share cannot be found.",
            )
        segmentation = card.task == "segmentation"
        found = select_cases(
            dataset, np.arange(len(dataset)), card.task, None if segmentation else card.classes
        )
        keep = found.rows if keep is None else np.intersect1d(keep, found.rows)
        reasons |= found.excluded
    for home in homes.values():
        shared |= _shared(dataset, home, track)
    kept = [case for case in ids[keep if keep is not None else []] if case not in shared]
    if not kept:
        raise InputError(f"No case of '{dataset.info.name}' can be used: {reasons or 'all are shared'}.")
    if shared:
        reasons["whose picture the training data hold"] = len(ids) - len(kept) - sum(reasons.values())
    return FrozenSet(
        name=dataset.info.name,
        content_sha256=dataset.info.content_sha256,
        kept=kept,
        left_out={reason: n for reason, n in reasons.items() if n > 0},
        shared=sorted(shared),
    )


def _shared(dataset: PreparedDataset, home: PreparedDataset, track: Track) -> set[str]:
    """Case ids of `dataset` whose picture, or whose group, has one that `home` holds as well."""
    (ids, pixels, prints), (_, others, other_prints) = (fingerprints_of(d) for d in (dataset, home))
    search = find_overlap(
        (pixels, others),
        (prints, other_prints),
        (PlaneReader(dataset.root / THUMBS), PlaneReader(home.root / THUMBS)),
        dataset.info.modality,
        track,
    )
    rows = sorted({pair.first for pair in search.pairs})
    groups = set(dataset.manifest["group_id"].iloc[rows])
    return {ids[row] for row in np.flatnonzero(dataset.manifest["group_id"].isin(groups))}


def code_sha256() -> str:
    """Hash of the program's own Python files."""
    root = Path(gcsam_med.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _append(path: Path, event: str, what: dict[str, Any]) -> None:
    """Add a line to the log; it is on the disk when this returns."""
    log = _log_of(path)
    entries = standing(path).entries if log.exists() else ()
    entry = {
        "n": len(entries),
        "time": _now(),
        "event": event,
        "what": parse_json(json.dumps(what)),
        "previous": entries[-1].sha256 if entries else _START,
    }
    append_line(log, json.dumps(entry | {"sha256": _digest(entry)}), durable=True)


def _digest(entry: dict[str, Any]) -> str:
    kept = {key: value for key, value in entry.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _log_of(path: Path) -> Path:
    return path.with_suffix(".log")


def _results_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}-results")


def _alone(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of a protocol: two processes would open a set twice, and break the chain."""
    return locked(path.with_name(f".{path.name}.lock"), f"working on {path}", "Wait for it.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
