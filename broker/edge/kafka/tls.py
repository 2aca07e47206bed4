"""TLS towards Kafka: whom to trust and, where the cluster asks for it, the certificate that says who we are.

The server's name is always checked. The same files are given to both client libraries; they are read here first, so
that a wrong one is told by its name and not as a connection that fails.
"""

from __future__ import annotations

import ssl

from broker.core.errors import OperatorError
from broker.edge.kafka.settings import KafkaSettings


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """None where the connection has no TLS. Raises OperatorError where a file cannot be used."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise OperatorError(
            "bad_ca_file", f"cannot read the trusted certificates: {error}", where=str(settings.ca_file)
        ) from error
    if settings.cert_file is not None:
        try:
            # A key under a passphrase is an error: nobody is there to be asked for it.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
        except OSError as error:
            raise OperatorError(
                "bad_cert_file",
                f"cannot use the certificate and its key (PEM, no passphrase): {error}",
                where=", ".join(str(file) for file in (settings.cert_file, settings.key_file) if file),
            ) from error
    return context


def librdkafka_tls(settings: KafkaSettings) -> dict[str, str]:
    """The same in librdkafka's words, once the files were found usable."""
    if ssl_context(settings) is None:
        return {}
    files = {
        "ssl.ca.location": settings.ca_file,
        "ssl.certificate.location": settings.cert_file,
        "ssl.key.location": settings.key_file or settings.cert_file,
    }
    return {name: str(file) for name, file in files.items() if file is not None}
