"""How the pages become a site: `make docs`. The commands, the settings and the metrics are generated."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from gcsam_med import __version__  # noqa: E402

project = "gcsam-med"
copyright = "the gcsam-med contributors, Apache-2.0"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build", "reference/generated"]

# The index also names pages that come and go with the measurements; a page that it does not name is an error.
suppress_warnings = ["toc.not_readable", "toc.empty_glob"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Notebooks are shown as they lie there; a test runs them.
nb_execution_mode = "off"

html_theme = "furo"
html_title = "gcsam-med"
html_static_path: list[str] = []
html_show_sphinx = False
# The prompt is no part of a command.
copybutton_prompt_text = "$ "

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True


def _commands() -> str:
    """Write the reference of the command line, from the commands themselves."""
    import typer.main
    from typer.cli import get_docs_for_click

    from gcsam_med.cli import app

    command = typer.main.get_command(app)
    context = typer.Context(command)
    text = get_docs_for_click(obj=command, ctx=context, name="gcsam-med")
    return text.replace("# `gcsam-med`", "# Commands", 1)


def _settings() -> str:
    """Write a table of every model's options, from their fields."""
    from gcsam_med import config

    text = ""
    for command, model in (
        ("A run (`train`, `compare`, and `config.yaml`)", config.RunConfig),
        ("`prepare`", config.PrepareOptions),
        ("`evaluate`", config.EvaluateOptions),
        ("`predict`", config.PredictOptions),
        ("`compare`", config.CompareOptions),
        ("`protocol`", config.ProtocolOptions),
        ("`sharpness`", config.SharpnessOptions),
    ):
        text += f"## {command}\n\n| name | default | meaning |\n|---|---|---|\n"
        for name, field in model.model_fields.items():
            default = "" if field.is_required() else f"`{field.default}`"
            text += f"| `{name}` | {default} | {field.description} |\n"
        text += "\n"
    return text


def _metrics() -> str:
    """Write the tables of metrics, from `METRICS`."""
    from gcsam_med.metrics.table import METRICS

    lines = []
    for task, rows in METRICS.items():
        lines += [
            f"## {task.capitalize()}",
            "",
            "| name | metric | meaning | where it is not defined | better |",
        ]
        lines += ["|---|---|---|---|---|"]
        for name, row in rows.items():
            asked = f" Taken on request: `evaluate --metrics {name}`." if row.on_request else ""
            cells = (f"`{name}`", row.title, row.meaning + asked, row.undefined, row.better or "neither")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def setup(app: object) -> None:
    """Generate what is not written by hand, before Sphinx looks for pages."""
    del app
    folder = HERE / "reference" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("commands.md", _commands()),
        ("settings.md", _settings()),
        ("metrics.md", _metrics()),
    ):
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
