"""Worlds by name, and configurations that start from one."""

from typing import Any

from pydantic import ValidationError

from recsys_ae.datasets.generator.config import GeneratorConfig
from recsys_ae.errors import ConfigError

PRESETS: dict[str, GeneratorConfig] = {
    "synthetic": GeneratorConfig(),
    "ml-1m-like": GeneratorConfig.model_validate(
        {
            "n_users": 6_040,
            "n_items": 3_706,
            "mean_length": 1_000_209 / 6_040,
            "min_length": 20,
            "max_length": 2_314,
            "length_spread": 1.15,
            "popularity_exponent": 0.8,
            "popularity_shift": 0.006,
            "popularity_cutoff": 0.27,
            "n_tastes": 20,
            "tastes_per_user": 3,
            "second_taste": 0.5,
            "taste_strength": 0.8,
            "session_length": 30,
            "session_gap": 30,
            "start": 956_620_800,  # 2000-04-25
            "span_days": 1_038,
            "lifetime": 0.05,
        }
    ),
    "ml-20m-like": GeneratorConfig.model_validate(
        {
            "n_users": 138_493,
            "n_items": 26_744,
            "mean_length": 20_000_263 / 138_493,
            "min_length": 20,
            "max_length": 9_254,
            "length_spread": 1.37,
            "popularity_exponent": 1.3,
            "popularity_shift": 0.0025,
            "popularity_cutoff": 0.13,
            "n_tastes": 20,
            "tastes_per_user": 3,
            "second_taste": 0.5,
            "taste_strength": 0.7,
            "session_length": 30,
            "session_gap": 30,
            "start": 789_609_600,  # 1995-01-09
            "span_days": 7_385,
            "lifetime": 0.05,
            "ratings": {"low": 0.5, "high": 5, "step": 0.5},
        }
    ),
    "gowalla-like": GeneratorConfig.model_validate(
        {
            "n_users": 29_858,
            "n_items": 40_981,
            "mean_length": 1_027_370 / 29_858,
            "min_length": 9,
            "max_length": 1_014,
            "length_spread": 1.3,
            "popularity_exponent": 0.72,
            "popularity_shift": 0.00005,
            "min_popularity": 10,
            "n_tastes": 400,
            "tastes_per_user": 4,
            "taste_strength": 0.8,
            "session_length": 2,
            "session_gap": 3_600,
            "start": 1_233_446_400,  # 2009-02-01
            "span_days": 630,
            "lifetime": 0.4,
            "ratings": None,
        }
    ),
}


def preset(name: str, **changes: Any) -> GeneratorConfig:
    """A preset's configuration with some parameters changed.

    Raises ConfigError, which names the parameter, what was found and what was expected.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown; expected one of {', '.join(PRESETS)}")
    try:
        return GeneratorConfig.model_validate({**PRESETS[name].model_dump(), **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            found = f"is unknown; expected one of {', '.join(GeneratorConfig.model_fields)}"
        else:
            found = first["msg"].removeprefix("Value error, ")
            found += "" if first["type"] == "value_error" else f"; found {first['input']!r}"
        raise ConfigError(f"generator {name}: {where}{': ' if where else ''}{found}") from None
