"""Table 6 beside the published numbers, and layer by layer as a picture."""

from itertools import product

import pandas as pd

from mlutils.reporting import drawing
from mlutils.reporting.drawing import Drawing, handle, line, plain, told
from mlutils.reporting.looks import BLUE, GREEN, RED
from mlutils.reporting.published import corpus_title
from mlutils.reporting.tables import MISSING, write_count

LOOKS = {  # segment: title and style
    "first": ("first tokens of earlier labels", line(RED, "^", linewidth=1.0, markersize=3)),
    "answer": ("answer so far", line(GREEN, "s", "--", linewidth=1.0, markersize=3)),
    "input": ("input", line(BLUE, "o", ":", linewidth=1.0, markersize=3)),
}
PUBLISHED = {"input": "input_avg_pct", "answer": "label_avg_pct", "first": "label_first_token_avg_pct"}
TITLES = {
    ("input", "per_token"): "input",
    ("answer", "per_token"): "answer",
    ("first", "per_token"): "first tokens",
    ("shifted", "per_token"): "one token earlier",
    ("first", "ratio"): "first tokens / input",
    ("answer", "ratio"): "answer / input",
    ("input", "share"): "input, in all",
    ("answer", "share"): "answer, in all",
}
FORMS = {"json": "JSON", "comma": "comma list", "the": "sentence", "single": "one label"}


def beside_published(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Returns Table 6 to be read: a row a trace or a published model, percent, our 95 % interval in brackets.

    table: corpus, model, family, form and the columns of `readouts.attention.summarise`. published:
    `published.attention()`, of which only the corpora in the table are kept; ratios are those of its means.
    """
    rows = []
    for (corpus, model, family, form), found in table.groupby(["corpus", "model", "family", "form"], sort=False):
        row = {"corpus": corpus_title(corpus), "model": model, "prompts": f"{family}, {FORMS[form]}"}
        for quantity in found.itertuples():
            if title := TITLES.get((quantity.segment, quantity.quantity)):
                row[title] = _write(quantity.mean, quantity.low, quantity.high)
        documents = write_count(*found[["documents", "different"]].iloc[0])
        rows.append(row | {"steps": str(found["steps"].iloc[0]), "documents": documents})
    for printed in published[published["corpus"].isin(table["corpus"])].to_dict("records"):
        row = {"corpus": corpus_title(printed["corpus"]), "model": printed["model"], "prompts": "published"}
        row |= {TITLES[name, "per_token"]: f"{printed[column]:g}" for name, column in PUBLISHED.items()}
        for name in ("first", "answer"):
            row[TITLES[name, "ratio"]] = f"{printed[PUBLISHED[name]] / printed[PUBLISHED['input']]:.1f}"
        rows.append(row)
    columns = ["corpus", "model", "prompts", *TITLES.values(), "steps", "documents"]
    return pd.DataFrame(rows, columns=columns).fillna("").sort_values("corpus", kind="stable", ignore_index=True)


def by_layer(table: pd.DataFrame) -> Drawing:
    """Returns Table 6 by layer: attention per token (log scale) on first tokens, answer and input, 95 % intervals.

    table: corpus, model, family, form and the columns of `readouts.attention.by_layer`; a column a model, a row a
    corpus and kind of prompt. Raises ValueError for no rows, and for two traces of one panel.
    """
    keys = ["corpus", "family", "form", "model"]
    table = drawing.check(table, *keys, "layer", "segment", "mean", "low", "high", "steps", "documents")
    if (double := table.duplicated([*keys, "layer", "segment"])).any():
        twice = table.loc[double, keys].drop_duplicates().to_numpy().tolist()
        raise ValueError(f"two traces of {twice} in one panel: give one of them")
    traces = dict(list(table.groupby(keys, sort=False)))
    kinds, models = dict.fromkeys(key[:-1] for key in traces), dict.fromkeys(key[-1] for key in traces)
    fig, axes = drawing.panels(product(kinds, models), len(models), 1.75, 0.7, sharey=True)
    for (kind, model), axis in axes.items():
        corpus, family, form = kind
        title = plain(f"{model}\n{corpus_title(corpus)} (family {family}, {FORMS[form]})")
        if (rows := traces.get((*kind, model))) is None:
            drawing.say(axis, "no second label")
        else:
            title += f"\nn = {rows['steps'].iloc[0]} steps of {rows['documents'].iloc[0]} documents"
            different = rows["different"].iloc[0]
            title += "" if pd.isna(different) else f"\n({different:.1f} different answers)"
            for segment, (_, style) in LOOKS.items():
                shown = rows[rows["segment"] == segment].sort_values("layer")
                axis.plot(shown["layer"], shown["mean"], **style, markevery=max(1, len(shown) // 10))
                band = dict(color=style["color"], alpha=0.2, linewidth=0)
                axis.fill_between(shown["layer"], shown["low"], shown["high"], **band)
            drawing.log_axis(axis.yaxis)
            last = rows["layer"].max()
            axis.set(xlim=(0, last + 1), xticks=range(1, last + 1, max(1, last // 6)))
        axis.set_title(title)
        drawing.label(axis, "layer", "attention per token, %")
    fig.legend_below([handle(title, **style) for title, style in LOOKS.values()], 2 if len(models) == 1 else 3)
    wide = table.pivot_table(index=[*keys, "layer"], columns="segment", values="mean")
    above = (wide["first"] > 10 * wide["input"]).groupby(["model", "corpus"]).agg(["sum", "size"]).reset_index()
    fig.alt = (
        "Attention per token by layer, log scale, on first tokens of earlier labels, on the answer and on the input. "
        "First tokens get more than ten times what the input gets in: "
        f"{told(above, '{model} on {corpus}: {sum} of {size} layers')}."
    )
    return fig


def _write(mean, low, high):
    if pd.isna(mean):
        return MISSING
    return f"{mean:.3g}" if pd.isna(low) else f"{mean:.3g} [{low:.3g}, {high:.3g}]"
