"""A refactor keeps the golden losses. After a change that is meant to move them: `python -m tests.golden.test_losses`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys_ae import MODELS, Dataset, InteractionLog, Preprocessing
from recsys_ae.datasets import synthetic
from tests.worlds import cpu

GOLDEN = Path(__file__).with_name("losses.json")
PAPER = {"target": "all", "tied": False}  # as Liang et al. have it
RUNS: dict[str, dict[str, Any]] = {
    "mult_dae tied": {"latent": 16, "dropout": 0.3, "epochs": 4, "batch_size": 20, "learning_rate": 0.02},
    "mult_vae tied": {"latent": 16, "dropout": 0.3, "epochs": 4, "batch_size": 20, "learning_rate": 0.02},
    "mult_dae": {"latent": 16, "dropout": 0.3, **PAPER, "epochs": 4, "batch_size": 20, "learning_rate": 0.02},
    "mult_dae deep": {
        "latent": 8,
        "dropout": 0.3,
        **PAPER,
        "hidden": [16],
        "activation": "tanh",
        "schedule": "cosine",
        "epochs": 4,
        "batch_size": 20,
        "learning_rate": 0.02,
    },
    "mult_vae": {"latent": 16, "dropout": 0.3, **PAPER, "epochs": 4, "batch_size": 20, "learning_rate": 0.02},
    "mult_vae deep": {
        "latent": 8,
        "dropout": 0.3,
        **PAPER,
        "hidden": [16],
        "activation": "gelu",
        "weight_decay": 0.1,
        "epochs": 4,
        "batch_size": 20,
        "learning_rate": 0.02,
    },
    "rec_vae": {"latent": 16, "dropout": 0.3, "gamma": 0.01, "epochs": 4, "batch_size": 20, "learning_rate": 0.01},
    "rec_vae deep": {
        "latent": 8,
        "hidden": [16, 16],
        **PAPER,
        "dropout": 0.5,
        "gamma": 0.01,
        "epochs": 4,
        "batch_size": 20,
        "learning_rate": 0.01,
    },
    "h_vamp": {
        "latent": 8,
        "hidden": [16, 16],
        "dropout": 0.3,
        "beta": 0.05,
        "pseudo_inputs": 5,
        "epochs": 4,
        "batch_size": 20,
        "learning_rate": 0.01,
    },
    "vasp": {
        "latent": 8,
        "hidden": [16, 16],
        "dropout": 0.5,
        "shallow": 8,
        "epochs": 4,
        "batch_size": 20,
        "learning_rate": 0.01,
    },
}


def losses(run: str) -> list[float]:
    """The loss of each epoch on 90 synthetic users."""
    log = InteractionLog.from_table(synthetic(90, 60, mean_length=12.0, seed=0).events)
    data = Dataset.from_log(log, Preprocessing(weight_transform="log1p"))
    kind = MODELS[run.split()[0]]
    return kind(kind.Config(**RUNS[run]), len(data.items)).fit(data.histories, validation=None, run=cpu()).losses


@pytest.mark.parametrize("run", RUNS)
def test_losses_are_the_golden_ones(run: str) -> None:
    np.testing.assert_allclose(losses(run), json.loads(GOLDEN.read_text())[run], rtol=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(json.dumps({run: losses(run) for run in RUNS}, indent=2) + "\n")
