"""recsys-ae: a recommender system built on autoencoders. Importing it is silent and loads nothing until a name is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_ae.artifact import Artifact as Artifact
    from recsys_ae.cleaning import Cleaning as Cleaning
    from recsys_ae.dataset import Dataset as Dataset
    from recsys_ae.evaluation import Evaluation as Evaluation
    from recsys_ae.evaluation import evaluate as evaluate
    from recsys_ae.explanation import explain as explain
    from recsys_ae.histories import Histories as Histories
    from recsys_ae.histories import Holdout as Holdout
    from recsys_ae.ids import IdMap as IdMap
    from recsys_ae.log import InteractionLog as InteractionLog
    from recsys_ae.log import read_log as read_log
    from recsys_ae.models import MODELS as MODELS
    from recsys_ae.preprocessing import Preprocessing as Preprocessing
    from recsys_ae.ranking import Ranking as Ranking
    from recsys_ae.ranking import rank_top_k as rank_top_k
    from recsys_ae.ranking import similar_items as similar_items
    from recsys_ae.registry import Registry as Registry
    from recsys_ae.reranking import calibrate as calibrate
    from recsys_ae.reranking import diversify as diversify
    from recsys_ae.split import Split as Split
    from recsys_ae.split import by_time as by_time
    from recsys_ae.split import by_time_windows as by_time_windows
    from recsys_ae.split import given as given
    from recsys_ae.split import item_hold_out as item_hold_out
    from recsys_ae.split import leave_last_out as leave_last_out
    from recsys_ae.split import strong_generalization as strong_generalization
    from recsys_ae.staging import Columns as Columns
    from recsys_ae.training import FitRecord as FitRecord
    from recsys_ae.training import RunContext as RunContext

__version__ = "0.1.0"

_HOMES = {
    "Artifact": "artifact",
    "Cleaning": "cleaning",
    "Columns": "staging",
    "Dataset": "dataset",
    "Evaluation": "evaluation",
    "FitRecord": "training",
    "Histories": "histories",
    "Holdout": "histories",
    "IdMap": "ids",
    "InteractionLog": "log",
    "MODELS": "models",
    "Preprocessing": "preprocessing",
    "Ranking": "ranking",
    "Registry": "registry",
    "RunContext": "training",
    "Split": "split",
    "by_time": "split",
    "by_time_windows": "split",
    "calibrate": "reranking",
    "diversify": "reranking",
    "evaluate": "evaluation",
    "explain": "explanation",
    "given": "split",
    "item_hold_out": "split",
    "leave_last_out": "split",
    "rank_top_k": "ranking",
    "read_log": "log",
    "similar_items": "ranking",
    "strong_generalization": "split",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys_ae' has no attribute {name!r}")
    value = getattr(import_module(f"recsys_ae.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
