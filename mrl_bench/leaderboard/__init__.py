"""The leaderboard: submissions, their verification, and the folder that keeps them."""
