"""Nearest tracks in what a batch job wrote, without the service; and ranges of scores, which the service shares."""
