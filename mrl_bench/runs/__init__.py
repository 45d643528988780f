"""Runs, one agent with one seed on one scenario each: on disk, and in worker processes."""
