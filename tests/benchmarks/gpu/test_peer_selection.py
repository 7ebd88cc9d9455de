"""Top-k of others: CUB behind the harness (a stand-in on host memory), and torch's."""

import pytest
import torch

from benchmarks.gpu.contenders import OURS, Contender, compare
from benchmarks.gpu.peer_selection import PeerSelectionCall, cub_contenders, selection_check, torch_contenders
from sparse_detr_deploy.modeling.ops import select_tokens
from tests.benchmarks.gpu.stand_ins import host_stopwatch


@pytest.mark.parametrize("batch", [1, 2])
def test_selection_by_cub_and_torch_is_the_exact_one(libraries, batch):
    scores = [torch.randn(batch, 400, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    expected = select_tokens(scores[0], torch.full((batch,), 121))
    check = selection_check(scores[0], expected)
    contenders = {**cub_contenders(libraries["cub"], scores, 121), **torch_contenders(scores, 121)}
    assert contenders.pop("cub_topk") == "the kernel does not offer this type or method"
    if batch > 1:
        assert contenders.pop("cub_sort") == "the kernel does not offer this type or method"
    ours = Contender([lambda: None], lambda: expected, 0.0)
    row = compare({OURS: ours, **contenders}, check, host_stopwatch, rounds=1, warm_up=0)
    assert {name: peer["error"] for name, peer in row["peers"].items()} == dict.fromkeys(contenders, 0.0)
    assert torch.equal(torch_contenders(scores, 121)["torch_topk_ascending"].result(), expected)


def test_the_selection_check_finds_one_wrong_or_doubled_token(libraries):
    scores = torch.arange(10.0)[None]
    check = selection_check(scores, torch.tensor([[7, 8, 9]]))
    assert check(torch.tensor([[9, 7, 8]])) == 0
    assert check(torch.tensor([[6, 8, 9]])) > 0
    assert check(torch.tensor([[9, 9, 8]])) == 1
    assert check(torch.tensor([[-1, -1, -1]])) == 1
    call = PeerSelectionCall(libraries["cub"], scores, 3, 0)
    call.launch()
    assert call.result().tolist() == [[9, 8, 7]]
