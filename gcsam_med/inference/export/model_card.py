"""The model card: a README with the header that the Hugging Face hub reads, filled from the run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml

from gcsam_med import __version__
from gcsam_med.escape import markdown
from gcsam_med.inference.export.exported_run import ExportedRun, describe
from gcsam_med.inference.inputs import KINDS
from gcsam_med.metrics.table import METRICS, shown_in
from gcsam_med.reporting.report import SPLIT_NOTICES

if TYPE_CHECKING:
    from jinja2 import Template

TASKS = {"segmentation": "image-segmentation", "classification": "image-classification"}
GROUPS = {
    "patient": "All images of one patient lie on one side of the split.",
    **{kind: notice.text for kind, notice in SPLIT_NOTICES.items()},
}


def model_card(run: ExportedRun, library: str, usage: str, *, standardized: bool) -> str:
    """Write the card: Markdown with a YAML header; it names no folder of this machine.

    `library` is the hub's ``library_name``, `usage` Markdown that says how the files are read; for
    `standardized` see `describe`.
    """
    from markupsafe import Markup

    data = run.dataset
    notices = {
        notice["key"]: f"{notice['title']}: {notice['text']}"
        for found in run.evaluations.values()
        for notice in found.get("notices", [])
        if notice.get("key") != "research-only"
    }
    return _template().render(
        run=run,
        card=run.card,
        data=data,
        # YAML of our own writer and Markdown of our own are not escaped again.
        header=Markup(_header(run, library)),  # noqa: S704
        usage=Markup(usage),  # noqa: S704
        dataset_title=(data.title if data is not None else "") or run.card.dataset,
        kind=KINDS[run.card.modality],
        groups="" if data is None else GROUPS[data.group_kind],
        fold=run.folder.config().fold if data is not None else None,
        centre=run.folder.config().leave_out if data is not None else None,
        test_fold=run.folder.config().test_fold if data is not None else None,
        described=describe(run, standardized=standardized),
        evaluations=[
            {"external": False, **found, "metrics": _rows(found)} for found in run.evaluations.values()
        ],
        notices=list(notices.values()),
        version=__version__,
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # noqa: S701  # Markdown: `finalize` escapes
        loader=PackageLoader("gcsam_med.inference.export", "."),
        undefined=StrictUndefined,
        finalize=markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2")


def _header(run: ExportedRun, library: str) -> str:
    card = run.card
    content: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": TASKS[card.task],
        "license": "unknown",
        "tags": ["medical", card.modality, card.model, card.optimizer, "gcsam-med", "research-only"]
        + ["synthetic"] * run.synthetic,
    }
    results: list[dict[str, Any]] = [
        {
            "task": {"type": TASKS[card.task]},
            "dataset": {"type": found["dataset"], "name": found["dataset"], "split": found["split"]},
            "metrics": metrics,
        }
        for found in run.evaluations.values()
        if (metrics := _header_metrics(found))
    ]
    if results:
        used = {metric["type"] for result in results for metric in result["metrics"]}
        content["metrics"] = [key for key in shown_in("card", card.task) if key in used]
        content["model-index"] = [{"name": f"{card.dataset} {card.model}", "results": results}]
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text


def _header_metrics(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    metrics = found["metrics"]
    return [
        {
            "type": key,
            "value": round(float(metrics[key]["value"]), 4),
            "name": f"{METRICS[found['task']][key].heading(found['policy'])} "
            f"(95 % interval {_interval(metrics[key])})",
        }
        for key in shown_in("card", found["task"])
        if metrics.get(key, {}).get("value") is not None
    ]


def _rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table of metrics, those without a value left out."""
    rows = []
    for key, metric in found["metrics"].items():
        if metric.get("value") is None:
            continue
        rows.append(
            {
                "title": METRICS[found["task"]][key].heading(found["policy"]),
                "value": metric["value"],
                "interval": _interval(metric),
                "n": metric.get("n", ""),
            }
        )
    return rows


def _interval(metric: Mapping[str, Any]) -> str:
    interval = metric.get("ci95")
    return "not known" if not interval else f"{interval[0]:.3f} to {interval[1]:.3f}"
