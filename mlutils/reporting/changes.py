"""What tuning and size change, as tables, and the rows for Fig. 2, 3 and 12."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from mlutils.metrics import METRICS, PRINTED
from mlutils.readouts import changes, methods, steps
from mlutils.readouts.changes import ALL, QUANTITIES
from mlutils.readouts.model_names import BASE, parse
from mlutils.reporting import published
from mlutils.reporting.looks import BLACK, BLUE, GREEN, ORANGE, PINK, RED, look
from mlutils.reporting.published import corpus_title

TUNINGS = {  # title, colour, marker, dash; a chain has the look of its last stage, hollow, others one of their own
    BASE: ("Base", BLACK, "o", "-"),
    "sft": ("SFT", RED, "s", "--"),
    "sft_icl": ("SFT in context", ORANGE, "v", "-."),
    "soft": ("Soft targets", GREEN, "^", ":"),
    "rl_f1": ("RL (F1)", BLUE, "D", "--"),
    "rl_marginals": ("RL (marginals)", PINK, "P", "-."),
}


def tuning_title(tuning: str, tuned_on: str, corpus: str) -> str:
    """Returns how a tuning is written, with the corpus where it was another one."""
    parts = []
    for part in tuning.split("+"):
        method, shown, _ = part.partition("_icl")  # trained behind demonstrations
        parts.append(TUNINGS.get(method, (method,))[0] + (" in context" if shown else ""))
    return ", then ".join(parts) + ("" if tuned_on in ("", corpus) else f" on {corpus_title(tuned_on)}")


def for_pairs(levels: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Returns the readouts' rows as `tuning.pair_up` takes them, and the pairs of a base and a tuned model (Fig. 12).

    A pair has most of the demonstrations that both were asked with; without rows over seeds the first seed stands.
    """
    rows = _sorted(changes.final(levels))
    rows = rows[rows["quantity"].str.contains(" ") & rows["mean"].notna()]
    rows = rows.groupby([*changes.KEYS[:6], "quantity"], sort=False).head(1)
    named = rows["quantity"].str.split(" ", n=1)
    table = rows.assign(metric=named.str[0], method=named.str[1])
    table["model"] = [
        f"{row.base}, {'' if row.tuning == BASE else tuning_title(row.tuning, row.tuned_on, row.corpus) + ', '}"
        f"{row.shots} demonstrations"
        for row in rows.itertuples()
    ]
    is_base, same = table["tuning"] == BASE, ["corpus", "documents", "base", "shots"]
    both = table[~is_base].merge(
        table.loc[is_base, [*same, "model"]].drop_duplicates(), on=same, suffixes=("", "_base")
    )
    both = both[both["shots"] == both.groupby(["base", "tuning", "tuned_on"])["shots"].transform("max")]
    return table, list(dict.fromkeys(zip(both["model_base"], both["model"], strict=True)))


def gather_steps(traces: Sequence, base: str, conventions: str = "ours") -> pd.DataFrame:
    """Returns the label steps of a base model and its tuned models for `spikiness` (Fig. 2, 3).

    Of most demonstrations and the first seed. A tuning is a row of panels, a corpus a column: `corpus` holds the
    tuning's title, `model` the corpus.

    Raises ValueError where no trace is of the base model or one tuned from it.
    """
    found = {}
    for trace in changes.choose(traces):
        name, corpus = parse(trace.settings["model"]), trace.settings["corpus"]
        if name.base == base:
            rank = (-int(trace.settings["shots"]), name.seed, -len(trace.documents))
            found.setdefault((name.tuning, name.tuned_on, corpus), []).append((rank, trace))
    if not found:
        raise ValueError(f"no trace is of {base} or of a model tuned from it")
    tunings = order_tunings(pd.DataFrame(list(found), columns=["tuning", "tuned_on", "corpus"]))
    frames = []
    for tuning, tuned_on in tunings:
        for corpus in dict.fromkeys(key[2] for key in found if key[:2] == (tuning, tuned_on)):
            trace = min(found[tuning, tuned_on, corpus], key=lambda each: each[0])[1]
            table = steps.tabulate(trace, conventions=conventions)
            frames.append(table.assign(model=corpus_title(corpus), corpus=tuning_title(tuning, tuned_on, corpus)))
    return pd.concat(frames, ignore_index=True)


def wide(table: pd.DataFrame, quantities: Sequence[str], signed: bool = False) -> pd.DataFrame:
    """Returns the rows to read as a table of texts: corpus, base, tuning, shots, seeds, a column a quantity.

    A cell is a mean with its interval and, in brackets, the number of steps, answers or documents behind it. table: of
    `changes.compare`; shares in percent; signed: differences, an asterisk where the interval is off zero.
    """
    found = in_percent(_sorted(changes.final(table)))
    rows: dict[tuple, dict] = {}
    for row in found.itertuples():
        key = (row.corpus, row.documents, row.base, row.tuning, row.tuned_on, row.shots, row.seed)
        cells = rows.setdefault(
            key,
            {
                "Corpus": f"{corpus_title(row.corpus)} ({row.documents})",
                "Model": row.base,
                "Tuning": tuning_title(row.tuning, row.tuned_on, row.corpus),
                "Shots": row.shots,
                "Seeds": f"{row.seeds}, mean" if row.seed == ALL else row.seed or "–",
            },
        )
        if row.quantity in quantities:
            cells[QUANTITIES[row.quantity].title] = _text(row, signed)
    return pd.DataFrame(list(rows.values())).reindex(
        columns=["Corpus", "Model", "Tuning", "Shots", "Seeds", *(QUANTITIES[name].title for name in quantities)]
    )


def _text(row, signed):
    if np.isnan(row.mean):
        return "–"
    digits = QUANTITIES[row.quantity].decimals
    number = f"{row.mean:+.{digits}f}" if signed else f"{row.mean:.{digits}f}"
    sure = "*" if signed and (row.low > 0 or row.high < 0) else ""
    interval = "" if np.isnan(row.low) else f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    return f"{number}{sure}{interval} ({row.n:.0f})"


def in_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of `changes.compare` with shares in percent."""
    factor = np.where([QUANTITIES[name].percent for name in rows["quantity"]], 100.0, 1.0)
    return rows.assign(**{name: rows[name] * factor for name in ("mean", "low", "high")})


def order_tunings(levels: pd.DataFrame) -> list[tuple[str, str]]:
    """Returns the tunings (tuning, tuned on) of a table: base first, chains behind their methods."""
    known = list(TUNINGS)
    place = lambda each: [known.index(part) if part in known else len(known) for part in each[0].split("+")]  # noqa: E731
    found = set(zip(levels["tuning"], levels["tuned_on"], strict=True))
    return sorted(found, key=lambda each: (each[0].count("+"), place(each), each))


def _sorted(rows):
    """Returns rows by corpus, sample, base model and number of demonstrations, the base before its tunings."""
    rank = {each: i for i, each in enumerate(order_tunings(rows))}
    rows = rows.assign(rank=[rank[row.tuning, row.tuned_on] for row in rows.itertuples()])
    return rows.sort_values(["corpus", "documents", "base", "shots", "rank"], kind="stable").drop(columns="rank")


def tuned_groups(levels: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yields corpus, sample and base model, and their rows, where there is a tuned model beside the base."""
    for key, rows in levels.groupby(["corpus", "documents", "base"], sort=False):
        if {BASE} < set(rows["tuning"]):
            yield key, rows


def file_name(*words: str) -> str:
    """Returns a file's name of some words."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", word).strip("_.-") for word in words)


def describe(levels: pd.DataFrame, quantity: str) -> str:
    """Returns the rows to read of a quantity in words, for alternative texts."""
    rows = in_percent(changes.final(levels[levels["quantity"] == quantity])).dropna(subset="mean")
    told = [
        f"{row.base}, {tuning_title(row.tuning, row.tuned_on, row.corpus)}, {row.shots} shots {row.mean:.2f}"
        for row in rows.itertuples()
    ]
    return f"{QUANTITIES[quantity].title}: {'; '.join(dict.fromkeys(told)) or 'none'}."


def describe_steps(table: pd.DataFrame, quantity: str) -> str:
    """Returns the medians at r = 1 of a quantity of `gather_steps` in words: first or second."""
    medians = table[table["step"] == 1].groupby(["model", "corpus"], sort=False)[quantity].median()
    return "; ".join(f"{corpus}, {tuned} {value:.2f}" for (corpus, tuned), value in medians.items())


def beside_published(levels: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows SFT outputs and SFT max-over-generations, ours and the paper's (Tables 2, 5), as texts.

    Only of corpora for which the paper has such rows; empty where it has none. Ours with 95 % intervals.
    """
    rows = changes.final(
        levels[levels["tuning"].str.startswith("sft") & ~levels["tuning"].str.contains("+", regex=False)]
    )
    theirs = published.alignment()
    table = []
    for method, readout in ((name, methods.METHODS[name].after_sft) for name in methods.select("after_sft")):
        for corpus in dict.fromkeys(rows["corpus"]):
            paper = theirs[(theirs["corpus"] == corpus) & (theirs["method"] == method)]
            paper = paper.drop_duplicates("metric").set_index("metric")["value"]
            if paper.empty:
                continue
            first = {"Corpus": corpus_title(corpus), "Row": look(method).title}
            table.append(first | {"Model": "published"} | {m: f"{paper[m]:.2f}" for m in PRINTED})
            ours = rows[rows["quantity"].isin([f"{m} {readout}" for m in PRINTED]) & (rows["corpus"] == corpus)]
            for key, found in ours.groupby(["documents", "base", "tuning", "tuned_on", "shots", "seed"], sort=False):
                name = f"{changes.name_tuned(*key[1:4])}, {key[4]} shots" + (
                    "" if key[5] == ALL else f", seed {key[5]}"
                )
                cells = {row.quantity.split()[0]: _text(row, False) for row in found.itertuples()}
                table.append(first | {"Model": f"{name} ({key[0]}, n = {found['n'].max()})"} | cells)
    names = {metric: METRICS[metric].title for metric in PRINTED}
    return pd.DataFrame(table, columns=["Corpus", "Row", "Model", *names]).rename(columns=names)
