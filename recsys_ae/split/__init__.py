"""Splits of a Dataset into what trains, what chooses and what judges. No interaction is ever on two sides."""

from recsys_ae.split.base import Split, Window
from recsys_ae.split.items import item_hold_out
from recsys_ae.split.strong import strong_generalization
from recsys_ae.split.times import by_time, by_time_windows
from recsys_ae.split.weak import given, leave_last_out

__all__ = [
    "Split",
    "Window",
    "by_time",
    "by_time_windows",
    "given",
    "item_hold_out",
    "leave_last_out",
    "strong_generalization",
]
