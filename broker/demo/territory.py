"""The demo's territory in force: files, signatures, topics, principals, policies, all on an embedded Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from broker import operate
from broker.core.policy import Policy
from broker.edge.data import data_folder
from broker.edge.kafka import die_with_parent
from broker.edge.kafka.embedded import EmbeddedKafka
from broker.edge.kafka.pki import write_private
from broker.edge.kafka.provision import CONTROL, provision
from broker.edge.schemas import SchemaFolder
from broker.edge.territory import TerritoryFolder, load_territory
from broker.sim import World, write_territory

TRIAL_SECRET = bytes(32)
"""The demo's master key is a dry run's trial key, known to everybody, so that a dry run repeats its rounding."""


@dataclass(frozen=True)
class DemoTerritory:
    """What the steps of the demo need to know of each other."""

    home: Path
    folder: TerritoryFolder
    policies: list[Policy]
    codec: SchemaFolder
    kafka: EmbeddedKafka

    @property
    def key_file(self) -> Path:
        return self.home / "keys"

    def worker_environment(self, web_port: int) -> dict[str, str]:
        """The settings of a worker, as an operator would set them."""
        return {
            "BROKER_TERRITORY": str(self.folder.folder),
            "BROKER_SECRETS": str(self.kafka.home.secrets),
            "BROKER_KEY_FILE": str(self.key_file),
            "BROKER_DATA": str(self.home / "worker"),
            "BROKER_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "BROKER_KAFKA__CA_FILE": str(self.kafka.ca_pem),
            "BROKER_WEB_PORT": str(web_port),
        }


def write_files(world: World, home: Path) -> TerritoryFolder:
    """The territory's folder, with every policy signed by every contributing partner."""
    signers = operate.make_signers(stream.partner for stream in world.streams)
    keys = {name: signer.verifier.vkey for name, signer in signers.items()}
    folder = write_territory(world, home / "territory", keys)
    operate.sign_policies(load_territory(folder), signers)
    write_private(home / "keys", TRIAL_SECRET.hex().encode())
    return load_territory(folder)


def bring_up(home: Path, folder: TerritoryFolder, kafka: EmbeddedKafka, first_day: str) -> DemoTerritory:
    """Provisions Kafka, announces the partners and activates the policies from `first_day` on."""
    policies = operate.policies(folder)
    codec = SchemaFolder.load(data_folder("schemas"))
    provision(
        kafka.admin, folder.territory, kafka.home.secrets, products=[policy.product for policy in policies]
    )
    records = operate.partner_records(folder)
    records += [operate.activation_record(folder, policy.product, first_day) for policy in policies]
    operate.publish(kafka.settings(CONTROL), records, codec)
    return DemoTerritory(home, folder, policies, codec, kafka)


def start_worker(
    demo: DemoTerritory, roles: Sequence[str], web_port: int, name: str
) -> subprocess.Popen[bytes]:
    """A worker process of its own, as `broker run` starts one; it ends when the demo does."""
    flags = [flag for role in roles for flag in ("--role", role)]
    program = [sys.executable, "-m", "broker", "run", *flags]
    log = (demo.home / f"worker-{name}.log").open("ab")
    with log:
        return subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *program],
            env={
                **os.environ,
                **demo.worker_environment(web_port),
                "BROKER_DATA": str(demo.home / f"worker-{name}"),
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the demo, which stops its parts in order
            stdout=log,
            stderr=log,
        )
