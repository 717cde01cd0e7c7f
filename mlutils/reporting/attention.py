"""Table 6 beside the published numbers, and layer by layer as a picture."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mlutils.reporting.figures import COLUMN, TEXT, log_axis
from mlutils.reporting.looks import BLUE, GREEN, RED
from mlutils.reporting.pictures import plain, use_style
from mlutils.reporting.published import corpus_title

LOOKS = {  # segment: title, colour, marker, dash
    "first": ("first tokens of earlier labels", RED, "^", "-"),
    "answer": ("answer so far", GREEN, "s", "--"),
    "input": ("input", BLUE, "o", ":"),
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
        rows.append(row | {"steps": str(found["steps"].iloc[0]), "documents": str(found["documents"].iloc[0])})
    for line in published[published["corpus"].isin(table["corpus"])].to_dict("records"):
        row = {"corpus": corpus_title(line["corpus"]), "model": line["model"], "prompts": "published"}
        row |= {TITLES[name, "per_token"]: f"{line[column]:g}" for name, column in PUBLISHED.items()}
        for name in ("first", "answer"):
            row[TITLES[name, "ratio"]] = f"{line[PUBLISHED[name]] / line[PUBLISHED['input']]:.1f}"
        rows.append(row)
    columns = ["corpus", "model", "prompts", *TITLES.values(), "steps", "documents"]
    return pd.DataFrame(rows, columns=columns).fillna("").sort_values("corpus", kind="stable", ignore_index=True)


def by_layer(table: pd.DataFrame) -> Figure:
    """Returns Table 6 by layer: attention per token (log scale) on first tokens, answer and input, 95 % intervals.

    table: corpus, model, family, form and the columns of `readouts.attention.by_layer`; a column a model, a row a
    corpus and kind of prompt. Raises ValueError for no rows, and for two traces of one panel.
    """
    if table.empty:
        raise ValueError("table has no rows, there is nothing to draw")
    keys = ["corpus", "family", "form", "model"]
    if table.duplicated([*keys, "layer", "segment"]).any():
        twice = table[table.duplicated([*keys, "layer", "segment"])][keys].drop_duplicates().to_numpy().tolist()
        raise ValueError(f"two traces of {twice} in one panel: give one of them")
    panels = {key: rows for key, rows in table.groupby(keys, sort=False)}
    models, kinds = (list(dict.fromkeys(each)) for each in ([k[-1] for k in panels], [k[:-1] for k in panels]))
    use_style()
    fig = Figure(figsize=(COLUMN if len(models) == 1 else TEXT, 1.75 * len(kinds) + 0.7), layout="constrained")
    axes = fig.subplots(len(kinds), len(models), squeeze=False, sharey=True)
    for line, kind in zip(axes, kinds, strict=True):
        for axis, model in zip(line, models, strict=True):
            _draw(axis, panels.get((*kind, model)), kind, model)
    for line in axes:
        line[0].set_ylabel("attention per token, %")
    for axis in axes[-1]:
        axis.set_xlabel("layer")
    marks = dict(linewidth=1.0, markersize=3)
    handles = [
        Line2D([], [], label=title, color=colour, marker=marker, linestyle=dash, **marks)
        for title, colour, marker, dash in LOOKS.values()
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=2 if len(models) == 1 else 3)
    return fig


def _draw(axis, rows: pd.DataFrame | None, kind: tuple[str, str, str], model: str) -> None:
    corpus, family, form = kind
    title = "\n".join([model, f"{corpus_title(corpus)} (family {family}, {FORMS[form]})"])
    if rows is None:
        axis.set_title(plain(title))
        axis.text(0.5, 0.5, "no second label", transform=axis.transAxes, ha="center", va="center")
        return
    for segment, (_, colour, marker, dash) in LOOKS.items():
        line = rows[rows["segment"] == segment].sort_values("layer")
        every = max(1, len(line) // 10)
        marks = dict(marker=marker, markersize=3, markevery=every)
        axis.plot(line["layer"], line["mean"], color=colour, linestyle=dash, linewidth=1.0, **marks)
        axis.fill_between(line["layer"], line["low"], line["high"], color=colour, alpha=0.2, linewidth=0)
    log_axis(axis.yaxis)
    axis.grid(True, axis="y")
    counts = f"n = {rows['steps'].iloc[0]} steps of {rows['documents'].iloc[0]} documents"
    axis.set_xlim(0, rows["layer"].max() + 1)
    axis.set_xticks(range(1, rows["layer"].max() + 1, max(1, rows["layer"].max() // 6)))
    axis.set_title(f"{plain(title)}\n{counts}")


def _write(mean: float, low: float, high: float) -> str:
    if pd.isna(mean):
        return "–"
    return f"{mean:.3g}" if pd.isna(low) else f"{mean:.3g} [{low:.3g}, {high:.3g}]"
