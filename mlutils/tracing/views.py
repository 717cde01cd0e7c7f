"""Views: which prompts a trace consists of, and how a model's words become rows of a trace.

`list` asks for a list of labels and keeps every label step; `unary` asks about one label at a time; `pairwise` asks
which of two labels is better; `ratio` and `order` ask for lists behind other demonstrations, or with labels in another
order; `sets` reads what follows likely lists, `attention` where the model looks when it begins a later label,
`hidden` the states of all layers at the first label; `medusa` reads the later heads of a Medusa model at label steps.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mlutils.corpora import Corpus
from mlutils.traces import Trace, TraceError
from mlutils.tracing import vocabulary
from mlutils.tracing.attention import AttentionView
from mlutils.tracing.hidden import HiddenView
from mlutils.tracing.medusa import MedusaView
from mlutils.tracing.models import Model
from mlutils.tracing.prompting import OTHERS, Prompting
from mlutils.tracing.questions import PairwiseView, UnaryView
from mlutils.tracing.sets import SetsView
from mlutils.tracing.steps import ListView
from mlutils.tracing.variants import OrderView, RatioView
from mlutils.writer import Writer

PART = 32  # documents a part: what a killed run loses at most
FAILING = 0.05  # share of documents that may fail before a run stops


KINDS = (ListView, UnaryView, PairwiseView, SetsView, RatioView, OrderView, AttentionView, HiddenView, MedusaView)
VIEWS = {view.name: view for view in KINDS}
STEPPING = {view.name for view in (ListView, SetsView, RatioView, OrderView, MedusaView)}  # which keep label steps


def write_trace(
    folder: Path | str,
    model: Model,
    prompting: Prompting,
    views: Sequence[str] = ("list", "unary"),
    **settings,
) -> Trace:
    """Asks all views and writes the trace, going on where an earlier call stopped.

    `settings` are stored and must be the same when a trace is continued; what each view took is in `Trace.work`.
    Raises ValueError for an unknown view and for no documents; TraceError where a view failed on more
    than 5 % of the documents, before anything more is asked, and before the trace is finished.
    """
    unknown = [view for view in views if view not in VIEWS]
    if unknown or not views:
        raise ValueError(f"views {list(views)}: take some of {', '.join(VIEWS)}")
    corpus = prompting.corpus
    if not len(corpus):
        raise ValueError(f"{corpus.name}: the sample {corpus.sample} of split {corpus.split} holds no document to ask")
    template = prompting.template
    alike = vocabulary.begin_alike(model.tokenizer, corpus.labels, template.form, prompting.gap)
    if alike and STEPPING.intersection(views):
        how = (
            "told apart by further tokens" if prompting.label_tokens == "whole" else "with the logit of one first token"
        )
        print(f"{how}: {'; '.join(map(', '.join, alike))}")
    writer = Writer(
        Path(folder),
        {
            "model": model.name,
            "revision": model.revision,
            "dtype": str(model.dtype).removeprefix("torch."),
            "corpus": corpus.name,
            "split": corpus.split,
            "sample": corpus.sample,
            "ids": list(corpus.documents["id"]),
            "labels": list(corpus.labels),
            "single_label": corpus.single_label,
            "views": list(views),
            "form": template.form,
            "label_tokens": prompting.label_tokens,
            "begin_alike": alike,
            "new_tokens": prompting.new_tokens,
            "conventions": prompting.conventions,
            "pair_order": prompting.pair_order,
            "plan": prompting.plan.as_json(),
            "first_prompt": prompting.list_prompt(0) if len(corpus) else "",
            **_describe_pairs(prompting, views),
            **_describe_variants(prompting, views),
            **settings,
        },
    )
    _stop_if_failing(
        writer, len(corpus), len(views)
    )  # what failed in an earlier call counts, however often it is called
    if not writer.done("documents"):
        writer.add("documents", 0, {"documents": _documents(corpus)})
    starts = range(0, len(corpus), PART)
    missing = {name: sorted(set(range(len(starts))) - writer.done(name)) for name in views}
    for name in views:
        view = VIEWS[name](model, prompting) if missing[name] else None
        for number in tqdm(missing[name], desc=f"{corpus.name} {name}", unit="part"):
            rows = range(starts[number], min(starts[number] + PART, len(corpus)))
            started, tokens, passes = time.perf_counter(), view.engine.tokens, view.engine.passes
            tables, states = view.ask(rows)
            work = {
                "tokens": view.engine.tokens - tokens,
                "passes": view.engine.passes - passes,
                "seconds": round(time.perf_counter() - started, 2),
            }
            writer.add(name, number, tables, states, work)
            _stop_if_failing(writer, len(corpus), len(views))
    writer.finish()
    return Trace(folder)


def _describe_pairs(prompting: Prompting, views: Sequence[str]) -> dict:
    """Returns which pairs are asked, as a setting, and says so; {} where none are."""
    if PairwiseView.name not in views:
        return {}
    asked = {"design": prompting.pair_design, "number": len(prompting.pairs)}
    if prompting.pair_design == "sparse":
        asked["others"] = OTHERS
    against = f"sparse, each label against none and {OTHERS} others" if "others" in asked else "all"
    against = against.replace("none and ", "") if prompting.corpus.single_label else against
    print(f"pairs: {against}; {len(prompting.pairs)} questions a document")
    return {"pairs": asked}


def _describe_variants(prompting: Prompting, views: Sequence[str]) -> dict:
    """Returns the plans and orders of labels of all variants that are asked, as settings; {} where there are none."""
    plans = {
        name: {"plan": varied.plan.as_json(), "label_order": list(varied.label_order)}
        for view in views
        if hasattr(VIEWS[view], "vary")
        for name, varied in VIEWS[view].vary(prompting).items()
    }
    return {"answer_order": prompting.answer_order, "variants": plans} if plans else {}


def _documents(corpus: Corpus) -> list[dict]:
    columns = (corpus.documents["id"], corpus.documents["text"], corpus.gold, corpus.votes, corpus.annotators)
    return [
        {"id": i, "text": text, "gold": gold.tolist(), "votes": votes.tolist(), "annotators": int(n)}
        for i, text, gold, votes, n in zip(*columns, strict=True)
    ]


def _stop_if_failing(writer: Writer, documents: int, views: int) -> None:
    failures = writer.failures()
    failed = failures["document"].nunique()  # a document that one view failed on is left out of all tables
    if failed > FAILING * documents:
        kinds = "; ".join(f"{n} x {error}" for error, n in failures["error"].value_counts().head(3).items())
        raise TraceError(
            f"{failed} of {documents} documents failed, more than {FAILING:.0%} ({len(failures)} of "
            f"{documents * views} documents and views): {kinds}. Nothing more is asked. Finished parts are kept in "
            f"{writer.folder}, failures too: mend the cause and delete the folder to trace anew"
        )
