"""Typer options from the models of `gcsam_med.config`, so that the command line says nothing a second time.

A command is a function that takes a validated model, or the settings given for a run (`RunSettings`)::

    @from_models
    def evaluate(run: Path, options: EvaluateOptions) -> None: ...

Its help, flags, choices and completion come from the fields. Every value goes to pydantic as text, so that
one validator answers for the command line, files and Python alike, and errors name the flag.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
import typer
from pydantic.fields import FieldInfo

from gcsam_med.cli import completion
from gcsam_med.cli.console import voice
from gcsam_med.config import RunConfig
from gcsam_med.fields import Options, flag_of, validated

# Wider ranges keep arithmetic from overflowing; nobody wants to read them in the help.
_MOST_SHOWN = 2048


@dataclass(frozen=True)
class Given:
    """Marks a parameter that gets the fields given on the command line, by name, not a whole model."""

    model: type[Options]
    without: tuple[str, ...] = ()  #: Fields that the command does not offer.
    only: tuple[str, ...] = ()  #: Fields that it offers; default: all that have a heading.


RunSettings = Annotated[dict[str, Any], Given(RunConfig)]

# How a command talks. Every command takes these options; `from_models` acts on them.
_VOICE = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")],
    "as_json": Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show tracebacks.")],
}

# What is no setting, but a place, and shared by commands.
Kind = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Kind of source; see `gcsam-med list datasets`.",
        autocompletion=completion.of("datasets"),
    ),
]
Source = Annotated[
    Path | None,
    typer.Option(
        "--source", help="Folder, .zip or .csv with the images.", rich_help_panel="Where the images are"
    ),
]
RunOutput = Annotated[
    Path | None, typer.Option("--output", "-o", help="Run folder; default: runs/NAME, named by the settings.")
]
DataRoot = Annotated[Path, typer.Option("--data-root", help="Folder of prepared data sets.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder to write to.", show_default=False)
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, repeatable; beats the file."),
]


def from_models(command: Callable[..., None]) -> Callable[..., None]:
    """Expand parameters that are models into options, and add the options of the voice."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    expanded: dict[str, tuple[Given, bool]] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        given, whole = _given(hint)
        if given is None:
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            expanded[parameter.name] = (given, whole)
            parameters += (_parameter(given.model, name, whole=whole) for name in _offered(given, whole))
    parameters += (
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in _VOICE.items()
    )

    @wraps(command)
    def run(**values: Any) -> None:
        for name in _VOICE:
            setattr(voice, name, values.pop(name))
        for name, (given, whole) in expanded.items():
            fields = {field: values.pop(field) for field in _offered(given, whole)}
            fields = {field: value for field, value in fields.items() if value is not None}
            values[name] = validated(given.model, fields) if whole else fields
        command(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _given(hint: Any) -> tuple[Given | None, bool]:
    """What a parameter stands for, and whether it is to be a whole model."""
    if inspect.isclass(hint) and issubclass(hint, Options):
        return Given(hint), True
    marks = [mark for mark in get_args(hint)[1:] if isinstance(mark, Given)] if _is_annotated(hint) else []
    return (marks[0] if marks else None), False


def _offered(given: Given, whole: bool) -> Iterator[str]:
    """Fields with an option of their own: all of a whole model, those with a panel of a run's settings."""
    for name, field in given.model.model_fields.items():
        offered = name in given.only if given.only else whole or _extra(field).get("panel")
        if offered and name not in given.without:
            yield name


def _parameter(model: type[Options], name: str, *, whole: bool) -> inspect.Parameter:
    field = model.model_fields[name]
    extra, kind = _extra(field), _Kind.of(field)
    flag = flag_of(name)
    flags = [f"{flag}/--no-{flag[2:]}" if kind.type is bool and field.default is True else flag]
    option = typer.Option(
        *flags,
        help=f"{field.description}{_shown_default(field)}",
        metavar=extra.get("metavar", kind.metavar),
        rich_help_panel=extra.get("panel") or None,
        show_default=False,
        autocompletion=completion.of(extra.get("complete"), kind.choices),
    )
    required = whole and field.is_required()
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[kind.type if required else kind.type | None, option],
    )


def _shown_default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required() or value is None or isinstance(value, bool) or value in ("", (), {}):
        return ""
    if isinstance(value, tuple):
        in_a_row = value == tuple(range(len(value)))
        return f" [{value[0]}-{value[-1]}]" if in_a_row else f" [{','.join(map(str, value))}]"
    return f" [{value:g}]" if isinstance(value, float) else f" [{value}]"


@dataclass(frozen=True)
class _Kind:
    """What the command line makes of a field's type."""

    #: bool, Path, list[str] for what is repeatable, or str for all that pydantic reads from text.
    type: type
    metavar: str | None
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, field: FieldInfo) -> _Kind:
        return cls._of(field.annotation, field.metadata)

    @classmethod
    def _of(cls, hint: Any, marks: list[Any]) -> _Kind:  # noqa: PLR0911  (one line a kind)
        if _is_annotated(hint):
            inner, *more = get_args(hint)
            return cls._of(inner, [*marks, *(x for m in more for x in getattr(m, "metadata", [m]))])
        if get_origin(hint) in (Union, types.UnionType):
            kinds = [cls._of(arm, marks) for arm in get_args(hint) if arm is not type(None)]
            choices = tuple(choice for kind in kinds for choice in kind.choices)
            return kinds[0] if len(kinds) == 1 else cls(str, "|".join([*choices, "N"]), choices)
        if get_origin(hint) is Literal:
            return cls(str, "|".join(get_args(hint)), get_args(hint))
        if hint is bool:
            return cls(bool, None)
        if hint is Path:
            return cls(Path, "PATH")
        if hint in (int, float):
            return cls(str, _range(marks) or ("N" if hint is int else "X"))
        if get_origin(hint) is dict:
            return cls(list[str], "NAME KEY=VALUE...")
        return cls(str, "NAME" if hint is str else "LIST")


def _range(marks: list[Any]) -> str | None:
    low: Any = next((m.ge for m in marks if isinstance(m, annotated_types.Ge)), None)
    high: Any = next((m.le for m in marks if isinstance(m, annotated_types.Le)), None)
    if low is None or high is None or high > _MOST_SHOWN or (low, high) == (0, 100):
        return None
    return f"{low}-{high}"


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _is_annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated
