"""The leaderboard: submissions, their verification, and the folder that keeps them."""

LEVELS = ("intact", "replayed", "re-evaluated", "fresh")  # of verification, from 0 on; see verify.py
DIVISIONS = ("standard", "privileged-training")  # of agents; the latter saw task parameters in training
