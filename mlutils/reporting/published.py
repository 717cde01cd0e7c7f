"""The paper's own numbers, under the names this repository uses."""

import pandas as pd

from mlutils import metrics, paths
from mlutils.corpora import descriptions

MODELS = {
    "meta-llama/Llama-3.1-8B-Instruct": "Llama 3.1 8B Instruct",
    "meta-llama/Llama-3.3-70B-Instruct": "Llama 3.3 70B Instruct",
}
# Printed in the paper's text: Fig. 11, share of second labels that were second at the first step.
SECOND_RANK = {"8B": 0.50, "70B": 0.65}
SIZES = {"Llama 3.1 8B Instruct": "8B", "Llama 3.3 70B Instruct": "70B"}


def corpus_title(name: str) -> str:
    """Returns how a corpus is written in figures and tables, as its file says."""
    return descriptions.title(name)


def not_next() -> dict[str, tuple[float, float]]:
    """Returns by corpus the range over models of the steps whose second label is not said next (C4), in percent."""
    return {name: found["not_next"] for name, found in descriptions.published().items() if "not_next" in found}


def alignment() -> pd.DataFrame:
    """Returns Tables 2 and 5: table, model, group, method, corpus, metric (`metrics.PRINTED`), value."""
    wide = _read("table2_table5_alignment.csv").rename(columns={"example_f1": "f1"})
    wide["model"] = wide["model"].replace(MODELS)
    columns = ["table", "model", "group", "method", "corpus"]
    tidy = wide.melt(columns, list(metrics.PRINTED), "metric", "value")
    return tidy[tidy["value"].notna()].reset_index(drop=True)


def datasets() -> pd.DataFrame:
    """Returns Table 1, one row a number: corpus, statistic, value, below, printed.

    Where `below` is true the paper prints only an upper bound (`<1`), and `value` is that bound.
    """
    tidy = _read("table1_datasets.csv", dtype=str).melt("corpus", var_name="statistic", value_name="printed")
    others = [(name, *pair) for name, found in descriptions.published().items() for pair in found.items()]
    others = pd.DataFrame(others, columns=["corpus", "statistic", "printed"]).query("statistic != 'not_next'")
    tidy = pd.concat([tidy, others.astype(str)], ignore_index=True)
    tidy = tidy[tidy["printed"].notna()].reset_index(drop=True)
    tidy["below"] = tidy["printed"].str.startswith("<")
    tidy["value"] = tidy["printed"].str.lstrip("<").astype(float)
    return tidy[["corpus", "statistic", "value", "below", "printed"]]


def never_predicted() -> pd.DataFrame:
    """Returns Table 4: corpus, model, value (percent of second labels not said next that are never said)."""
    table = _read("table4_second_label_never_predicted.csv")
    return table.rename(columns={"pct_never_predicted_given_not_next": "value"})


def attention() -> pd.DataFrame:
    """Returns Table 6: corpus, model, mean attention per token, percent, on input, answer, first tokens."""
    return _read("table6_attention_pct.csv")


def label_order() -> pd.DataFrame:
    """Returns Table 7: order in the instruction, percent of answers in alphabetical and in that order."""
    return _read("table7_label_order_pct.csv")


def _read(name: str, **options) -> pd.DataFrame:
    frame = pd.read_csv(paths.PUBLISHED / name, **options)
    if "dataset" in frame:
        names = {title: corpus for corpus, title in descriptions.titles().items()}
        unknown = sorted(set(frame["dataset"]) - set(names))
        if unknown:
            raise ValueError(f"{name}: unknown data sets {unknown}; the files of data/corpora name {sorted(names)}")
        frame["dataset"] = frame["dataset"].map(names)
        frame = frame.rename(columns={"dataset": "corpus"})
    return frame
