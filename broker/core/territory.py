"""What the operator writes down about a territory: its lanes, its areas, its partners and its recipients.

Names become Kafka principals, topics and consumer groups, so they are narrow and share one space: lower case
letters, digits and dashes, never a dot (a prefix ends with one), never the name of a role. A partner and a
recipient of one name are one organisation with one principal, for example a municipality with its own water
utility.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from broker.core.calendar import duration_ms
from broker.core.errors import InputError
from broker.core.plan import Stream

# Principals, consumer groups and transactional ids of the broker's own roles begin with these.
RESERVED: Final = frozenset(
    {"admin", "anonymous", "broker", "cluster", "control", "gateway", "ingest", "log", "node-1", "release"}
)
MAX_LANES: Final = 256

Model = TypeVar("Model", bound=BaseModel)


def _not_reserved(name: str) -> str:
    if name in RESERVED or name.startswith("broker-"):
        raise ValueError(f"`{name}` is kept for the broker itself: choose another name")
    return name


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"`{name}` is not a time zone: write for example Europe/Paris")
    return name


def _duration(text: str) -> str:
    try:
        duration_ms(text)
    except InputError as error:
        raise ValueError(error.what) from None
    return text


LABEL: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Label = Annotated[str, StringConstraints(pattern=LABEL)]
Name = Annotated[Label, AfterValidator(_not_reserved)]
File = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")
]  # no path: beside its YAML file


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AreasFile(_Closed):
    """`file`: CSV of area,parent,level; `geometry`: GeoJSON, for maps only."""

    hierarchy: Label
    file: File
    geometry: File | None = None


class StreamFile(_Closed):
    """One stream. `unit` is the smallest unit, in which values are whole; `net`: values may be negative."""

    name: Label
    measure: Label
    kind: Literal["interval", "register"]
    unit: Literal["Wh", "mL"]
    net: StrictBool = False


class ConsentFile(_Closed):
    """`heartbeat`: the consent service reports at least this often; silence beyond it pauses the partner."""

    heartbeat: Annotated[str, AfterValidator(_duration)]


class PartnerFile(_Closed):
    """partners/<name>.yaml. `agreement_key`: the C2SP verifier key with which the partner signs policies."""

    name: Name
    holding: Label
    title: str
    streams: tuple[StreamFile, ...] = Field(min_length=1)
    consent: ConsentFile | None = None
    agreement_key: str

    @model_validator(mode="after")
    def _streams_once(self) -> Self:
        names = [stream.name for stream in self.streams]
        if len(set(names)) < len(names):
            raise ValueError("two streams have the same name")
        return self


class RecipientFile(_Closed):
    """recipients/<name>.yaml: who may read which products."""

    name: Name
    title: str
    products: tuple[Label, ...] = Field(min_length=1)


class TerritoryFile(_Closed):
    """territory.yaml. `lanes`: partitions of every topic, fixed when the territory is created."""

    name: Label
    timezone: Annotated[str, AfterValidator(_known_zone)]
    lanes: StrictInt = Field(ge=1, le=MAX_LANES)
    areas: AreasFile


class Territory(_Closed):
    """The whole. Partners and recipients are sorted by name, each name once."""

    name: str
    timezone: str
    lanes: int
    areas: AreasFile
    partners: tuple[PartnerFile, ...]
    recipients: tuple[RecipientFile, ...]

    def partner(self, name: str) -> PartnerFile:
        """Raises InputError where there is none of that name."""
        return _find(self.partners, name, "partner")

    def recipient(self, name: str) -> RecipientFile:
        """Raises InputError where there is none of that name."""
        return _find(self.recipients, name, "recipient")

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All streams of all partners, sorted."""
        return tuple(
            sorted(
                Stream(partner.name, partner.holding, s.name, s.measure, s.kind, s.unit, s.net)
                for partner in self.partners
                for s in partner.streams
            )
        )


def make_territory(
    territory: Mapping[str, Any],
    partners: Mapping[str, Mapping[str, Any]],
    recipients: Mapping[str, Mapping[str, Any]],
) -> Territory:
    """The territory from its files' contents: `territory.yaml`, and one mapping per file name of each folder.

    Raises InputError (`unknown_field`, `bad_territory`) that names file and field. A file is named after the
    partner or recipient in it, so that two files can never mean the same one.
    """
    head = parse(TerritoryFile, territory, "territory.yaml")
    return Territory(
        name=head.name,
        timezone=head.timezone,
        lanes=head.lanes,
        areas=head.areas,
        partners=_parse_all(PartnerFile, partners),
        recipients=_parse_all(RecipientFile, recipients),
    )


def parse(model: type[Model], values: Mapping[str, Any], file: str) -> Model:
    """One file's contents as its model. Raises InputError that names the file and every offending field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_input=False)
        unknown = any(finding["type"] == "extra_forbidden" for finding in findings)
        text = "; ".join(
            _sentence(model, tuple(finding["loc"]), finding["type"], finding["msg"]) for finding in findings
        )
        raise InputError("unknown_field" if unknown else "bad_territory", text, where=file) from None


Named = TypeVar("Named", PartnerFile, RecipientFile)


def _parse_all(model: type[Named], files: Mapping[str, Mapping[str, Any]]) -> tuple[Named, ...]:
    found = []
    for file, values in files.items():
        parsed = parse(model, values, file)
        if file.rsplit("/", 1)[-1] != f"{parsed.name}.yaml":
            raise InputError(
                "bad_territory", f"the file of `{parsed.name}` must be named {parsed.name}.yaml", where=file
            )
        found.append(parsed)
    return tuple(sorted(found, key=lambda item: item.name))


def _find(items: tuple[Named, ...], name: str, kind: str) -> Named:
    for item in items:
        if item.name == name:
            return item
    known = ", ".join(item.name for item in items) or "none"
    raise InputError(f"unknown_{kind}", f"the territory has no {kind} `{name[:80]}`; known: {known}")


def _sentence(model: type[BaseModel], location: tuple[int | str, ...], kind: str, message: str) -> str:
    field = ".".join(str(part) for part in location) or "the file"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _fields(model), n=1)
        return f"{field}: there is no such field" + (f"; did you mean `{near[0]}`?" if near else "")
    if kind == "missing":
        return f"{field}: this field is missing"
    if kind == "string_pattern_mismatch" and LABEL in message:
        return (
            f"{field}: this name becomes part of topics and logins, so it holds only lower case letters, digits and "
            "dashes, 63 at most, with no dash at an end; write it the same way in policies and files"
        )
    return f"{field}: {message.removeprefix('Value error, ')}"


def _fields(model: type[BaseModel]) -> list[str]:
    """Field names of a model and of those it holds, for suggestions."""
    nested = {PartnerFile: (StreamFile, ConsentFile), TerritoryFile: (AreasFile,)}
    models = (model, *nested.get(model, ()))
    return [name for each in models for name in each.model_fields]
