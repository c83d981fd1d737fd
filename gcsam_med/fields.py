"""How options are declared: kinds of values and their bounds, the base model, errors that name all faults."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from gcsam_med.errors import ConfigError, InputError, unknown_name
from gcsam_med.files import MOST_NAME, is_name
from gcsam_med.reading import parse_yaml, read_yaml

NAME_RULE = f"at most {MOST_NAME} characters, no / or \\, no dot in front"

# Upper bounds lie far above what helps anyone, and far below where arithmetic overflows.
Count = Annotated[int, Field(ge=0, le=10**6)]
Positive = Annotated[int, Field(ge=1, le=10**6)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Minutes = Annotated[float, Field(gt=0, le=525_600, allow_inf_nan=False)]


def check_name(text: str, what: str) -> str:
    """Return `text` if it can name `what` (`is_name`), or raise an `InputError`."""
    if not is_name(text):
        raise InputError(
            f"{reprlib.repr(text)} is not a name for {what}.", f"A name is no path: {NAME_RULE}."
        )
    return text


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError(f"should be the name that prepare gave, not a path: {NAME_RULE}")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", value, flags=re.ASCII):
        raise ValueError("should be auto, cpu, cuda, cuda:N or mps")
    return value


def read_list(value: Any) -> Any:
    """Read ``a, b`` as on the command line."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _numbers(value: Any) -> Any:
    """Read ``0-4`` or ``0,2,5-7`` as on the command line."""
    if not isinstance(value, str):
        return value
    found: list[int] = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not re.fullmatch(r"[0-9]{1,10}", first) or (dash and not re.fullmatch(r"[0-9]{1,10}", last)):
            raise ValueError("takes numbers such as 0-4 or 0,2,5")
        stop = int(last or first)
        if stop < int(first) or stop - int(first) > 10_000:
            raise ValueError(f"{part.strip()} is no range; it takes numbers such as 0-4 or 0,2,5")
        found += range(int(first), stop + 1)
    return tuple(found)


def read_folds(value: Any) -> Any:
    """Read ``all``, or numbers as on the command line."""
    return None if value is None else value if value == "all" else _numbers(value)


def read_arms(value: Any) -> Any:
    """Read ``NAME key=value ...`` texts, as on the command line, as settings by name."""
    if not isinstance(value, list | tuple):
        return value
    arms: dict[str, dict[str, Any]] = {}
    for text in value:
        name, *settings = re.split(r"\s+(?=\w+=)", str(text).strip())
        if not settings or not is_name(name) or len(name.split()) > 1:
            raise ValueError(
                f"takes a name and settings, such as: raw optimizer=gcsam norm=raw; not '{text}'"
            )
        if name in arms:
            raise ValueError(f"names '{name}' twice")
        pairs = (setting.partition("=") for setting in settings)
        arms[name] = {key: parse_yaml(content) for key, _, content in pairs}
    return arms


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({str(v) for v in values if values.count(v) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is given more than once")
    return values


Name = Annotated[str, AfterValidator(_name)]
Device = Annotated[str, AfterValidator(_device)]
PathText = Annotated[str, BeforeValidator(lambda v: os.fspath(v) if isinstance(v, os.PathLike) else v)]
Names = Annotated[tuple[str, ...], BeforeValidator(read_list), AfterValidator(_once)]
Arms = Annotated[dict[str, dict[str, Any]], BeforeValidator(read_arms)]
Resamples = Annotated[int, Field(ge=100, le=10**6)]
Pixels = Annotated[int, Field(ge=0, le=10**9)]
Processes = Annotated[int, Field(ge=0, le=1024)]
Numbers = Annotated[tuple[Seed, ...], BeforeValidator(_numbers), AfterValidator(_once)]


def option(default: Any, description: str, panel: str = "", **cli: Any) -> Any:
    """A field with a default.

    `description` is one sentence, and the help of the command line; `panel` the heading it stands under.
    `cli` may hold ``complete="models"`` (see `gcsam_med.cli.completion`) and ``metavar="REASON"``.
    """
    return Field(default=default, description=description, json_schema_extra={"panel": panel, **cli})


class Options(BaseModel):
    """What all models of options share: unknown fields are refused, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    what: ClassVar[str] = "option"  #: What errors call a field.

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads true as 1, and YAML reads yes and on as true.
        if isinstance(value, bool) and "bool" not in str(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("should not be true or false (in YAML also yes, no, on, off)")
        return value


M = TypeVar("M", bound=Options)


def chosen(model: type[M], options: M | None = None, **fields: Any) -> M:
    """Options as given, changed by those `fields` that are not None.

    Raises
    ------
    ConfigError
        If a field is unknown or a value does not fit; all faults are named.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    if options is not None and not given:
        return options
    return validated(model, ({} if options is None else options.model_dump()) | given)


def read_sets(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` texts, their values as YAML.

    Raises
    ------
    ConfigError
        If one is none.
    """
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes key=value, but got '{text}'.", "For example: --set rho=0.1")
        try:
            values[key.strip()] = parse_yaml(value)
        except ValueError as error:
            raise ConfigError(f"The value of --set {key}=... is not valid YAML.") from error
    return values


def read_settings(file: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        return read_yaml(file, 2**20)
    except OSError as error:
        raise ConfigError(f"The configuration {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{file} {error}.", "It should hold settings, one a line: lr: 0.001") from error


def flag_of(name: str) -> str:
    """Return the command line's option for a field: ``"--batch-size"``."""
    return "--" + name.replace("_", "-")


def validated(
    model: type[M], values: Mapping[str, Any], where: str = "", called: Callable[[str], str] = flag_of
) -> M:
    """Build a model, or name everything that does not fit.

    Parameters
    ----------
    model : type
        What to build.
    values : mapping
        Its fields.
    where : str
        What is at fault, for the message; left open: only the faults are named.
    called : callable
        How the message calls a field.
    """
    for key in values:
        if key not in model.model_fields:
            raise unknown_name(model.what, str(key), model.model_fields.keys())
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        items = error.errors()
        for item in items:
            name = str(item["loc"][0]) if item["loc"] else ""
            alone = not where and len([x for x in items if x["loc"][:1] == item["loc"][:1]]) == 1
            if alone and item["type"] == "literal_error" and isinstance(item["input"], str):
                known = re.findall(r"'([^']*)'", str(item["ctx"]["expected"]))
                raise unknown_name(f"value of {called(name)}", item["input"], known) from None
            message = item["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
            # Cut short: the value may be long, and nested without end.
            found = f", but got {reprlib.repr(item['input'])}" if item["loc"] else ""
            # A field that takes one of several kinds reports a fault for each.
            faults.setdefault(called(name) if name else "", []).append(message + found)
        texts = [": ".join(filter(None, (name, "; or: ".join(said)))) for name, said in faults.items()]
        raise ConfigError(f"{where}{'; '.join(texts)}.") from error
