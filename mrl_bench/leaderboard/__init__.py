"""The leaderboard: submissions, their verification, and the folder that keeps them."""

LEVELS = (
    "intact",
    "replayed",
    "re-evaluated",
    "fresh",
    "retrained",
)  # of verification, from 0 on; see verify.py
USUAL_LEVEL = 3  # the highest one that costs less than the submission did
DIVISIONS = ("standard", "privileged-training")  # of agents; the latter saw task parameters in training
