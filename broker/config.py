"""Settings of a worker, from the environment: `BROKER_TERRITORY`, `BROKER_KAFKA__BOOTSTRAP_SERVERS`, ….

The principal is not a setting: each role has its own (`broker-ingest`, `broker-release`), whose password is read
from `BROKER_SECRETS/<principal>`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from pydantic_settings import BaseSettings, SettingsConfigDict

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
