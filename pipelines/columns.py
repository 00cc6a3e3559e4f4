"""Ids as columns of a table."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_ae.ids import Id, IdKind, IdMap


def id_array(ids: Sequence[Id], kind: IdKind | None = None) -> pa.Array:
    """Integers or strings, of that kind or else as the ids are."""
    kind = kind or ("integer" if ids and isinstance(ids[0], int) else "string")
    return pa.array(ids, pa.int64() if kind == "integer" else pa.string())


def id_lists(lists: NDArray[np.int32], items: IdMap) -> pa.Array:
    """Lists of columns (B, K) as lists of ids, without the padding."""
    filled = lists >= 0
    offsets = np.concatenate([[0], np.cumsum(filled.sum(1))]).astype(np.int32)
    ids = id_array(items.ids).take(pa.array(lists[filled].astype(np.int64)))
    return pa.ListArray.from_arrays(pa.array(offsets), ids)
