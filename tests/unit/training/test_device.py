import pytest
import torch

from recsys_ae.errors import ConfigError
from recsys_ae.training import device
from recsys_ae.training.device import resolve_device, resolve_precision

CPU = torch.device("cpu")


def test_auto_is_cuda_where_there_is_a_device() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", "meta", ""])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{name}'"):
        resolve_device(name)


@pytest.mark.parametrize(("speedup", "expected"), [(0.3, torch.float32), (1.1, torch.float32), (3.0, torch.bfloat16)])
def test_auto_precision_follows_what_was_measured(
    speedup: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "bfloat16_speedup", lambda _: speedup)
    assert resolve_precision("auto", CPU) == expected


def test_a_stated_precision_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "bfloat16_speedup", lambda _: pytest.fail("measured"))
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16


def test_measuring_leaves_the_global_rng_untouched() -> None:
    device.bfloat16_speedup.cache_clear()
    before = torch.get_rng_state()
    assert device.bfloat16_speedup("cpu") > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_measuring_puts_the_number_of_threads_back() -> None:
    threads = torch.get_num_threads()
    device.bfloat16_speedup.cache_clear()
    assert device.bfloat16_speedup("cpu") > 0
    assert torch.get_num_threads() == threads
