"""Generated worlds: users and items with latent tastes, power-law popularity, sessions, drift, noise and attacks, all known.

docs/generator.md has the model in equations.
"""

from recsys_ae.datasets.generator.config import Attack, GeneratorConfig, RatingScale
from recsys_ae.datasets.generator.latent import Latent
from recsys_ae.datasets.generator.presets import PRESETS, preset
from recsys_ae.datasets.generator.world import Truth, World, generate

__all__ = ["PRESETS", "Attack", "GeneratorConfig", "Latent", "RatingScale", "Truth", "World", "generate", "preset"]
