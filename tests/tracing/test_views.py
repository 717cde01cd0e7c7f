"""Traces end to end on a tiny model: the right numbers at the right steps, and nothing lost when a run is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from mlutils import paths
from mlutils.files import write_json
from mlutils.traces import SCHEMA, Trace, TraceError
from mlutils.tracing import prompts, views, vocabulary
from mlutils.tracing.answers import parse
from mlutils.tracing.demonstrations import draw
from mlutils.tracing.engine import Written
from mlutils.tracing.prompting import Prompting
from mlutils.writer import Writer

UMASK = os.umask(0)
os.umask(UMASK)


def prompting(corpus, form="json", **options):
    return Prompting(corpus, corpus, draw(corpus, shots=4), prompts.template("foxes", form=form), **options)


@pytest.fixture(scope="module")
def trace(llama, corpus, tmp_path_factory):
    return views.write_trace(tmp_path_factory.mktemp("trace"), llama, prompting(corpus), note="a test")


@pytest.fixture()
def scripted(llama, corpus, monkeypatch):
    """A list view whose model says what the test wants, one forced token after the other."""

    def script(text, form="json", complete=True):
        asked = prompting(corpus, form)
        view = views.ListView(llama, asked)
        ids = vocabulary.encode(llama.tokenizer, text)
        prompt = vocabulary.encode_prompts(llama.tokenizer, [asked.list_prompt(0)])[0]
        with torch.inference_mode():
            out = llama.network(torch.tensor([prompt + ids]), output_hidden_states=True)
        logits = out.logits[0, len(prompt) - 1 :].double().numpy()
        normaliser = np.logaddexp.reduce(logits, axis=1)
        states = out.hidden_states[-1][0, len(prompt) - 1 :]
        written = Written(ids, logits[:-1, view.label_tokens.select], normaliser[:-1], states[:-1], complete)
        return view, ids, logits, normaliser, view._read("d0", written)

    return script


@pytest.mark.parametrize("form, text", [
    ("json", '\n{"label": ["joy", "anger"]}'), ("comma", " joy, anger\n"), ("the", " the joy and the anger."),
])  # fmt: skip
def test_label_steps_hold_the_logits_before_each_label(scripted, llama, corpus, form, text):
    view, ids, logits, normaliser, (answer, steps, first) = scripted(text, form)
    assert answer["said"] == ["joy", "anger"] and answer["status"] == "ok" and answer["tokens"] == len(ids)
    assert [step["label"] for step in steps] == ["joy", "anger"]
    texts = [llama.tokenizer.decode(ids[:i]) for i in range(len(ids) + 1)]
    for step in steps:
        # By hand: the last position at which the label has not begun.
        at = max(i for i, written in enumerate(texts) if len(written.rstrip()) <= text.index(step["label"]) and
                 len(written) <= text.index(step["label"]))  # fmt: skip
        for label, held, tokens in zip([*corpus.labels, "none"], step["logits"], view.label_tokens.first, strict=True):
            assert held == pytest.approx(logits[at, tokens].max()), label
        share = np.exp(logits[at] - normaliser[at])
        assert step["mass"] == pytest.approx(
            share[sorted({t for group in view.label_tokens.first for t in group})].sum()
        )
    assert first == max(i for i, written in enumerate(texts) if len(written) <= text.index("joy"))


def test_going_on_is_decided_after_the_label(scripted, llama):
    text = " joy, anger\n"
    view, ids, logits, normaliser, (_, steps, _) = scripted(text, "comma")
    starts = vocabulary.offsets(llama.tokenizer, ids)
    at = starts.index(text.index("joy") + 3)
    share = np.exp(logits[at] - normaliser[at])
    strings = [llama.tokenizer.decode([i]) for i in range(len(share))]
    comma = sum(p for p, s in zip(share, strings, strict=True) if s.startswith(","))
    ends = [s.startswith("\n") or i == llama.tokenizer.eos_token_id for i, s in enumerate(strings)]
    stop = share[ends].sum()
    assert steps[0]["goes_on"] == pytest.approx(comma / (comma + stop))
    assert steps[0]["stops"] == pytest.approx(stop)


def test_repeated_labels_are_steps_and_flagged(scripted):
    *_, (answer, steps, _) = scripted('\n{"label": ["joy", "joy"]}')
    assert answer["status"] == "repeated label"
    assert [step["repeated"] for step in steps] == [False, True]


def test_a_trace_is_complete(trace, corpus):
    assert list(trace.documents["id"]) == list(corpus.documents["id"])
    assert (trace.gold == corpus.gold).all() and np.allclose(trace.votes, corpus.votes)
    assert len(trace.answers) == len(corpus) and trace.answers["document"].is_unique
    yes, no = trace.unary_logits()
    assert yes.shape == (len(corpus), len(corpus.labels) + 1) and np.isfinite(yes - no).all()
    assert trace.step_logits().shape[2] == len(corpus.labels) + 1
    assert trace.states().shape == (len(corpus), 48)
    assert trace.settings["note"] == "a test" and trace.settings["plan"]["shared"]
    assert trace.complete().all()
    for row in trace.answers.itertuples():
        again = parse(row.text, corpus.labels, "json", complete=row.status != "cut off")
        assert list(row.said) == list(again.labels)


def test_unary_logits_are_those_of_plain_prompts(trace, llama, corpus):
    yes, no = trace.unary_logits()
    asked = prompting(corpus)
    tokens = [vocabulary.encode(llama.tokenizer, f" {word}")[0] for word in prompts.UNARY_ANSWERS]
    for row in (0, 17, 39):
        for label, prompt in enumerate(asked.unary_prompts(row)):
            ids = vocabulary.encode_prompts(llama.tokenizer, [prompt])
            with torch.inference_mode():
                plain = llama.network(torch.tensor(ids)).logits[0, -1, tokens].numpy()
            assert np.abs(plain - [yes[row, label], no[row, label]]).max() < 1e-4


def test_unary_asks_the_documents_and_the_questions_and_no_more(llama, corpus, tmp_path):
    asked = prompting(corpus)
    work = views.write_trace(tmp_path, llama, asked, views=["unary"]).work
    count = lambda text: len(vocabulary.encode(llama.tokenizer, text))  # noqa: E731
    own = []
    for row in range(len(corpus)):
        questions = asked.unary_prompts(row)
        document = count(questions[0].rpartition("\nLabel:")[0])  # with the prefix; each question repeats it
        own.append(sum(map(count, questions)) - (len(questions) - 1) * document)
    shared = count(asked.unary_prompts(0)[0].rsplit("Question:", 1)[0])
    # Each document's own part holds the prefix once more; it is paid once a run.
    assert work["unary"]["tokens"] <= sum(own) - (len(corpus) - 1) * (shared - 2)


def test_released_conventions_leave_a_space(llama, corpus):
    view = views.UnaryView(llama, prompting(corpus, conventions="released"))
    ours = views.UnaryView(llama, prompting(corpus))
    assert view.prompting.unary_prompts(0)[0].endswith(": ")
    assert view.select != ours.select


def test_a_document_that_is_too_long_is_recorded_and_the_run_goes_on(llama, corpus, tmp_path):
    texts = corpus.documents.copy()
    texts.loc[5, "text"] = "fox " * 6000
    long = replace(corpus, documents=texts)
    trace = views.write_trace(tmp_path, llama, Prompting(long, corpus, draw(corpus, 4), prompts.template("x")))
    assert set(trace.failures["document"]) == {"d5"} and len(trace.failures) == 2
    assert trace.failures["error"].str.contains("too long").all()
    assert len(trace.answers) == 39 and not trace.complete()[5]
    assert np.isnan(trace.states()[5]).all()


def test_a_run_stops_when_too_many_fail(llama, corpus, tmp_path):
    texts = corpus.documents.copy()
    texts.loc[:6, "text"] = "fox " * 6000
    long = replace(corpus, documents=texts)
    asked = Prompting(long, corpus, draw(corpus, 4, exclude=list(texts["id"][:7])), prompts.template("x"))
    with pytest.raises(TraceError, match="7 of 80 .* too long"):
        views.write_trace(tmp_path, llama, asked)


def test_the_guard_does_not_give_way_however_often_a_run_is_called(llama, corpus, tmp_path, monkeypatch):
    long = replace(corpus, documents=corpus.documents.assign(text="fox " * 6000))
    asked = Prompting(long, corpus, draw(corpus, 0), prompts.template("x"))
    for _ in range(6):  # two parts of two views: the third call had nothing left to ask
        with pytest.raises(TraceError, match="of 40 documents failed, more than 5%.*too long.*delete the folder"):
            views.write_trace(tmp_path, llama, asked)
        assert len(finished(tmp_path / "parts")) == 2  # documents, and the first part of the list
        assert not (tmp_path / "documents.parquet").exists()
    monkeypatch.setattr(views, "FAILING", 1)
    views.write_trace(tmp_path, llama, asked)
    monkeypatch.setattr(views, "FAILING", 0.05)
    with pytest.raises(
        TraceError, match=r"40 of 40 documents failed.*80 of 80"
    ):  # nothing is missing, and it was finished
        views.write_trace(tmp_path, llama, asked)


def test_documents_that_one_of_many_views_fails_on_count_as_documents(llama, corpus, tmp_path, monkeypatch):
    """They are left out of all tables, however many other views answered."""
    ask = views.UnaryView.ask

    def fail(view, rows):
        tables, states = ask(view, rows)
        return tables | {
            "failures": [{"document": f"d{row}", "view": "unary", "error": "odd"} for row in rows[:3]]
        }, states

    monkeypatch.setattr(views.UnaryView, "ask", fail)
    with pytest.raises(TraceError, match="3 of 40 documents failed"):
        views.write_trace(tmp_path, llama, prompting(corpus), ["list", "unary"])


def test_no_documents_are_refused(llama, corpus, tmp_path):
    with pytest.raises(ValueError, match="foxes: the sample all of split dev holds no document"):
        views.write_trace(tmp_path, llama, Prompting(corpus.take([]), corpus, draw(corpus, 4), prompts.template("x")))


ODD = ('quo"ted', "back\\slash", "tab\tbed", "]", '"', "\\", "{label}", "é1")


@pytest.mark.parametrize("form", ["json", "comma", "the", "single"])
def test_labels_with_quotation_marks_backslashes_and_tabs_are_asked_about(llama, corpus, tmp_path, form):
    gold = np.zeros((40, len(ODD)), bool)
    gold[np.arange(40), np.arange(40) % len(ODD)] = gold[np.arange(20), np.arange(20) * 3 % len(ODD)] = True
    odd = replace(corpus, labels=ODD, gold=gold, votes=gold.astype(float))
    asked = Prompting(odd, odd, draw(odd, 3, "random"), prompts.template("foxes", form=form))
    views_asked = ["list", "unary", "pairwise", *(["sets"] if form != "single" else [])]
    trace = views.write_trace(tmp_path, llama, asked, views_asked)
    assert trace.labels == ODD and len(trace.questions) == 40 * (9 + 36) and not len(trace.failures)
    assert np.isfinite(trace.unary_logits()[0]).all()


@pytest.mark.parametrize("form, text", [
    ("json", '{"label": ["quo\\"ted", "back\\\\slash", "tab\\tbed"]}'),
    ("comma", 'quo"ted, back\\slash, tab\tbed\n'),
])  # fmt: skip
def test_steps_of_odd_labels_hold_their_logits(llama, corpus, form, text):
    odd = replace(corpus, labels=ODD[:3])
    view = views.ListView(llama, Prompting(odd, odd, draw(odd, 2), prompts.template("foxes", form=form)))
    ids = vocabulary.encode(llama.tokenizer, text)
    rng = np.random.default_rng(0)
    shape = len(ids), len(view.label_tokens.select)
    written = Written(ids, rng.normal(size=shape), np.full(len(ids), 9.0), torch.zeros(len(ids), 48), True)
    answer, steps, _ = view._read("d0", written)
    assert answer["said"] == list(ODD[:3]) and answer["status"] == "ok"
    starts = vocabulary.offsets(llama.tokenizer, ids)
    for step, beginning in zip(steps, ("quo", "back", "tab"), strict=True):
        at = vocabulary.token_at(starts, text.index(beginning))
        columns = [view.label_tokens.select.index(t) for t in view.label_tokens.first[ODD.index(step["label"])]]
        assert step["logits"][ODD.index(step["label"])] == written.logits[at, columns].max()
        assert ids[at] in view.label_tokens.first[ODD.index(step["label"])], (
            "the token that was written is not one of it"
        )


# -- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["answers.parquet", "steps.parquet", "failures.parquet", "hidden.safetensors", "part.json"]
)
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_part_that_is_not_whole_is_asked_again(llama, corpus, tmp_path, capsys, name, damage):
    whole = views.write_trace(tmp_path, llama, prompting(corpus), ["list"])
    before = {table: whole.table(table) for table in ("answers", "steps", "failures")}
    states, part = whole.states(), tmp_path / "parts" / "list-000001"
    content = (part / name).read_bytes()
    if damage == "missing":
        (part / name).unlink()
    else:
        (part / name).write_bytes(
            content[:-9] if damage == "cut" else content[:9] + bytes([content[9] ^ 1]) + content[10:]
        )
    again = views.write_trace(tmp_path, llama, prompting(corpus), ["list"])
    assert f"{part} is not whole ({name} " in capsys.readouterr().out
    assert (part / name).read_bytes()[:8] == content[:8] and set(again.work) == {"list"}
    for table, rows in before.items():
        assert (
            again.table(table)
            .drop(columns=["logits", "mass", "goes_on", "stops"], errors="ignore")
            .equals(rows.drop(columns=["logits", "mass", "goes_on", "stops"], errors="ignore"))
        )
    assert np.allclose(states, again.states(), atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("killed_at", ["answers", "questions", "failures", "documents"])
def test_a_trace_whose_tables_are_not_all_joined_is_not_finished(llama, corpus, tmp_path, monkeypatch, killed_at):
    write = pq.write_table

    def stop(table, path, *given, **named):
        if isinstance(path, Path) and path.parent == tmp_path and killed_at in path.name:
            raise KeyboardInterrupt
        return write(table, path, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", stop)
        with pytest.raises(KeyboardInterrupt):
            views.write_trace(tmp_path, llama, prompting(corpus), ["unary"])
    with pytest.raises(TraceError, match="not finished: run its notebook again"):
        Trace(tmp_path)
    assert len(views.write_trace(tmp_path, llama, prompting(corpus), ["unary"]).questions) == 160


@pytest.mark.parametrize("name, read", [
    ("trace.json", Trace), ("work.json", lambda folder: Trace(folder).work),
    ("answers.parquet", lambda folder: Trace(folder).answers),
    ("failures.parquet", lambda folder: Trace(folder).complete()),
    ("hidden.safetensors", lambda folder: Trace(folder).states()),
])  # fmt: skip
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_a_damaged_file_is_named_with_what_to_do(trace, tmp_path, name, read, damage):
    folder = tmp_path / "trace"
    shutil.copytree(trace.folder, folder)
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage != "missing":
        (folder / name).write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    what = "holds no trace" if (name, damage) == ("trace.json", "missing") else rf"{name} cannot be read"
    with pytest.raises(TraceError, match=rf"{what}.*(run notebooks/10_trace.ipynb|delete {folder})"):
        read(folder)


def test_a_trace_with_settings_that_cannot_be_read_is_not_continued(llama, corpus, tmp_path):
    views.write_trace(tmp_path, llama, prompting(corpus), ["unary"])
    (tmp_path / "trace.json").write_text('{"schema"')
    with pytest.raises(TraceError, match=rf"trace.json cannot be read.*delete {tmp_path} to trace anew"):
        views.write_trace(tmp_path, llama, prompting(corpus), ["unary"])
    (tmp_path / "trace.json").write_text("[]")
    with pytest.raises(TraceError, match="holds a list, not an object"):
        Trace(tmp_path)


def test_states_of_a_view_that_was_not_asked_or_of_other_documents_are_no_states(llama, corpus, tmp_path):
    trace = views.write_trace(tmp_path, llama, prompting(corpus), ["unary"])
    with pytest.raises(TraceError, match="has no view list"):
        trace.states()
    trace = views.write_trace(tmp_path / "list", llama, prompting(corpus), ["list"])
    save_file({"first_label": trace.states()[:32]}, trace.folder / "hidden.safetensors")
    with pytest.raises(TraceError, match="holds 32 states first_label for 40 documents"):
        trace.states()


def test_all_files_of_a_trace_have_the_same_rights(trace):
    rights = {
        file.relative_to(trace.folder): file.stat().st_mode & 0o777
        for file in trace.folder.rglob("*")
        if file.is_file() and file.name != ".lock"
    }
    assert set(rights.values()) == {0o666 & ~UMASK}, rights
    assert {folder.stat().st_mode & 0o777 for folder in (trace.folder / "parts").iterdir()} == {0o777 & ~UMASK}


SLOW = """
import sys, time
sys.path.insert(0, {root!r})
from mlutils.tracing import models, prompts, views
from mlutils.tracing.prompting import Prompting
from tests import conftest
from mlutils.tracing.demonstrations import draw
corpus = conftest.corpus.__wrapped__()
views.PART = 4
llama = models.load(models.RANDOM, device="cpu", dtype="float32")
asked = Prompting(corpus, corpus, draw(corpus, shots=4), prompts.template("foxes"))
print("ready", flush=True)
views.write_trace({folder!r}, llama, asked)
print("finished", flush=True)
"""


def finished(parts):
    """Returns the parts that are whole, with the time at which they were made."""
    return {part.name: part.stat().st_mtime_ns for part in parts.glob("[!.]*")}


def test_killed_three_times_nothing_is_lost_or_twice(llama, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(views, "PART", 4)
    whole = views.write_trace(tmp_path / "whole", llama, prompting(corpus))
    script = SLOW.format(root=str(paths.ROOT), folder=str(tmp_path / "killed"))
    parts = tmp_path / "killed" / "parts"
    kept: dict[str, int] = {}
    for moment in sorted(np.random.default_rng().choice(np.arange(2, 20), 3, replace=False)):  # others each time
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        while process.poll() is None and len(finished(parts)) < moment:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was over before it was killed"
        process.stdout.close()
        assert not (tmp_path / "killed" / "answers.parquet").exists()
        assert kept.items() <= finished(parts).items(), "a part that was there was written again"
        kept = finished(parts)
    resumed = views.write_trace(tmp_path / "killed", llama, prompting(corpus))
    assert kept.items() <= finished(parts).items(), "a part that was there was written again"
    for name in ("documents", "answers", "steps", "questions", "failures"):
        a, b = whole.table(name), resumed.table(name)
        plain = [column for column in a if column not in ("logits", "mass", "goes_on", "stops")]
        pd.testing.assert_frame_equal(a[plain], b[plain])
        if "logits" in a and len(a):
            assert np.abs(np.array(a["logits"].tolist()) - np.array(b["logits"].tolist())).max() < 1e-5
    assert np.allclose(whole.states(), resumed.states(), atol=1e-5, equal_nan=True)


def test_other_settings_are_refused_in_the_same_folder(llama, corpus, tmp_path):
    views.write_trace(tmp_path, llama, prompting(corpus), views=["unary"])
    with pytest.raises(TraceError, match="new_tokens"):
        views.write_trace(tmp_path, llama, prompting(corpus, new_tokens=18), views=["unary"])


def test_missing_unfinished_and_old_traces_are_refused(tmp_path):
    with pytest.raises(TraceError, match="holds no trace"):
        Trace(tmp_path)
    Writer(tmp_path, {"labels": ["joy"], "single_label": False})
    with pytest.raises(TraceError, match="not finished"):
        Trace(tmp_path)
    write_json(tmp_path / "trace.json", {"schema": SCHEMA - 1})
    with pytest.raises(TraceError, match="schema"):
        Trace(tmp_path)


def test_unknown_views_are_refused(llama, corpus, tmp_path):
    with pytest.raises(ValueError, match="take some of list, unary"):
        views.write_trace(tmp_path, llama, prompting(corpus), views=["lists"])
