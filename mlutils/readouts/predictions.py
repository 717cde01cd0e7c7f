"""Label probabilities of supervised methods as files, so that they stand in the same tables as readouts of traces."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from mlutils.files import replacing


def write(folder: Path, name: str, ids: Sequence[str], labels: Sequence[str], predicted: dict[str, np.ndarray]) -> None:
    """Writes the probabilities (D, L) of each method for one test set, by document id, into a run's folder."""
    rows = [
        {"document": document, "method": method, "labels": list(labels), "probabilities": list(map(float, row))}
        for method, values in predicted.items()
        for document, row in zip(ids, values, strict=True)
    ]
    with replacing(Path(folder) / f"predictions-{name}.parquet") as draft:
        pd.DataFrame(rows).to_parquet(draft)


def read(folder: Path, name: str, ids: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the probabilities (D, L) of each method for a test set, in the order of `ids`; {} where there are none.

    Raises ValueError where labels are others, a document is missing, or the file is damaged.
    """
    file = Path(folder) / f"predictions-{name}.parquet"
    if not file.exists():
        return {}
    try:
        table = pd.read_parquet(file)
    except (OSError, ArrowException) as error:
        raise ValueError(
            f"{file} cannot be read ({error}): delete it and run 07_encoder in its folder again"
        ) from error
    found = {}
    for method, rows in table.groupby("method", sort=False):
        if list(rows["labels"].iloc[0]) != list(labels):
            raise ValueError(f"{file}: {method} predicts {list(rows['labels'].iloc[0])}, wanted {list(labels)}")
        by_document = rows.set_index("document")["probabilities"]
        if missing := set(ids) - set(by_document.index):
            raise ValueError(f"{file}: {method} lacks {len(missing)} documents, e.g. {min(missing)}: run it again")
        found[method] = np.array([by_document[document] for document in ids])
    return found
