"""The engine: device-resident sparse batches, the multinomial loss, the loop, checkpoints."""

from recsys_ae.training.run import FitRecord, RunContext

__all__ = ["FitRecord", "RunContext"]
