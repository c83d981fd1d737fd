"""What stands around the package says what is so: README, citation, container, make."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gcsam_med import __version__
from gcsam_med.cli import COMMANDS, app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *(page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "generated"),
    ROOT / "data" / "README.md",
]


def _commands_in(text: str) -> list[list[str]]:
    """Command lines of gcsam-med in code blocks and between backticks."""
    blocks = re.findall(r"```(?:console|bash|sh)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(gcsam-med [^`\n]+)`", text)
    found = [shlex.split(line, comments=True) for line in lines if "gcsam-med" in line]
    return [words[words.index("gcsam-med") + 1 :] for words in found if "gcsam-med" in words]


def _options_of(command: str) -> set[str]:
    import typer.main

    group: Any = typer.main.get_command(app)
    return {
        name
        for parameter in group.get_command(None, command).params
        for name in parameter.opts + parameter.secondary_opts
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_the_pages_exist_with_their_options(page: Path) -> None:
    known = set(COMMANDS)
    for words in _commands_in(page.read_text(encoding="utf-8")):
        if not words or words[0].startswith("-") or not re.fullmatch("[a-z]+", words[0]):
            continue
        assert words[0] in known, words
        options = {w.split("=")[0] for w in words[1:] if w.startswith("--")}
        assert options <= _options_of(words[0]) | {"--help"}, words


def test_the_readme_shows_commands_at_all() -> None:
    shown = {words[0] for words in _commands_in(README) if words}
    assert {"prepare", "train", "evaluate", "predict"} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_make_targets_in_the_pages_exist() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    for page in PAGES:
        named = set(
            re.findall(r"\bmake ([a-z][a-z-]+)\b", "\n".join(_code_in(page.read_text(encoding="utf-8"))))
        )
        assert named <= targets, page.name


def _code_in(text: str) -> list[str]:
    return re.findall(r"```.*?\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", text)


def test_citation_is_sound_and_of_this_version() -> None:
    """Oracle: the keys that the Citation File Format 1.2.0 requires."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]
    article = citation["preferred-citation"]
    assert (article["volume"], article["start"], article["end"]) == (13, 182661, 182674)


def test_changelog_names_this_version_or_what_is_unreleased() -> None:
    heads = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert heads
    assert heads[0] in ("Unreleased", __version__)


def test_the_image_is_built_by_the_script_alone_and_runs_as_nobody() -> None:
    steps = re.findall(r"^RUN (.+)$", DOCKERFILE, flags=re.MULTILINE)
    assert steps == ["scripts/container-build.sh packages", "scripts/container-build.sh program"]
    assert json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, flags=re.MULTILINE)[-1]) == ["gcsam-med"]
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, flags=re.MULTILINE)[-1]
    assert all(int(number) >= 10_000 for number in user)


def test_docker_ignores_all_but_what_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    copied = {path for line in copies for path in line.split()}
    assert "*" in lines
    assert let_in == copied
    assert all((ROOT / path).exists() for path in copied)


def test_compose_mounts_sources_read_only() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"cpu", "gpu"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert next(v for v in service["volumes"] if "/images" in v).endswith(":ro")
    assert services["gpu"]["profiles"] == ["gpu"]
    assert services["gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_locked_packages_have_hashes_and_meet_the_requirements() -> None:
    """Oracle: the requirements in pyproject.toml, read by `packaging`."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    versions: dict[str, list[str]] = {}
    for entry in entries:
        name, version = re.match(r"([\w.-]+)==([\w.+!]+)", entry).groups()  # type: ignore[union-attr]
        versions.setdefault(canonicalize_name(name), []).append(version)
    for wanted in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dicom"]):
        locked = versions[canonicalize_name(wanted.name)]
        assert all(wanted.specifier.contains(v) for v in locked), f"{wanted}: run make lock"


def test_scripts_are_sound_shell() -> None:
    """Oracle: the shell's own parser."""
    scripts = [*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) >= 4
    for script in scripts:
        shell = script.read_text(encoding="utf-8").splitlines()[0].split("/")[-1].split()[-1]
        subprocess.run([shell, "-n", str(script)], check=True)
        assert script.stat().st_mode & 0o111, f"{script.name} is not executable"
