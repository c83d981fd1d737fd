"""`gcsam-med protocol`: a sealed external test, frozen, made once, and logged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcsam_med.cli import completion, console
from gcsam_med.cli.from_model import from_models
from gcsam_med.config import ProtocolOptions
from gcsam_med.errors import InputError, unknown_name

if TYPE_CHECKING:
    from gcsam_med.compare.protocol import Standing

ACTIONS = ("freeze", "run", "show")


@from_models
def protocol_command(
    action: Annotated[
        str,
        typer.Argument(
            metavar="|".join(ACTIONS), help="What to do.", autocompletion=completion.of(None, ACTIONS)
        ),
    ],
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...|PROTOCOL", help="freeze: finished runs; run and show: protocol.json."),
    ],
    options: ProtocolOptions,
    out: Annotated[Path, typer.Option("--out", help="freeze: file of the protocol.")] = Path("protocol.json"),
) -> None:
    """Seal an external test: fix models, cases, outcome and margin, open each external set once, log it."""
    from gcsam_med.compare import protocol
    from gcsam_med.reporting.text import number, signed

    if action == "amend":
        raise InputError("A protocol is amended where it is run.", "protocol run PROTOCOL --amend REASON")
    if action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    if action == "freeze":
        names = [name for name in options.external if name]
        if not names:
            raise InputError("freeze needs the sets to test on.", "Give --external NAME.")
        there = protocol.freeze(
            paths,
            names,
            out,
            outcome=options.outcome,
            margin=options.margin,
            data_root=options.data_root,
            track=console.track,
        )
        _show(there)
        then = f"gcsam-med protocol run {out}"
        console.result({"protocol": str(out), "sha256": there.sha256}, f"Frozen: {out}", then=then)
        return
    if len(paths) != 1:
        raise InputError(f"{action} takes one protocol, but got {len(paths)} paths.")
    if action == "show":
        there = protocol.standing(paths[0])
        _show(there)
        log = [entry.model_dump() for entry in there.entries]
        head = there.entries[-1].sha256
        console.result(
            {"sha256": there.sha256, "head": head, "log": log},
            f"The chain of {len(log)} entries holds; its last hash is {head}. Note it elsewhere, too.",
        )
        return
    found = protocol.run(paths[0], amend=options.amend, device=options.device, track=console.track)
    for result in found:
        rows = [(f"{a['arm']}, external", number(a["value"]), _ends(a["ci95"]), "") for a in result["arms"]]
        falls = [(a["arm"], a["external_minus_own"]) for a in result["arms"] if a["external_minus_own"]]
        rows += [
            (f"{name}, external - own test", signed(fall["value"]), _ends(fall["ci95"]), fall["answer"])
            for name, fall in falls
        ]
        rows += [(p["pair"], signed(p["value"]), _ends(p["ci95"]), p["answer"]) for p in result["pairs"]]
        title = f"{result['outcome'].replace('_', ' ').capitalize()} on {result['external']}"
        title = f"{title}, margin {result['margin']:g}"
        console.table(title, ["what", "value", "95 % interval", "against the margin"], rows, result=True)
    folders = "\n".join(f"Results: {result['folder']}" for result in found)
    console.result({"results": found}, folders, then=f"gcsam-med protocol show {paths[0]}")


def _ends(ci95: list[float] | None) -> str:
    return "–" if ci95 is None else f"{ci95[0]:.3f} to {ci95[1]:.3f}"


def _show(there: Standing) -> None:
    """Draw what is fixed and what was done."""
    protocol = there.protocol
    console.table(
        f"Protocol {there.sha256[:12]}: {protocol.outcome}, margin {protocol.margin:g}",
        ["model", "arm", "weights", "threshold"],
        [(run.name, run.arm, run.weights_sha256[:12], f"{run.threshold:.3f}") for run in protocol.runs],
    )
    console.table(
        "External sets",
        ["set", "cases", "left out", "opened"],
        [
            (
                one.name,
                len(one.kept),
                ", ".join(f"{n} {why}" for why, n in one.left_out.items()) or "none",
                f"{len(there.looks(one.name))} times, {len(there.results(one.name))} results",
            )
            for one in protocol.external
        ],
    )
    console.table(
        "Log",
        ["n", "time (UTC)", "event", "what", "hash"],
        [
            (
                entry.n,
                entry.time[:19].replace("T", " "),
                entry.event,
                entry.what.get("reason") or entry.what.get("external") or "",
                entry.sha256[:12],
            )
            for entry in there.entries
        ],
    )
