import numpy as np

from recsys_ae import Histories, IdMap
from recsys_ae.items import ItemMetadata


def test_metadata_follows_the_items() -> None:
    histories = Histories.from_rows([[0, 2], [2, 1]], 3, times=[[5, 6], [7, 8]])
    metadata = ItemMetadata.of(IdMap((10, 20, 30)), histories, {20: "Twenty"}, {30: ("x", "y")})
    assert metadata == ItemMetadata((None, "Twenty", None), ((), (), ("x", "y")), (1, 1, 2), (5, 8, 7))
    assert metadata.take(np.array([2, 1])) == ItemMetadata((None, "Twenty"), (("x", "y"), ()), (2, 1), (7, 8))
    assert metadata.title(1) == "Twenty"
    assert ItemMetadata().title(0) is None


def test_last_seen_is_unknown_without_times_and_for_items_never_met() -> None:
    items = IdMap((1, 2))
    assert ItemMetadata.of(items, Histories.from_rows([[0]], 2), {}, {}).last_seen == (None, None)
    assert ItemMetadata.of(items, Histories.from_rows([[0]], 2, times=[[7]]), {}, {}).last_seen == (7, None)
