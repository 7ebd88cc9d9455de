"""Top-k of others on our scores: CUB's sorts and top-k, and torch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sparse_detr_deploy.errors import SparseDetrError

from .contenders import OURS, Check, Contender
from .kernels import Kernels
from .peer_library import SEGMENTED_SORT, SORT, TOPK, PeerLibrary, PeerSelection, address, current_stream

METHODS = {"cub_sort": SORT, "cub_segmented_sort": SEGMENTED_SORT, "cub_topk": TOPK}
NOTES = {
    "cub_sort": "sorts all scores of one image; stable, indices by score",
    "cub_segmented_sort": "sorts all scores of each image; stable, indices by score",
    "cub_topk": "indices in no order, ties as it comes",
    "torch_topk": "sorted=False: indices in no order, ties as it comes",
    "torch_topk_ascending": "torch.topk, then torch.sort of the indices: what our op gives, but for ties",
}


class PeerSelectionCall:
    """One call of CUB with its buffers and workspace."""

    def __init__(self, library: PeerLibrary, scores: Tensor, keep: int, method: int) -> None:
        """Allocate; errors as of :meth:`PeerLibrary.launch` where CUB has no such method."""
        self._library = library
        batch, tokens = scores.shape
        device = scores.device
        self._scores, self._keep = scores, keep
        self._positions = torch.arange(tokens, dtype=torch.int32, device=device).repeat(batch, 1)
        self._boundaries = torch.arange(batch + 1, dtype=torch.int32, device=device) * tokens
        self._kept_scores = torch.empty_like(scores)
        self.output = torch.empty(batch, tokens, dtype=torch.int32, device=device)
        self.arguments = PeerSelection(
            scores=address(scores),
            positions=address(self._positions),
            boundaries=address(self._boundaries),
            kept_scores=address(self._kept_scores),
            kept_positions=address(self.output),
            batch=batch,
            tokens=tokens,
            keep=keep,
            method=method,
        )
        self.launch()  # without a workspace it only writes how many bytes one takes
        size = max(1, self.arguments.workspace_bytes)
        self._workspace = torch.empty(size, dtype=torch.uint8, device=device)
        self.arguments.workspace = address(self._workspace)

    def launch(self) -> None:
        """Enqueue on torch's current stream."""
        self._library.launch(self.arguments, current_stream(self._scores))

    def result(self) -> Tensor:
        """[B, keep] indices."""
        kept = self.output[:, : self._keep]
        return kept.long()


def selection_check(scores: Tensor, expected: Tensor) -> Check:
    """Share of the kept scores, by rank, that are not those of ``expected`` [B, keep]; order and ties are free."""
    wanted = scores.cpu().gather(1, expected.cpu()).sort(1).values

    def check(indices: Tensor) -> float:
        on_host = indices.cpu()
        if on_host.shape != expected.shape or int(on_host.min()) < 0 or int(on_host.max()) >= scores.shape[1]:
            return 1.0
        if bool((on_host.sort(1).values.diff(dim=1) == 0).any()):  # one token twice
            return 1.0
        kept = scores.cpu().gather(1, on_host).sort(1).values
        return float((kept != wanted).double().mean())

    return check


def cub_contenders(library: PeerLibrary | str, scores: Sequence[Tensor], keep: int) -> Mapping[str, Contender | str]:
    """CUB's ways; a text in place of the library is why there is none."""
    contenders: dict[str, Contender | str] = {}
    for name, method in METHODS.items():
        if isinstance(library, str):
            contenders[name] = library
            continue
        try:
            calls = [PeerSelectionCall(library, score, keep, method) for score in scores]
        except SparseDetrError as why:
            contenders[name] = str(why)
            continue
        runs = [call.launch for call in calls]
        contenders[name] = Contender(runs, calls[0].result, 0.0, calls[0].output, note=NOTES[name])
    return contenders


def torch_contenders(scores: Sequence[Tensor], keep: int) -> Mapping[str, Contender]:
    """torch.topk, and with ascending indices."""

    def topk(score: Tensor) -> Tensor:
        return torch.topk(score, keep, dim=1, sorted=False).indices

    def ascending(score: Tensor) -> Tensor:
        return topk(score).sort(dim=1).values

    return {
        name: Contender(
            [lambda score=score, way=way: way(score) for score in scores],  # type: ignore[misc]
            lambda way=way: way(scores[0]),  # type: ignore[misc]
            0.0,
            note=NOTES[name],
        )
        for name, way in {"torch_topk": topk, "torch_topk_ascending": ascending}.items()
    }


def our_selection(kernels: Kernels, scores: Sequence[Tensor], keep: int) -> Mapping[str, Contender]:
    """Our kernel."""
    outputs = [kernels.select_tokens(score, None, keep) for score in scores]
    runs = [
        lambda score=score, output=output: kernels.select_tokens(score, None, keep, output=output)  # type: ignore[misc]
        for score, output in zip(scores, outputs, strict=True)
    ]
    return {OURS: Contender(runs, lambda: outputs[0], 0.0, outputs[0])}
