"""The network of a supervised row: an encoder's states to one logit a label, its inputs and its losses."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn import functional

BATCH = ("input_ids", "attention_mask", "token_type_ids")


class EncoderError(ValueError):
    """An encoder, its vocabulary or its training documents cannot be used as asked."""


class Inputs:
    """Turns texts into token ids: "[CLS] text [SEP]", or for Demux "[CLS] label names [SEP] text [SEP]".

    spans: where each label's own tokens stand, one (start, stop) a label; empty for the pooled head.
    split: labels whose name the vocabulary cuts into several pieces (their states are averaged).
    """

    def __init__(self, tokenizer, labels: Sequence[str], head: str, max_tokens: int):
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise EncoderError("this vocabulary has no [CLS] and [SEP]: take an encoder of the BERT kind")
        if max_tokens < 3:
            raise EncoderError(f"max_tokens={max_tokens} leaves no room for a text between [CLS] and [SEP]")
        self.prefix, self.spans, self.split = [tokenizer.cls_token_id], [], []
        self.pad = tokenizer.pad_token_id or 0
        self.first_segment = 0  # tokens of the label names, 0 without them
        if head != "demux":
            return
        for label in labels:
            pieces = tokenizer(label, add_special_tokens=False)["input_ids"]
            if not pieces or set(pieces) <= {tokenizer.unk_token_id}:
                raise EncoderError(f"the vocabulary does not know label {label!r}; rename it or take head='pooled'")
            self.spans.append((len(self.prefix), len(self.prefix) + len(pieces)))
            self.prefix += pieces
            if len(pieces) > 1:
                self.split.append(label)
        self.prefix.append(tokenizer.sep_token_id)
        self.first_segment = len(self.prefix)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the token ids of each text; a text is cut at max_tokens, label names come on top."""
        room = self.max_tokens - 2
        texts = self.tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=room)["input_ids"]
        return [self.prefix + ids + [self.tokenizer.sep_token_id] for ids in texts]

    def collate(self, sequences: Sequence[Sequence[int]], device="cpu") -> dict[str, torch.Tensor]:
        """Returns a padded batch: input_ids, attention_mask, token_type_ids, each (B, T)."""
        longest = max(map(len, sequences))
        ids = torch.tensor([each + [self.pad] * (longest - len(each)) for each in sequences])
        mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in sequences])
        types = torch.zeros_like(ids)
        if self.first_segment:
            types[:, self.first_segment :] = 1
        return {name: each.to(device) for name, each in zip(BATCH, (ids, mask, types), strict=True)}


class Network(nn.Module):
    """An encoder and a head: "pooled" (mean over all tokens, one linear score a label) or "demux" (with `spans`).

    Demux scores a label from the mean of its own tokens' states, with two layers that all labels share. Both heads have
    an offset a label that starts at `offsets` (logits of the base rates), so training begins from the base rate.
    """

    def __init__(self, encoder, spans: Sequence[tuple[int, int]], offsets: ArrayLike, dropout: float = 0.1):
        super().__init__()
        size, labels = encoder.config.hidden_size, len(offsets)
        self.encoder, self.spans = encoder, list(spans)
        self.types = getattr(encoder.config, "type_vocab_size", 0) > 1
        self.dropout = nn.Dropout(dropout)
        if self.spans:
            self.hidden, self.score = nn.Linear(size, size), nn.Linear(size, 1, bias=False)
        else:
            self.hidden, self.score = nn.Identity(), nn.Linear(size, labels, bias=False)
        nn.init.normal_(self.score.weight, std=0.02)
        self.offsets = nn.Parameter(torch.as_tensor(offsets, dtype=torch.float32))

    def forward(self, batch):
        """Returns logits (B, L) of a collated batch."""
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self.types:
            given["token_type_ids"] = batch["token_type_ids"]
        states = self.encoder(**given).last_hidden_state.float()  # (batch, tokens, units)
        if self.spans:
            own = torch.stack(
                [states[:, start:stop].mean(dim=1) for start, stop in self.spans], dim=1
            )  # (batch, labels, units)
            # (batch, labels, units) to (batch, labels)
            return self.score(self.dropout(torch.tanh(self.hidden(own)))).squeeze(-1) + self.offsets
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return self.score(self.dropout(pooled)) + self.offsets


def layers(encoder):
    """Returns the layers of an encoder built like BERT, first to last; raises EncoderError for any other."""
    stack = getattr(encoder, "encoder", None) or getattr(encoder, "transformer", None)
    found = getattr(stack, "layer", None)
    if found is None or not hasattr(encoder, "embeddings"):
        raise EncoderError(f"{type(encoder).__name__} is not built like BERT (embeddings, encoder.layer); take another")
    return found


def loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    gold: torch.Tensor,
    weights: torch.Tensor,
    single_label: bool = False,
    intra: float = 0.0,
) -> torch.Tensor:
    """Returns the weighted mean over documents of cross-entropy plus `intra` x the intra-label loss.

    logits, targets, gold: (B, L); weights: (B,). Multi-label: binary cross-entropy, mean over labels.
    Single-label: cross-entropy of the softmax against annotator shares; the intra-label loss does not apply.
    """
    if single_label:
        each = -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1)
    else:
        each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
        if intra:
            each = each + intra * intra_label_loss(torch.sigmoid(logits), gold)
    return (weights * each).sum() / weights.sum()


def intra_label_loss(probabilities: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """Returns Demux's intra-label loss of each document, (B,) (Chochlakis et al. 2023).

    Labels that share their gold value are pulled to the same end: over pairs of absent labels the mean of
    exp(q_i + q_j), over pairs of present labels the mean of exp(-q_i - q_j), half of each; a group of fewer than two
    labels adds nothing. probabilities: (B, L); gold: (B, L), 0 or 1.
    """
    total = 0.0
    for sign, group in ((1.0, 1 - gold), (-1.0, gold)):
        powers = torch.exp(sign * probabilities) * group
        pairs = powers.sum(dim=1) ** 2 - (powers**2).sum(dim=1)  # each pair twice
        size = group.sum(dim=1)
        total = total + 0.5 * pairs / (size * (size - 1)).clamp(min=1)
    return total


def base_offsets(targets: ArrayLike, weights: ArrayLike, single_label: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits of the base rates (L,), and which labels train never or always shows, bool (L,)."""
    rates = np.average(targets, axis=0, weights=weights)
    constant = (rates <= 0) | (rates >= 1)
    safe = np.clip(rates, 1e-4, 1 - 1e-4)
    return (np.log(safe) if single_label else np.log(safe) - np.log1p(-safe)), constant
