import subprocess
import sys

import pytest

import recsys_ae

PUBLIC = [
    "Artifact", "Cleaning", "Columns", "Dataset", "Evaluation", "FitRecord", "Histories", "Holdout", "IdMap",
    "InteractionLog", "MODELS", "Preprocessing", "Ranking", "Registry", "RunContext", "Split", "by_time",
    "by_time_windows", "calibrate", "diversify", "evaluate", "explain", "given", "item_hold_out", "leave_last_out",
    "rank_top_k", "read_log", "similar_items", "strong_generalization",
]  # fmt: skip


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, warnings as errors."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_public_names_are_pinned() -> None:
    assert recsys_ae.__all__ == PUBLIC


def test_public_names_exist() -> None:
    for name in recsys_ae.__all__:
        assert getattr(recsys_ae, name) is not None
        assert name in dir(recsys_ae)
    with pytest.raises(AttributeError, match="no_such_name"):
        recsys_ae.no_such_name  # noqa: B018


def test_importing_is_silent_and_loads_nothing_heavy() -> None:
    heavy = "torch", "duckdb", "numpy", "pandas", "pyarrow", "scipy", "pydantic", "implicit"
    done = fresh(f"import recsys_ae, sys; assert not sys.modules.keys() & set({heavy!r}), 'heavy'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_models_training_and_ranking_need_no_data_code_and_no_network() -> None:
    """They run where pandas, DuckDB and the web stack are absent and every socket is refused."""
    done = fresh(
        """
import socket, sys
for absent in ("pandas", "pyarrow", "duckdb", "implicit", "fastapi", "uvicorn", "typer", "rich", "structlog", "httpx"):
    sys.modules[absent] = None
def refuse(*a, **k): raise OSError("no network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import recsys_ae.models, recsys_ae.training, recsys_ae.ranking, recsys_ae.artifact, recsys_ae.registry
from recsys_ae import Histories, RunContext, MODELS, rank_top_k
train = Histories.from_rows([[0, 1], [1, 2], [0, 2]], 4)
run = RunContext(device="cpu", precision="float32", stop_after=1)
for name in ("popularity", "ease", "mult_dae", "mult_vae"):
    model = MODELS[name](MODELS[name].Config(), 4)
    model.fit(train, validation=None, run=run)
    assert rank_top_k(model, train, 1).items.shape == (3, 1)
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_every_module_imports_without_a_warning_or_a_word() -> None:
    done = fresh(
        """
import importlib, pkgutil, recsys_ae
for module in pkgutil.walk_packages(recsys_ae.__path__, "recsys_ae."):
    importlib.import_module(module.name)
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
