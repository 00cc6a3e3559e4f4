"""Fits that are larger than one process: `fit_by_ranks` starts them on this machine by torchrun."""

from recsys_ae.cluster.torchrun import fit_by_ranks

__all__ = ["fit_by_ranks"]
