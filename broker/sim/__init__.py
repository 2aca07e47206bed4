"""A synthetic territory: for the demonstration, for load and for attacks. It knows the truth.

`generate(TerritorySpec(), seed)` gives a `World`; `write_territory(world, folder)` writes it as an operator's
folder, with the files from which `broker dry-run` gives the same releases.
"""

from broker.sim.spec import TerritorySpec
from broker.sim.world import Step, World, generate
from broker.sim.write import write_territory

__all__ = ["Step", "TerritorySpec", "World", "generate", "write_territory"]
