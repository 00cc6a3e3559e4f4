"""Cornac's VAECF, in its own environment: trains on a matrix, ranks, prints what each took as one line of JSON.

It has no dropout and never shuffles; the rest is as asked.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from cornac.data import Dataset
from cornac.models import VAECF
from scipy.sparse import csr_array, load_npz


def main(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Seconds of an epoch, and of the k best items of all users."""
    torch.set_num_threads(settings["threads"])
    matrix = csr_array(load_npz(folder / "train.npz"))
    data = Dataset.from_uir([(int(user), int(item), 1.0) for user, item in zip(*matrix.nonzero(), strict=True)])
    model = VAECF(
        k=settings["latent"],
        autoencoder_structure=settings["hidden"],
        n_epochs=1,
        batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        seed=settings["seed"],
    )
    model.fit(data)  # what a process does but once
    model.n_epochs = settings["epochs"]
    begin = time.perf_counter()
    model.fit(data)
    fitted = time.perf_counter()
    with torch.no_grad():
        for user in data.user_ids:
            model.recommend(user, k=settings["k"], remove_seen=True, train_set=data)
    return {"epoch": (fitted - begin) / settings["epochs"], "top_100": time.perf_counter() - fitted}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), Path(sys.argv[2]))))
