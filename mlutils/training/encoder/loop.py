"""The training loop of encoders: batches of similar length, rates by layer, checkpoints and resume."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mlutils.corpora import Corpus
from mlutils.training.checkpoints import Checkpoint
from mlutils.training.encoder.network import EncoderError, Inputs, Network, layers, loss

EVERY = 200  # steps from checkpoint to checkpoint
AT_ONCE = 64  # texts of a batch where nothing is trained


def _groups(network, recipe):
    """Returns AdamW's parameter groups: rates fall layer by layer; no decay for offsets and norms."""
    stack = layers(network.encoder)
    rates = {id(p): recipe.encoder_rate for p in network.encoder.parameters()}
    parts = [network.encoder.embeddings, *stack]
    for depth, part in enumerate(reversed(parts)):
        rates |= {id(p): recipe.encoder_rate * recipe.layer_decay**depth for p in part.parameters()}
    groups = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            decay = 0.01 if parameter.ndim > 1 else 0.0
            groups.setdefault((rates.get(id(parameter), recipe.head_rate), decay), []).append(parameter)
    return [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in groups.items()]


def _batches(lengths, recipe, epoch):
    """Returns an epoch's batches of rows: shuffled, of similar length, the same for the same seed."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(len(lengths))
    near = [chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in _chunks(order, 32 * recipe.batch)]
    batches = [each for chunk in near for each in _chunks(chunk, recipe.batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _chunks(array, size):
    return [array[start : start + size] for start in range(0, len(array), size)]


def fit(
    network: Network,
    inputs: Inputs,
    corpus: Corpus,
    targets: np.ndarray,
    weights: np.ndarray,
    rows: np.ndarray,
    recipe,
    folder: Path | None,
) -> list[float]:
    """Trains the network in place, from the folder's checkpoint if there is one; returns each step's loss.

    targets: (D, L) and weights: (D,) of the corpus; rows: the documents that are trained on.
    """
    optimizer = torch.optim.AdamW(_groups(network, recipe))
    sequences = inputs.encode(corpus.documents["text"])
    lengths = np.array([len(sequences[row]) for row in rows])
    plan = [batch for epoch in range(recipe.epochs) for batch in _batches(lengths, recipe, epoch)]
    warm = max(1, round(recipe.warmup * len(plan)))
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (len(plan) - step) / max(1, len(plan) - warm + 1))
    )
    device = next(network.parameters()).device
    arrays = [torch.as_tensor(each, dtype=torch.float32) for each in (targets, corpus.gold, weights)]
    checkpoint = Checkpoint(
        None if folder is None else Path(folder) / "checkpoint.pt",
        _fingerprint(recipe, corpus.documents["id"].iloc[rows], [each[rows] for each in arrays]),
        {"network": network, "optimizer": optimizer, "scheduler": scheduler},
        EncoderError,
    )
    losses = []
    if saved := checkpoint.resume():
        losses = saved["losses"]
        torch.set_rng_state(saved["random"])
    intra = recipe.intra if recipe.head == "demux" else 0.0
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.train()
    bar = tqdm(range(len(losses), len(plan)), desc=f"train {recipe.encoder}", unit="step", leave=False, disable=None)
    for step in bar:
        picked = rows[plan[step]]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.half):
            logits = network(inputs.collate([sequences[row] for row in picked], device))
        value = loss(logits.float(), *(each[picked].to(device) for each in arrays), corpus.single_label, intra)
        if not torch.isfinite(value):
            raise EncoderError(f"the loss is {value.item()} at step {step}: lower encoder_rate or head_rate")
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(value.item())
        if (step + 1) % EVERY == 0 or step + 1 == len(plan):
            checkpoint.save(losses=losses, random=torch.get_rng_state())
    return losses


def _fingerprint(recipe, ids, arrays):
    """Returns a hash of all that decides the training: the recipe, the documents, targets and weights."""
    known = hashlib.sha256(json.dumps([dataclasses.asdict(recipe), list(ids)]).encode())
    for each in arrays:
        known.update(each.numpy().tobytes())
    return known.hexdigest()


@torch.no_grad()
def predict_logits(network: Network, inputs: Inputs, texts: Sequence[str], half: bool = False) -> np.ndarray:
    """Returns the network's logits (D, L) of texts, float64."""
    network.eval()
    device = next(network.parameters()).device
    sequences = inputs.encode(texts)
    order = np.argsort([len(each) for each in sequences], kind="stable")
    found = []
    for rows in _chunks(order, AT_ONCE):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            found.append(network(inputs.collate([sequences[row] for row in rows], device)).double().cpu().numpy())
    return np.concatenate(found)[np.argsort(order)]
