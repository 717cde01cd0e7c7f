"""The sections of the page about finetuning: before/after, SFT rows beside published ones, Fig. 2, 3, 12, scale."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mlutils.reporting import changes_tables, tables
from mlutils.reporting.collected import gather, reports
from mlutils.reporting.drawing import Picture
from mlutils.reporting.generation import publish
from mlutils.reporting.pages import Section

NOTEBOOK = "30_finetuning"
TRAINED = {
    "name": "Adapter",
    "documents": "documents",
    "shots": "demonstrations in training",
    "tokens": "tokens",
    "seconds": "seconds",
}


def sections(records: Sequence[dict], folder: Path, root: Path) -> list[Section]:
    """Returns the sections of a run of 30_finetuning, none without one; its figures are copied into `folder`."""
    found = [record for record in records if record["notebook"] == NOTEBOOK]
    if not found:
        return []
    record = found[-1]
    levels, differences = (read(record, name) for name in ("changes", "differences"))
    links = (*reports(records, NOTEBOOK, root), *reports(records, "06_finetune", root))
    made = [_before_after(records, record, levels, differences, folder, links)] if len(differences) else []
    ladders = _pictures(record, "ladder", folder)
    if ladders:
        made.append(_scale(ladders, (*links[:1], *reports(records, "05_miniatures", root))))
    return made


def read(record: dict, name: str) -> pd.DataFrame:
    """Returns a table of `changes.compare` as the run left it; seeds and corpora are texts, empty for base models."""
    texts = {"seed": str, "tuned_on": str}
    return pd.read_csv(record["folder"] / f"{name}.csv", dtype=texts).fillna(dict.fromkeys(texts, ""))


def _before_after(records, record, levels, differences, folder, links) -> Section:
    blocks = []
    trained = gather(records, "adapters")
    if len(trained):
        kept = trained[[name for name in TRAINED if name in trained]].drop_duplicates("name")
        whole = {TRAINED[name]: "{:,.0f}" for name in kept if name != "name"}
        blocks.append(tables.html(kept.rename(columns=TRAINED), "Adapters, and what training them took.", whole))
    for table, signed in ((levels, False), (differences, True)):
        told = changes_tables.by_tuning(table, record.get("sizes", {}), signed)
        blocks += [tables.html(shown, f"{caption}.") for caption, shown in told]
    beside = changes_tables.beside_published(levels)
    if len(beside):
        caption = "SFT rows of Tables 2 and 5 (supervised): ours [95 % interval] (documents) beside the published."
        blocks.append(tables.html(beside.fillna(tables.MISSING), caption))
    drawn = ("before_after", "fig12", "fig2", "fig3")
    pictured = [picture for start in drawn for picture in _pictures(record, start, folder)]
    runs = [(each, f"learning-{each['folder'].name}") for each in records if each["notebook"] == "06_finetune"]
    pictured += [picture for each, name in runs if (picture := publish(each, "learning", folder, name)) is not None]
    return Section(
        "What finetuning changes, Fig. 12",
        "The same documents before and after: a base model, and models tuned from it by SFT (without, or *in context* "
        "with demonstrations), soft targets on unary questions, or reinforcement learning with the F1 of the answer or "
        "the distance of the sampling marginals to the vote shares as reward.",
        (*blocks, *((picture, _caption(picture)) for picture in pictured)),
        "The paper compares finetuned with base models of 8B and 70B; its evidence on RL is instruction-tuned models. "
        "Ours are adapters trained in minutes. Models with three seeds or more: mean over seeds, documents and seeds "
        "resampled together. Published SFT rows are the same for 8B and 70B.",
        links,
    )


def _scale(ladders, links) -> Section:
    return Section(
        "Scale: the ladder of miniatures",
        "The same quantities against the number of parameters. Lines join models that differ in size alone; other "
        "models stand by themselves, as they were trained on other data.",
        tuple((picture, _caption(picture)) for picture in ladders),
        "The paper's sizes are 1B to 72B parameters; ours are a thousand times smaller.",
        links,
    )


def _caption(picture):
    """Returns the first sentence of the alternative text, with the number of the paper's figure."""
    number = re.search(r"fig(\d+)", picture.path.stem)
    return (f"Fig. {number[1]}: " if number else "") + picture.alt.partition(". ")[0].rstrip(".")


def _pictures(record: dict, start: str, folder: Path) -> list[Picture]:
    """Returns the figures of a run whose names begin so, copied into `folder`, under a name of their own there."""
    files = sorted(
        file
        for file in record["folder"].glob(f"{start}*.png")
        if file.stem == start or file.stem.startswith(f"{start}-")
    )
    return [publish(record, file.stem, folder, f"tuned_{file.stem}") for file in files]
