"""Settings from the environment: `BROKER_TERRITORY`, `BROKER_KAFKA__BOOTSTRAP_SERVERS`, … The Kafka ones mean the same
to every command; a command's options win over them.

Who acts as several principals (a worker: `broker-ingest`, `broker-release`; the administrator) does not set one: the
password of each is read from `BROKER_SECRETS/<principal>`, its certificate from the path in which `{principal}` stands
for its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from broker.core.errors import InputError, OperatorError
from broker.edge.kafka.home import DEFAULT_HOME, Home
from broker.edge.kafka.settings import KafkaSettings

KAFKA = "BROKER_KAFKA__"


class Cluster(BaseModel):
    """How to reach the Kafka cluster, without saying as whom: `{principal}` in the paths of a certificate and its key
    stands for the name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    security_protocol: Literal["SASL_SSL", "SASL_PLAINTEXT", "SSL", "PLAINTEXT"] = "SASL_SSL"

    @property
    def sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    def login(self, principal: str, secrets: Path | None) -> KafkaSettings:
        """The settings with which `principal` connects; a password is in the file of its name."""
        values = _certified(self.model_dump(), principal)
        if self.sasl:
            if secrets is None:
                raise OperatorError(
                    "password_missing",
                    f"say in which folder the password of {principal} is: BROKER_SECRETS, or --secrets",
                )
            values |= {"username": principal, "password_file": secrets / principal}
        try:
            return KafkaSettings.model_validate(values)
        except ValidationError as error:
            raise OperatorError("bad_settings", f"how to reach Kafka: {problems(error, KAFKA)}") from None


class Settings(BaseSettings):
    """A worker's settings.

    territory: the territory's folder; secrets: folder with a password file per principal (may be left out where no
    password is asked for); key_file: the broker's keys; data: what a worker may write (Faust's own state); web_port:
    health and metrics page, 0 = none.
    """

    model_config = SettingsConfigDict(
        env_prefix="BROKER_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    kafka: Cluster
    territory: Path
    secrets: Path | None
    key_file: Path
    data: Path
    web_host: str = "127.0.0.1"
    web_port: int = 0
    log_format: Literal["json", "console"] = "json"

    @model_validator(mode="before")
    @classmethod
    def _each_by_name(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What is missing is told by its variable: of Kafka its address, and a folder of passwords where it asks for
        them."""
        kafka = values.get("kafka", {})
        asked = str(kafka.get("security_protocol", "SASL_SSL")).startswith("SASL")
        return {"kafka": kafka} | ({} if asked else {"secrets": None}) | values


class Environment(BaseSettings):
    """What the environment says of the cluster (BROKER_KAFKA__…) and of who asks (BROKER_RECIPIENT)."""

    model_config = SettingsConfigDict(
        env_prefix="BROKER_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    kafka: dict[str, str] = {}
    recipient: str = ""


@dataclass(frozen=True)
class KafkaOptions:
    """What a command was told of the cluster; None: nothing. home: folder of an embedded Kafka."""

    bootstrap: str | None = None
    ca: Path | None = None
    password_file: Path | None = None
    home: Path | None = None


def worker_settings() -> Settings:
    """The settings in the environment. Raises OperatorError that says of each variable what is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise OperatorError("bad_settings", f"in the environment, {problems(error)}") from None
    except SettingsError:
        raise _no_variables() from None


def environment() -> Environment:
    """What the environment says. Raises OperatorError."""
    try:
        return Environment()
    except SettingsError:
        raise _no_variables() from None


def cluster(options: KafkaOptions) -> Cluster:
    """The cluster for whoever acts there as several principals: options win over the environment."""
    try:
        return Cluster.model_validate(environment().kafka | _of_options(options))
    except ValidationError as error:
        raise OperatorError(
            "bad_settings", f"how to reach Kafka: {problems(error, KAFKA)} (or by an option)"
        ) from None


def login(who: str, options: KafkaOptions) -> KafkaSettings:
    """How one principal logs in. Options win over the environment, an embedded Kafka that is named outright too; where
    nothing names a cluster, the embedded one in its usual place is asked."""
    said: dict[str, Any] = dict(environment().kafka)
    if options.bootstrap is None and options.home is not None:
        said = {}
    if options.password_file is not None:
        said.pop("password", None)
    values = _certified(said, who) | _of_options(options) | {"username": who}
    if "bootstrap_servers" not in values:
        values = _embedded(options.home or DEFAULT_HOME, who, values) | values
    try:
        return KafkaSettings.model_validate(values)
    except ValidationError as error:
        raise InputError(
            "bad_settings",
            f"how to reach Kafka: {problems(error, KAFKA)} (options --bootstrap, --ca, --password-file, or {KAFKA}… in "
            "the environment)",
        ) from None


def _of_options(options: KafkaOptions) -> dict[str, Any]:
    named = {
        "bootstrap_servers": options.bootstrap,
        "ca_file": options.ca,
        "password_file": options.password_file,
    }
    return {name: value for name, value in named.items() if value is not None}


def _certified(values: dict[str, Any], principal: str) -> dict[str, Any]:
    """With the paths of this principal's certificate and key."""
    paths = {name: values[name] for name in ("cert_file", "key_file") if values.get(name) is not None}
    return values | {name: str(path).replace("{principal}", principal) for name, path in paths.items()}


def _embedded(home: Path, who: str, values: dict[str, Any]) -> dict[str, Any]:
    """How to reach the Kafka that runs in this folder. Raises OperatorError where none does."""
    folder = Home(home.absolute())
    state = folder.status().state
    if state is None or not state.ready:
        raise OperatorError(
            "kafka_stopped",
            "no Kafka runs there: give --bootstrap host:port, or `broker kafka up`",
            where=str(home),
        )
    found: dict[str, Any] = {"ca_file": folder.tls / "ca.pem", "bootstrap_servers": state.bootstrap}
    return found if "password" in values else found | {"password_file": folder.secrets / who}


def _no_variables() -> OperatorError:
    return OperatorError(
        "bad_settings",
        f"BROKER_KAFKA must be unset, or hold JSON: write {KAFKA}BOOTSTRAP_SERVERS=… and so on",
    )


def problems(error: ValidationError, prefix: str = "BROKER_") -> str:
    """What is wrong with each variable, in one sentence. prefix: of the variables' names. No value is repeated: it may
    be a password."""
    found = []
    for problem in error.errors(include_input=False):
        name = "__".join(str(part).upper() for part in problem["loc"])
        said = _fault(problem["type"], problem["msg"])
        found.append(f"{prefix}{name} {said}" if name else said)
    return "; ".join(found)


def _fault(kind: str, text: str) -> str:
    known = {
        "missing": "is missing: set it",
        "extra_forbidden": "is not known here: unset it",
        "int_parsing": "must be a whole number",
    }
    said = text.removeprefix("Value error, ")
    return known.get(kind) or said.replace("Input should be", "must be")
