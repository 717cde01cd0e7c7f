"""MSP-Podcast 1.11 (Lotfian and Busso 2019): the primary emotion of spoken utterances, read from transcripts.

Licensed: the files are asked for at the MSP laboratory and put into the mirror folder as `msp-podcast/Labels/...` and
`msp-podcast/Transcripts/...` (one text file an utterance). Written from public descriptions of the files.
"""

import re

import numpy as np
import pandas as pd

from mlutils import sources
from mlutils.corpora.corpus import Corpus, check_filled, parts, reading, shares

# Letters of the consensus file and words of the detailed file; O (other) and X (no agreement) are no label.
LETTERS = {
    "A": "angry",
    "C": "contempt",
    "D": "disgust",
    "F": "fear",
    "H": "happy",
    "N": "neutral",
    "S": "sad",
    "U": "surprise",
}
LABELS = tuple(sorted(LETTERS.values()))
NO_LABEL = {"O", "X"}
SPLITS = {"train": ("Train",), "dev": ("Development",), "test": ("Test1", "Test2")}


def load(split: str = "dev") -> Corpus:
    """Returns MSP-Podcast: text = transcript, votes = share of annotators by their primary emotion, gold = consensus.

    An annotator whose primary emotion is another word ("other") takes no part. Utterances without a consensus have no
    gold label; those without a transcript, or without an annotator who takes part, are in `missing`. Raises
    SourceError where the files are not in the mirror, ValueError for columns or labels that are not known.
    """
    wanted = [name for part in parts(split) for name in SPLITS[part]]
    consensus = _read("msp_podcast-consensus", ["FileName", "EmoClass", "Split_Set"])
    names = ", ".join(sorted(set(consensus["Split_Set"])))
    consensus = consensus[consensus["Split_Set"].isin(wanted)].reset_index(drop=True)
    if unknown := sorted(set(consensus["EmoClass"]) - set(LETTERS) - NO_LABEL):
        raise ValueError(f"labels_consensus.csv has the classes {unknown}; known are {sorted({*LETTERS, *NO_LABEL})}")
    detailed = _read("msp_podcast-detailed", ["FileName", "EmoDetail"])
    detailed = detailed[detailed["FileName"].isin(consensus["FileName"])].reset_index(drop=True)
    annotations = _primary(detailed)

    folder = sources.mirror_folder("msp_podcast-transcripts")
    files = {name: folder / f"{name.rpartition('.')[0]}.txt" for name in consensus["FileName"]}
    voted = set(annotations["id"])
    there = np.array([name in voted and file.is_file() for name, file in files.items()], bool)
    kept = consensus[there].reset_index(drop=True)
    counts = {part: int(kept["Split_Set"].isin(SPLITS[part]).sum()) for part in parts(split)}
    where = f"labels_consensus.csv, whose Split_Set holds {names}, with transcripts in {folder}"
    check_filled("msp_podcast", split, counts, where)
    texts = [_read_words(files[name]) for name in kept["FileName"]]
    votes, annotators = shares(annotations, kept["FileName"], LABELS)
    return Corpus(
        name="msp_podcast",
        split=split,
        sample="all",
        labels=LABELS,
        documents=pd.DataFrame({"id": kept["FileName"], "text": texts}, dtype=str),
        gold=np.array(
            [[LETTERS.get(letter) == label for label in LABELS] for letter in kept["EmoClass"]], bool
        ).reshape(len(kept), len(LABELS)),
        votes=votes,
        annotators=annotators,
        single_label=True,
        annotations=annotations[annotations["id"].isin(kept["FileName"])].reset_index(drop=True),
        missing=tuple(consensus["FileName"][~there]),
    )


def _read(source, needed):
    path = sources.fetch(source)
    with reading(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    if absent := [column for column in needed if column not in table]:
        raise ValueError(f"{path} has no columns {absent}; its columns are {list(table)} (is it release 1.11?)")
    return table


def _read_words(file):
    with reading(file):
        return " ".join(file.read_text(encoding="utf-8").split())


def _primary(detailed):
    """Returns one row an annotation: id, annotator, one bool column a label, from `WORKER...; Major; ...`."""
    rows = []
    for name, detail in zip(detailed["FileName"], detailed["EmoDetail"], strict=True):
        fields = [field.strip() for field in detail.split(";")]
        if len(fields) < 2 or not re.fullmatch(r"WORKER\w+", fields[0]):
            raise ValueError(f"labels_detailed.csv: {name} has EmoDetail {detail!r}, not `WORKER...; emotion; ...`")
        primary = fields[1].casefold()
        if primary in LABELS:
            rows.append((name, fields[0], *(primary == label for label in LABELS)))
        elif not primary.startswith("other"):
            raise ValueError(f"labels_detailed.csv: {name} has the emotion {fields[1]!r}; known are {LABELS} and Other")
    return pd.DataFrame(rows, columns=["id", "annotator", *LABELS])
