import pytest
import torch

from recsys_ae import MODELS, Holdout, evaluate
from recsys_ae.top_k import top_k
from tests.worlds import N_ITEMS, cpu, fitted, ragged, small_config, tastes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("name", MODELS)
def test_cpu_and_gpu_scores_agree(name: str) -> None:
    model, histories = fitted(name, tastes()), ragged(5, 9, N_ITEMS)
    there = MODELS[name](model.config, N_ITEMS).restore({key: t.cuda() for key, t in model.tensors().items()})
    expected, found = model.score(histories), there.score(histories)
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    items = torch.tensor([3, 1])
    torch.testing.assert_close(there.score(histories, items).cpu(), found.cpu()[:, items], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_fits_on_the_gpu(name: str, holdout: Holdout) -> None:
    before = torch.cuda.get_rng_state()
    model = MODELS[name](small_config(name), N_ITEMS)
    record = model.fit(tastes(), validation=holdout, run=cpu(device="cuda"))
    assert record.device.startswith("cuda")
    assert {t.device.type for t in model.tensors().values()} == {"cuda"}
    assert evaluate(model, holdout, (5,)).users == len(holdout)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_ties_are_in_order_of_column_on_the_gpu_too() -> None:
    scores = torch.randint(-2, 3, (200, 500), generator=torch.Generator().manual_seed(0)).float()
    for k in (1, 10, 500):
        here, there = top_k(scores, k), top_k(scores.cuda(), k)
        assert torch.equal(here[1], there[1].cpu())
        assert torch.equal(here[0], there[0].cpu())
