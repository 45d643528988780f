"""The promises of families and of agents, as checks."""
