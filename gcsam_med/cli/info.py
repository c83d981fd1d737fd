"""`gcsam-med list` and `doctor`: which names there are, what is installed, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gcsam_med import __version__
from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import DataRoot, from_models
from gcsam_med.devices import installed_version
from gcsam_med.errors import GcsamMedError, unknown_name

DISTRIBUTION = "gcsam-med"
OLDEST_PYTHON = (3, 11)
# Below this a run's checkpoints and reports may not fit.
LEAST_DISK_GB = 1.0
GIGA, MEGA = 1e9, 1e6


@dataclass(frozen=True)
class _Listing:
    """A table to show."""

    columns: tuple[str, ...]  #: The first is the name.
    rows: list[tuple[Any, ...]]  #: One an entry.
    entries: dict[str, dict[str, Any]]  #: The same and more, for ``--json``.
    hint: str  #: How the names are used.


def _datasets() -> _Listing:
    from gcsam_med.datasets import DATASETS

    entries: dict[str, dict[str, Any]] = {
        name: {
            "title": spec.title,
            "modality": spec.modality,
            "layout": spec.layout,
            "download": spec.download is not None,
            "kaggle": spec.kaggle or None,
            "page": spec.page or None,
            "licence": spec.licence,
            "citation": spec.citation,
            "known_faults": spec.known_faults,
        }
        for name, spec in DATASETS.items()
    }

    def got_by(entry: dict[str, Any]) -> str:
        if entry["download"]:
            return "--download"
        return "--download, by Kaggle" if entry["kaggle"] else entry["page"] or "your own files"

    return _Listing(
        ("name", "what", "images", "got by", "layout of --source"),
        [(n, e["title"], e["modality"], got_by(e), e["layout"]) for n, e in entries.items()],
        entries,
        "gcsam-med prepare --dataset NAME --source FOLDER",
    )


def _models() -> _Listing:
    from gcsam_med.networks import NETWORKS

    entries: dict[str, dict[str, Any]] = {
        name: {
            "task": spec.task,
            "summary": spec.summary,
            "pretrained": spec.weights is not None,
            "smallest": spec.smallest,
            "multiple": spec.multiple,
            "paper": spec.paper,
        }
        for name, spec in NETWORKS.items()
    }
    return _Listing(
        ("name", "task", "--pretrained", "what", "paper"),
        [
            (n, e["task"], "yes" if e["pretrained"] else "no", e["summary"], e["paper"])
            for n, e in entries.items()
        ],
        entries,
        "gcsam-med train --dataset DATASET --model NAME",
    )


def _optimizers() -> _Listing:
    from gcsam_med.optim import OPTIMIZERS, OPTIONS

    entries: dict[str, dict[str, Any]] = {
        name: {
            "summary": method.summary,
            "passes": f"{method.passes():g}",
            "copies": method.copies,
            "options": {option: OPTIONS[option].range for option in method.options},
            "rho": method.rho if method.ascends else None,
            "equation": method.equation,
            "paper": method.paper,
        }
        for name, method in OPTIMIZERS.items()
    }
    return _Listing(
        ("name", "what", "passes per step", "rho", "paper"),
        [
            (n, e["summary"], e["passes"], "" if e["rho"] is None else f"{e['rho']:g}", e["paper"])
            for n, e in entries.items()
        ],
        entries,
        "gcsam-med train --dataset DATASET --optimizer NAME",
    )


LISTINGS: dict[str, Callable[[], _Listing]] = {
    "datasets": _datasets,
    "models": _models,
    "optimizers": _optimizers,
}


@from_models
def list_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="datasets|models|optimizers",
            help="Which names to list.",
            autocompletion=completion.of(None, LISTINGS),
        ),
    ],
) -> None:
    """List the data sets, models or optimizers that can be named."""
    if what not in LISTINGS:
        raise unknown_name("list", what, LISTINGS)
    listing = LISTINGS[what]()
    console.table("", listing.columns, listing.rows, result=True)
    console.result({what: listing.entries}, then=listing.hint)


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    what: str  #: Its name.
    found: str  #: What was found.
    #: {"ok", "optional", "warning", "missing"}: ``missing`` is essential and makes the exit code 3;
    #: ``optional`` is not installed and may stay so.
    state: Literal["ok", "optional", "warning", "missing"] = "ok"
    advice: str = ""  #: What to do, where there is something to do.


@from_models
def doctor_command(
    data_root: DataRoot = Path("data"),
) -> None:
    """Show versions, devices, memory, disk and data sets, and say what is missing."""
    checks = [*_python(), *_packages(), *_extras(), *_devices(), *_memory(), *_disk(data_root)]
    datasets = _prepared_sets(data_root)
    missing = [c for c in checks if c.state == "missing"]

    shown = checks if console.voice.verbose else _in_short(checks)
    facts = [(c.what, c.found, c.state, c.advice) for c in shown]
    console.table("", ("what", "found", "", "what to do"), facts, result=True)
    if datasets:
        columns = ("data set", "cases", "size", "classes", "masks", "note")
        console.table("", columns, [tuple(d[c] for c in columns) for d in datasets], result=True)
    else:
        console.say(f"No prepared data sets under {data_root}.")
    payload = {
        "version": __version__,
        "ok": not missing,
        "checks": [asdict(c) for c in checks],
        "datasets": datasets,
    }
    verdict = "All essential parts are there." if not missing else f"Missing: {_names(missing)}."
    whole = [d["data set"] for d in datasets if d["cases"]]
    train = f"gcsam-med train --dataset {whole[0]}" if whole else "gcsam-med run --dataset busi --demo"
    console.result(payload, verdict, then="" if missing else train)
    if missing:
        raise typer.Exit(3)


def _names(checks: list[Check]) -> str:
    return ", ".join(c.what for c in checks)


def _in_short(checks: list[Check]) -> list[Check]:
    """Without required packages that are there, and with one line for all that is optional."""
    extras = [check for check in checks if check.what.startswith("extra ")]
    shown = [
        check
        for check in checks
        if check not in extras
        and not (check.what.startswith("package ") and check.state == "ok" and check.what != "package torch")
    ]
    if not extras:
        return shown
    names = {
        there: ", ".join(c.what.removeprefix("extra ") for c in extras if (c.state == "ok") == there)
        for there in (True, False)
    }
    advice = f"not installed: {names[False]}; if wanted: pip install 'gcsam-med[NAME]'"
    state: Literal["ok", "optional"] = "optional" if names[False] else "ok"
    return [*shown, Check("extras", names[True] or "none", state, advice if names[False] else "")]


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    wanted = ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info < OLDEST_PYTHON:
        yield Check("Python", found, "missing", f"Install Python {wanted} or newer.")
    else:
        yield Check("Python", found)
    if installed_version(DISTRIBUTION) is None:
        advice = "Install it to have its packages checked: pip install -e ."
        yield Check("gcsam-med", f"{__version__}, run from its source", "warning", advice)
    else:
        yield Check("gcsam-med", __version__)


def _requirements() -> dict[str, list[tuple[str, str]]]:
    """Distributions that are required, by extra ("" for the essential ones), with their version ranges."""
    from packaging.requirements import Requirement

    needed: dict[str, list[tuple[str, str]]] = {"": []}
    if installed_version(DISTRIBUTION) is None:  # run from its source
        return needed
    extras = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    for text in metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(text)
        for extra in ["", *extras]:
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            # With an extra asked for, unmarked requirements hold as well; they are listed once, under "".
            if wanted and (extra == "" or requirement.marker is not None):
                needed.setdefault(extra, []).append((requirement.name, str(requirement.specifier)))
                break
    return needed


def _packages() -> Iterator[Check]:
    from packaging.specifiers import SpecifierSet

    for name, wanted in _requirements()[""]:
        found = installed_version(name)
        advice = f'pip install "{name}{wanted}"'
        if found is None:
            yield Check(f"package {name}", "not installed", "missing", advice)
        elif not SpecifierSet(wanted).contains(found, prereleases=True):
            yield Check(f"package {name}", f"{found}, but {wanted} is needed", "missing", advice)
        else:
            yield Check(f"package {name}", found)


def _extras() -> Iterator[Check]:
    for extra, needed in _requirements().items():
        if extra in ("", "dev"):
            continue
        absent = [name for name, _ in needed if installed_version(name) is None]
        if absent:
            advice = f'If wanted: pip install "gcsam-med[{extra}]"'
            yield Check(f"extra {extra}", f"without {', '.join(absent)}", "optional", advice)
        else:
            yield Check(
                f"extra {extra}", ", ".join(f"{name} {installed_version(name)}" for name, _ in needed)
            )


def _cuda_device(number: int) -> Check:
    import torch

    from gcsam_med.devices import free_memory, pick_precision
    from gcsam_med.training.batches import RESIDENT_SHARE

    device, facts = torch.device("cuda", number), torch.cuda.get_device_properties(number)
    resident = RESIDENT_SHARE * free_memory(device) / GIGA
    use = (
        f"train uses {pick_precision('auto', device)}, captures its steps, and keeps a split of up to "
        f"{resident:.1f} GB on it"
    )
    return Check(f"device cuda:{number}", f"{facts.name}, {facts.total_memory / GIGA:.0f} GB; {use}")


def _devices() -> Iterator[Check]:
    try:
        import torch

        sums = (torch.ones(8, 8) @ torch.ones(8, 8)).sum().item()
    except Exception as error:
        # Whatever goes wrong in loading it, the person should see which part, not a traceback.
        yield Check("PyTorch", f"does not load: {type(error).__name__}", "missing", "Install torch anew.")
        return
    if sums != 512:
        yield Check("PyTorch", "computes wrongly", "missing", "Install torch anew.")
    yield Check("device cpu", f"{torch.get_num_threads()} threads")
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        yield _cuda_device(i)
    if torch.backends.mps.is_available():
        yield Check("device mps", "Apple GPU")
    if not torch.cuda.is_available() and _has_nvidia_driver():
        yield Check("NVIDIA GPU", *_why_no_cuda(torch.version.cuda))


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").is_file() or shutil.which("nvidia-smi") is not None


def _why_no_cuda(built_for: str | None) -> tuple[str, Literal["warning"], str]:
    if built_for is None:
        return (
            "a driver is there, but PyTorch is built for CPU only",
            "warning",
            "Install a CUDA build of torch.",
        )
    return (
        f"a driver is there, but PyTorch (CUDA {built_for}) cannot use it",
        "warning",
        "The driver may be too old; in a container, start it with --gpus all.",
    )


def _memory() -> Iterator[Check]:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        total = 0
    yield Check("memory", f"{total / GIGA:.0f} GB" if total > 0 else "unknown")


def _disk(data_root: Path) -> Iterator[Check]:
    for what, folder in (("disk for data", data_root), ("disk for runs", Path("runs"))):
        there = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
        free = shutil.disk_usage(there).free / GIGA
        found = f"{free:.1f} GB free at {folder.absolute()}"
        if not there.is_dir() or not os.access(there, os.W_OK):
            yield Check(what, f"{folder} cannot be written", "warning", "Name a folder that can be written.")
        elif free < LEAST_DISK_GB:
            yield Check(what, found, "warning", "Free some space.")
        else:
            yield Check(what, found)


def _prepared_sets(data_root: Path) -> list[dict[str, Any]]:
    """Prepared data sets, damaged ones with the reason."""
    try:
        from gcsam_med.datasets.prepared import INFO, PreparedDataset
    except ImportError:  # a required package is missing; the check of packages names it
        return []
    rows = []
    for info_file in sorted((data_root / "prepared").glob(f"[!.]*/{INFO}")):
        name = info_file.parent.name
        try:
            info = PreparedDataset(info_file.parent).info
        except GcsamMedError as error:
            rows.append(_dataset_row(name, note=f"damaged: {error.message}"))
            continue
        note = "synthetic" if info.synthetic else info.group_kind + " groups"
        masks = info.mask_target if info.has_masks else "none"
        classes = ", ".join(info.classes[:4]) + (", ..." if len(info.classes) > 4 else "")
        rows.append(_dataset_row(name, info.n_cases, info.size, classes, masks, note))
    return rows


def _dataset_row(
    name: str, cases: int = 0, size: int = 0, classes: str = "", masks: str = "", note: str = ""
) -> dict[str, Any]:
    return {"data set": name, "cases": cases, "size": size, "classes": classes, "masks": masks, "note": note}
