"""An agent in a process of its own: it sees observations and rewards as numbers, and nothing else of the harness."""
