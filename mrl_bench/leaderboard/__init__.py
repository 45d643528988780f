"""Submissions, their verification and ranking. Still empty."""
