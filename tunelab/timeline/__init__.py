"""Scores and sections along a track, from the encoder's time columns. Plain arrays in, plain data out."""

from tunelab.timeline.build import make_timeline
from tunelab.timeline.plan import Plan, make_plan

__all__ = ["Plan", "make_plan", "make_timeline"]
