"""How to reach a Kafka: the embedded one or any other cluster. Plain values, no client library.

As a field named `kafka` of the settings of a process these are read from the environment, for example
BROKER_KAFKA__BOOTSTRAP_SERVERS. A password is never shown: it is a SecretStr, or stands in a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from broker.core.errors import OperatorError


class KafkaSettings(BaseModel):
    """One principal's way in. `ca_file`: PEM certificates to trust (None: the system's). `cert_file`, `key_file`: PEM,
    who we are, for clusters that ask for it (mutual TLS); without a key file the key is in the certificate's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    security_protocol: Literal["SASL_SSL", "SASL_PLAINTEXT", "SSL", "PLAINTEXT"] = "SASL_SSL"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        if self.sasl and not self.username:
            raise ValueError(f"{self.security_protocol} needs a username")
        if self.sasl and self.password is None and self.password_file is None:
            raise ValueError(f"{self.security_protocol} needs a password or a password_file")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        if self.cert_file is not None and not self.tls:
            raise ValueError(f"cert_file says nothing with {self.security_protocol}: give SSL or SASL_SSL")
        return self

    @property
    def sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def tls(self) -> bool:
        return self.security_protocol.endswith("SSL")

    def secret(self) -> str:
        """The password, read from its file at each call, so that a changed one is taken up. OperatorError
        where it cannot be read."""
        if self.password is not None:
            return self.password.get_secret_value()
        assert self.password_file is not None
        try:
            return self.password_file.read_text().rstrip("\n")
        except OSError as error:
            raise OperatorError(
                "password_missing", f"cannot read the password of {self.username}: {error.strerror}",
                where=str(self.password_file),
            ) from error  # fmt: skip
