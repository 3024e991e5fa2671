"""The live jobs against their peers, on one cluster and the same topics."""
