"""Labels without texts (`data/labels`): what annotators said about the documents of corpora whose licences allow it.

With them everything behind the texts can be worked out where the files of a corpus are not at hand: base rates, noise
floors, which documents are trained on. In place of a text stands a mark that is the same for copies of it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlutils import paths
from mlutils.corpora.corpus import SPLITS, Corpus, EmptyError, parts
from mlutils.corpora.descriptions import short_name
from mlutils.files import write_table
from mlutils.sources import SourceError

PARTS = SPLITS["all"]


def stand_in(mark: str) -> str:
    """Returns what stands in place of a text that is not at hand."""
    return f"⟨text not at hand: {mark}⟩"


def find(name: str, options: Mapping) -> Path:
    """Returns the file of a corpus read with these options, there or not."""
    given = "".join(f"-{key}={value}" for key, value in sorted(options.items()))
    return paths.LABELS / f"{short_name(name)}{given}.parquet"


def write(by_split: Mapping[str, Corpus], options: Mapping, marks: list[str]) -> Path:
    """Writes the labels of a corpus.

    by_split: the corpus by part (train, dev, test, as far as there are such) and `all`; marks: of the texts of `all`.
    """
    whole = by_split["all"]
    part = pd.Series("", index=whole.documents["id"])
    for name in PARTS:
        if name in by_split:
            part[list(by_split[name].documents["id"])] = name
    table = pd.DataFrame(
        {
            "id": whole.documents["id"],
            "part": part.to_numpy(),
            "mark": marks,
            "gold": list(whole.gold),
            "votes": list(whole.votes),
            "annotators": whole.annotators,
        }
    )
    about = {"name": whole.name, "labels": list(whole.labels), "single_label": whole.single_label}
    about["missing"] = {name: list(corpus.missing) for name, corpus in by_split.items()}
    file = find(whole.name, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(file, table, exact=True, about={"corpus": json.dumps(about)})
    return file


def read(name: str, split: str, options: Mapping) -> Corpus:
    """Returns a split of a corpus without texts. Raises SourceError where its labels are not released."""
    file = find(name, options)
    if not file.exists():
        raise SourceError(f"the labels of {name} are not in {file}")
    wanted = parts(split)
    named = ["all"] if split == "all" else wanted
    try:
        written = pq.read_table(file)
        about = json.loads(written.schema.metadata[b"corpus"])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise SourceError(f"{file} cannot be read ({error}): get it again (git checkout {file})") from error
    table = written.to_pandas()
    table = table if split == "all" else table[table["part"].isin(wanted)].reset_index(drop=True)
    if table.empty:
        raise EmptyError(f"{file} holds no document of split {split!r}: take another split")
    shape = len(table), len(about["labels"])
    return Corpus(
        name=name,
        split=split,
        sample="all",
        labels=tuple(about["labels"]),
        documents=pd.DataFrame({"id": table["id"].astype(str), "text": table["mark"].map(stand_in)}),
        gold=np.array(table["gold"].tolist(), bool).reshape(shape),
        votes=np.array(table["votes"].tolist(), float).reshape(shape),
        annotators=table["annotators"].to_numpy(int),
        single_label=about["single_label"],
        missing=tuple(sum((about["missing"].get(each, []) for each in named), [])),
        texts=False,
    )
