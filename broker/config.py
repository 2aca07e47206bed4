"""Settings of a worker, from the environment: `BROKER_TERRITORY`, `BROKER_KAFKA__BOOTSTRAP_SERVERS`, ….

The principal is not a setting: each role has its own (`broker-ingest`, `broker-release`), whose password is read
from `BROKER_SECRETS/<principal>`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from broker.core.errors import OperatorError
from broker.edge.kafka.settings import KafkaSettings


class Cluster(BaseModel):
    """How to reach the Kafka cluster, without saying as whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str
    ca_file: Path | None = None
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    security_protocol: Literal["SASL_SSL", "SASL_PLAINTEXT", "SSL", "PLAINTEXT"] = "SASL_SSL"

    def login(self, principal: str, secrets: Path) -> KafkaSettings:
        """The settings with which `principal` connects; its password is in the file of its name."""
        named = {"username": principal, "password_file": secrets / principal}
        return KafkaSettings(
            **self.model_dump(), **(named if self.security_protocol.startswith("SASL") else {})
        )


class Settings(BaseSettings):
    """A worker's settings.

    territory: the territory's folder; secrets: folder with a password file per principal; key_file: the broker's
    keys; data: what a worker may write (Faust's own state); web_port: health and metrics page, 0 = none.
    """

    model_config = SettingsConfigDict(
        env_prefix="BROKER_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    kafka: Cluster
    territory: Path
    secrets: Path
    key_file: Path
    data: Path
    web_host: str = "127.0.0.1"
    web_port: int = 0
    log_format: Literal["json", "console"] = "json"

    @model_validator(mode="before")
    @classmethod
    def _each_by_name(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Where nothing is said of Kafka, what is missing are its variables, not one that holds them all."""
        return {"kafka": {}} | values


def worker_settings() -> Settings:
    """The settings in the environment. Raises OperatorError that says of each variable what is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise OperatorError("bad_settings", f"in the environment, {problems(error)}") from None
    except SettingsError:
        raise OperatorError(
            "bad_settings",
            "BROKER_KAFKA must be unset, or hold JSON: write BROKER_KAFKA__BOOTSTRAP_SERVERS=… and so on",
        ) from None


def problems(error: ValidationError, prefix: str = "BROKER_") -> str:
    """What is wrong with each variable, in one sentence. prefix: of the variables' names. No value is repeated: it may
    be a password."""
    return "; ".join(
        f"{prefix}{'__'.join(str(part).upper() for part in problem['loc'])}".rstrip("_")
        + f" {_fault(problem['type'], problem['msg'])}"
        for problem in error.errors(include_input=False)
    )


def _fault(kind: str, text: str) -> str:
    known = {
        "missing": "is missing: set it",
        "extra_forbidden": "is not known here: unset it",
        "int_parsing": "must be a whole number",
    }
    said = text.removeprefix("Value error, ")
    return known.get(kind) or said.replace("Input should be", "must be")
