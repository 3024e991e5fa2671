"""A fleet of car-share vehicles in Seoul, simulated: archive, bindings and the truth about them."""

from runners.simulation.misbehaviours import MISBEHAVIOURS
from runners.simulation.simulator import Summary, simulate

__all__ = ["MISBEHAVIOURS", "Summary", "simulate"]
