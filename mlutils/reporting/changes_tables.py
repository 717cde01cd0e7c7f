"""What tuning and size change, as tables to read, and the rows for the figures of `changes`."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mlutils.metrics import METRICS, PRINTED
from mlutils.readouts import changes, steps
from mlutils.readouts.changes import ALL, QUANTITIES
from mlutils.readouts.model_names import BASE, parse
from mlutils.reporting import published
from mlutils.reporting.drawing import line, where
from mlutils.reporting.looks import BLACK, BLUE, GREEN, ORANGE, PINK, RED, look
from mlutils.reporting.published import corpus_title
from mlutils.reporting.tables import MISSING, interval

TUNINGS = {  # title and style; a chain has the style of its last stage, hollow, others one of their own
    BASE: ("Base", line(BLACK, "o")),
    "sft": ("SFT", line(RED, "s", "--")),
    "sft_icl": ("SFT in context", line(ORANGE, "v", "-.")),
    "soft": ("Soft targets", line(GREEN, "^", ":")),
    "rl_f1": ("RL (F1)", line(BLUE, "D", "--")),
    "rl_marginals": ("RL (marginals)", line(PINK, "P", "-.")),
}
SHOWN = tuple(name for name, quantity in QUANTITIES.items() if quantity.drawn)


def tuning_title(tuning: str, tuned_on: str, corpus: str) -> str:
    """Returns how a tuning is written, with the corpus where it was another one."""
    parts = []
    for part in tuning.split("+"):
        method, shown, _ = part.partition("_icl")  # trained behind demonstrations
        parts.append(TUNINGS.get(method, (method,))[0] + (" in context" if shown else ""))
    return ", then ".join(parts) + ("" if tuned_on in ("", corpus) else f" on {corpus_title(tuned_on)}")


def by_tuning(
    table: pd.DataFrame, sizes: Mapping[str, int], signed: bool = False
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields a caption and a table of texts for each corpus, sample, base model and number of demonstrations.

    A row a quantity (of SHOWN), a column a tuning, the base first; a cell is a mean with its interval, a dash where no
    answer has such a step. n counts the steps, answers or documents behind a row; where tunings differ in it, it stands
    in brackets in each cell; `different`: of the tuning with the fewest different answers to that with the most. table:
    of `changes.compare`; sizes: parameters by base model, in whose order models stand; signed: differences, an asterisk
    where the interval is off zero. Shares are in percent.
    """
    found = in_percent(order_models(changes.final(table).query("quantity in @SHOWN"), sizes))
    for (corpus, documents, base, shots), rows in found.groupby(["corpus", "documents", "base", "shots"], sort=False):
        columns, lines = {}, []
        for (tuning, tuned_on, seed), cells in rows.groupby(["tuning", "tuned_on", "seed"], sort=False):
            which = f" ({cells['seeds'].iloc[0]} seeds)" if seed == ALL else f" (seed {seed})" if seed else ""
            columns[tuning_title(tuning, tuned_on, corpus) + which] = cells.set_index("quantity", drop=False)
        for name in (name for name in SHOWN if name in set(rows["quantity"])):
            cells = {title: each.loc[name] for title, each in columns.items() if name in each.index}
            counted = {cell["n"] for cell in cells.values()}
            texts = {title: _write(cell, signed, len(counted) > 1) for title, cell in cells.items()}
            n = f"{counted.pop():,.0f}" if len(counted) == 1 else ""
            told = [cell["different"] for cell in cells.values() if not np.isnan(cell["different"])]
            told = " to ".join(dict.fromkeys(f"{end(told):.1f}" for end in (min, max))) if told else MISSING
            lines.append({"Quantity": QUANTITIES[name].title, **texts, "n": n, "different": told})
        shown = pd.DataFrame(lines, columns=["Quantity", *columns, "n", "different"]).fillna(MISSING)
        what = f"{base}, tuned minus base" if signed else base
        caption = f"{what}, on {corpus_title(corpus)} ({documents}), {shots} demonstrations"
        yield caption, shown if shown["n"].any() else shown.drop(columns="n")


def _write(row, signed=False, counted=True):
    """Returns a row (shares in percent) as a text: mean, low, high, and n in brackets where counted."""
    if np.isnan(row["mean"]):
        return MISSING
    mean, low, high, digits = row["mean"], row["low"], row["high"], QUANTITIES[row["quantity"]].decimals
    text = interval(mean, low, high, digits)
    if signed:
        sure = "*" if low > 0 or high < 0 else ""
        text = f"{mean:+.{digits}f}{sure}" + text.removeprefix(f"{mean:.{digits}f}")
    return text + (f" ({row['n']:.0f})" if counted else "")


def beside_published(levels: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows SFT outputs and SFT max-over-generations, ours and the paper's (Tables 2, 5), as texts.

    Only of corpora for which the paper has such rows; empty where it has none. Ours with 95 % intervals.
    """
    rows = in_percent(changes.final(levels[levels["tuning"].str.fullmatch("sft[^+]*")]))  # no chains
    theirs = published.alignment()
    table = []
    for method, readout in (("sft_outputs", "hard_predictions"), ("sft_max_over_generations", "max_over_generations")):
        for corpus in dict.fromkeys(rows["corpus"]):
            paper = where(theirs, corpus=corpus, method=method).drop_duplicates("metric").set_index("metric")["value"]
            if paper.empty:
                continue
            first = {"Corpus": corpus_title(corpus), "Row": look(method).title}
            table.append(first | {"Model": "published"} | {m: f"{paper[m]:.2f}" for m in PRINTED})
            ours = rows[(rows["corpus"] == corpus) & rows["quantity"].isin([f"{m} {readout}" for m in PRINTED])]
            for key, found in ours.groupby(["documents", "base", "tuning", "tuned_on", "shots", "seed"], sort=False):
                seed = "" if key[5] == ALL else f", seed {key[5]}"
                name = f"{changes.name_tuned(*key[1:4])}, {key[4]} shots{seed} ({key[0]}, n = {found['n'].max()})"
                cells = {row["quantity"].split()[0]: _write(row) for row in found.to_dict("records")}
                table.append(first | {"Model": name} | cells)
    names = {m: METRICS[m].title for m in PRINTED}
    return pd.DataFrame(table, columns=["Corpus", "Row", "Model", *names]).rename(columns=names)


def pair_up(levels: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Returns readouts of base and tuned models side by side: base, tuned, method, metric, corpora, and of both mean,
    low, high (Fig. 12); no row where no tuned model stands beside its base.

    A pair has most of the demonstrations that both were asked with; without rows over seeds the first seed stands.
    Means are over the corpora that both have (the paper's are MFRC and GoEmotions); intervals of independent corpora
    are added in quadrature. levels: of `changes.compare`; sizes: as in `by_tuning`.
    """
    rows = order_models(changes.final(levels), sizes)
    rows = rows[rows["quantity"].str.contains(" ") & rows["mean"].notna()]  # metric and readout
    rows = rows.groupby([*changes.KEYS[:6], "quantity"], sort=False).head(1)
    names = [
        f"{row.base}, {'' if row.tuning == BASE else tuning_title(row.tuning, row.tuned_on, row.corpus) + ', '}"
        f"{row.shots} demonstrations"
        for row in rows.itertuples()
    ]
    rows = rows.assign(model=names)
    is_base, same = rows["tuning"] == BASE, ["corpus", "documents", "base", "shots", "quantity"]
    both = rows[~is_base].merge(rows[is_base], on=same, suffixes=("_tuned", "_base"))
    most = both.groupby(["base", "tuning_tuned", "tuned_on_tuned"])["shots"].transform("max")
    pairs = both.loc[both["shots"] == most, ["model_base", "model_tuned"]].drop_duplicates()
    paired = []
    for (base, tuned, quantity), found in pairs.merge(both).groupby([*pairs, "quantity"], sort=False):
        metric, method = quantity.split(" ", 1)
        row = {"base": base, "tuned": tuned, "method": method, "metric": metric, "corpora": len(found)}
        for side in ("base", "tuned"):
            mean = found[f"mean_{side}"].mean()
            arms = [found[f"{end}_{side}"] - found[f"mean_{side}"] for end in ("low", "high")]
            low, high = (np.sqrt((arm**2).sum()) / len(found) for arm in arms)
            row |= {f"mean_{side}": mean, f"low_{side}": mean - low, f"high_{side}": mean + high}
        paired.append(row)
    return pd.DataFrame(paired)


def gather_steps(traces: Sequence, base: str, conventions: str = "ours", repeats: str = "excluded") -> pd.DataFrame:
    """Returns the label steps of a base model and its tuned models, for Fig. 2 and 3 before and after.

    Of most demonstrations and the first seed. A tuning is a row of panels, a corpus a column: `corpus` holds the
    tuning's title, `model` the corpus. Raises ValueError where no trace is of the base model or one tuned from it.
    """
    found = {}
    for trace in changes.choose(traces):
        name = parse(trace.settings["model"])
        if name.base == base:
            rank = (-int(trace.settings["shots"]), name.seed, -len(trace.documents))
            found.setdefault((name.tuning, name.tuned_on, trace.settings["corpus"]), []).append((rank, trace))
    if not found:
        raise ValueError(f"no trace is of {base} or of a model tuned from it")
    tunings = order_tunings(pd.DataFrame(list(found), columns=["tuning", "tuned_on", "corpus"]))
    frames = []
    for tuning, tuned_on, corpus in sorted(found, key=lambda key: tunings.index(key[:2])):
        _, trace = min(found[tuning, tuned_on, corpus], key=lambda ranked: ranked[0])
        table = steps.tabulate(trace, conventions=conventions, repeats=repeats)
        frames.append(table.assign(model=corpus_title(corpus), corpus=tuning_title(tuning, tuned_on, corpus)))
    return pd.concat(frames, ignore_index=True)


def tuned_groups(levels: pd.DataFrame, sizes: Mapping[str, int]) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yields corpus, sample and base model, and their rows, where there is a tuned model beside the base."""
    for key, rows in order_models(levels, sizes).groupby(["corpus", "documents", "base"], sort=False):
        if {BASE} < set(rows["tuning"]):
            yield key, rows


def order_models(rows: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Returns rows by corpus, sample, base model, number of demonstrations and tuning, the base before its tunings.

    Base models stand in the order of their sizes (parameters by name), those of unknown size behind them, by name.
    """
    tunings = {each: i for i, each in enumerate(order_tunings(rows))}
    rank = [tunings[each] for each in zip(rows["tuning"], rows["tuned_on"], strict=True)]
    keys = ["corpus", "documents", "size", "base", "shots", "rank"]
    ranked = rows.assign(rank=rank, size=rows["base"].map(sizes).astype(float))
    return ranked.sort_values(keys, kind="stable").drop(columns=["rank", "size"])


def order_tunings(levels: pd.DataFrame) -> list[tuple[str, str]]:
    """Returns the tunings (tuning, tuned on) of a table: base first, chains behind their methods."""
    known = list(TUNINGS)

    def place(tuning):
        return [known.index(part) if part in known else len(known) for part in tuning.split("+")]

    found = set(zip(levels["tuning"], levels["tuned_on"], strict=True))
    return sorted(found, key=lambda each: (each[0].count("+"), place(each[0]), each))


def in_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of `changes.compare` with shares in percent."""
    factor = np.where(rows["quantity"].map(lambda name: QUANTITIES[name].percent), 100.0, 1.0)
    return rows.assign(**{name: rows[name] * factor for name in ("mean", "low", "high")})
