"""mrl-bench: a benchmark for meta-reinforcement learning, backed by real simulators."""

__version__ = "0.1.0"
