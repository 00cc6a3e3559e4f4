"""RecBole's MultiVAE, in its own environment: trains on a matrix, ranks, prints what each took as one line of JSON.

RecBole 1.2.1 asks numpy for names that numpy 2 has dropped; they are put back before its configuration is read. Nothing else
of it is changed, and everything goes through its public classes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, load_npz

for dropped, kept in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
    setattr(np, dropped, kept)

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.general_recommender import MultiVAE  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402
from recbole.utils.case_study import full_sort_topk  # noqa: E402


class Run:
    """RecBole's own objects around one matrix (U, I)."""

    def __init__(self, matrix: csr_array, settings: dict[str, Any]) -> None:
        write_files(matrix, Path("data/peers"))
        given = {
            "data_path": "data",
            "benchmark_filename": ["train", "asked", "asked"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "mlp_hidden_size": settings["hidden"],
            "latent_dimension": 2 * settings["latent"],  # means and log variances
            "dropout_prob": settings["dropout"],
            "learning_rate": settings["learning_rate"],
            "train_batch_size": settings["batch_size"],
            "epochs": settings["epochs"],
            "train_neg_sample_args": None,
            "eval_args": {"order": "RO", "group_by": "user", "mode": "full"},
            "metrics": ["NDCG"],
            "topk": [100],
            "valid_metric": "NDCG@100",
            "use_gpu": False,
            "show_progress": False,
            "seed": settings["seed"],
            "torch_num_threads": settings["threads"],
        }
        sys.argv = sys.argv[:1]  # RecBole reads the command line of whoever imports it
        config = Config(model="MultiVAE", dataset="peers", config_dict=given)
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        self.train, _, self.asked = data_preparation(config, dataset)
        self.model = MultiVAE(config, self.train.dataset)
        self.trainer = Trainer(config, self.model)
        tokens = [str(user) for user in range(matrix.shape[0])]
        self.users = dataset.token2id("user_id", tokens)
        self.items = dataset.token2id("item_id", [str(item) for item in range(matrix.shape[1])])  # column -> RecBole's id
        self.columns = np.full(dataset.item_num, -1)
        self.columns[self.items] = np.arange(matrix.shape[1])

    def fit(self, first: int, last: int) -> float:
        """Seconds of the epochs from `first` on, `last` not among them."""
        self.trainer.start_epoch, self.trainer.epochs = first, last
        begin = time.perf_counter()
        self.trainer.fit(self.train, verbose=False, saved=False)
        return time.perf_counter() - begin

    def rank(self, k: int, batch: int) -> float:
        """Seconds of the k best items of all users."""
        begin = time.perf_counter()
        for start in range(0, len(self.users), batch):
            full_sort_topk(self.users[start : start + batch], self.model, self.asked, k)
        return time.perf_counter() - begin

    @torch.no_grad()
    def lists(self, histories: csr_array, k: int) -> NDArray[np.int32]:
        """The k best columns (U, k) of histories of users that the model does not know."""
        self.model.eval()
        rows = np.zeros((histories.shape[0], len(self.columns)), np.float32)
        rows[:, self.items] = histories.toarray()
        scores, _, _ = self.model(torch.from_numpy(rows))
        scores[torch.from_numpy(rows > 0)] = -torch.inf
        scores[:, 0] = -torch.inf  # RecBole's padding
        return self.columns[scores.topk(k).indices.numpy()].astype(np.int32)


def write_files(matrix: csr_array, folder: Path) -> None:
    """RecBole's files: the matrix, and one item that each user has not met, because it ranks the users of its test file."""
    folder.mkdir(parents=True)
    users, items = matrix.nonzero()
    asked = [int(np.argmin(np.isin(np.arange(len(row) + 1), row))) for row in np.split(items, matrix.indptr[1:-1])]
    for name, pairs in (("train", zip(users, items, strict=True)), ("asked", enumerate(asked))):
        lines = "".join(f"{user}\t{item}\n" for user, item in pairs)
        (folder / f"peers.{name}.inter").write_text("user_id:token\titem_id:token\n" + lines)


def main(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Speed on the matrix; or, where there are holdouts, the lists of their users after every epoch, into `lists.npz`."""
    torch.set_num_threads(settings["threads"])
    run = Run(csr_array(load_npz(folder / "train.npz")), settings)
    if not settings["holdouts"]:
        run.fit(0, 1)  # what a process does but once
        seconds = run.fit(1, 1 + settings["epochs"])
        return {"epoch": seconds / settings["epochs"], "top_100": run.rank(settings["k"], settings["rank_batch"])}
    holdouts = {name: csr_array(load_npz(folder / f"{name}.npz")) for name in settings["holdouts"]}
    seconds, lists = [], {name: [] for name in holdouts}
    for epoch in range(settings["epochs"]):
        seconds.append(run.fit(epoch, epoch + 1))
        for name, histories in holdouts.items():
            lists[name].append(run.lists(histories, settings["k"]))
    np.savez(folder / "lists.npz", **{name: np.stack(found) for name, found in lists.items()})
    return {"epochs": seconds}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]), Path(sys.argv[2]))))
