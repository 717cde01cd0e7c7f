import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from mlutils.reporting import published, tables

BAD = '<script>alert(1)</script> & $\\alpha$ | "x"'


def alignment_table():
    rows = []
    for method, model, nll in (
        ("zeros", np.nan, 16.0),
        ("hard_predictions", "small", 31.0),
        ("unary_breakdown", "small", 4.9),
    ):
        rows.append(("mfrc", "paper", model, method, "nll", nll, nll - 1, nll + 1, 190))
        rows.append(("mfrc", "paper", model, method, "f1", 0.25, np.nan, np.nan, 190))
    columns = ["corpus", "documents", "model", "method", "metric", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def cells(row):
    return [" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])]


def row_of(soup, method):
    return next(row for row in soup.select("tbody tr") if row.find("th", string=method))


def test_html_escapes_formats_and_marks_headers():
    frame = pd.DataFrame({"text": [BAD, None], "a<b": [0.123, np.nan], "n": [3, 4]})
    html = tables.html(frame, caption=BAD, formats={"a<b": "{:.1f}"})
    assert "<script" not in html
    soup = BeautifulSoup(html, "html.parser")
    assert soup.caption.get_text() == BAD
    assert [th.get_text() for th in soup.select("thead th[scope=col]")] == ["text", "a<b", "n"]
    assert [cells(row) for row in soup.select("tbody tr")] == [[BAD, "0.1", "3"], ["–", "–", "4"]]
    assert len(soup.select("tbody th[scope=row]")) == 2
    assert "number" in soup.select("tbody td")[0]["class"]


def test_html_with_two_levels_groups_columns():
    columns = pd.MultiIndex.from_tuples([("", "corpus"), ("kappa", "ours"), ("kappa", "paper")])
    soup = BeautifulSoup(tables.html(pd.DataFrame([["mfrc", 0.2, 0.21]], columns=columns), "c"), "html.parser")
    top, below = soup.select("thead tr")
    assert [(th.get_text(), th["colspan"], th["scope"]) for th in top.find_all("th")] == [
        ("", "1", "colgroup"),
        ("kappa", "2", "colgroup"),
    ]
    assert cells(below) == ["corpus", "ours", "paper"]


def test_html_refuses_a_format_without_a_column():
    with pytest.raises(ValueError, match="nonesuch"):
        tables.html(pd.DataFrame({"a": [1]}), "c", {"nonesuch": "{}"})


def test_markdown_escapes():
    text = tables.markdown(pd.DataFrame({"te|xt": ["a | <b> $x$\nnext", None], "v": [1.0, np.nan]}))
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines()]
    assert [rows[0], *rows[2:]] == [[r"te\|xt", "v"], [r"a \| &lt;b\> \$x\$ next", "1.00"], ["–", "–"]]
    assert re.fullmatch(r":-+", rows[1][0]) and re.fullmatch(r"-+:", rows[1][1])


def test_alignment_rows_groups_and_published():
    soup = BeautifulSoup(tables.alignment_html(alignment_table(), published.alignment()), "html.parser")
    titles = [th.get_text() for th in soup.select("th[scope=rowgroup]")]
    assert titles == [f"MFRC (paper), n = 190: {g}" for g in ("reference rows", "zero-shot", "supervised")]
    assert cells(row_of(soup, "All zeros")) == [
        "All zeros",
        "–",
        "16.00 [15.00, 17.00]",
        "N/A",
        "N/A",
        "0.25",
        "N/A",
        "N/A",
    ]
    assert cells(row_of(soup, "Hard predictions"))[2:] == [
        "31.00 [30.00, 32.00]",
        "40.79",
        "19.70",
        "0.25",
        "0.26",
        "0.59",
    ]
    # only the paper has it: ours is a dash
    assert cells(row_of(soup, "BERT (Demux)")) == [
        "BERT (Demux)",
        "–",
        "–",
        "3.00",
        "3.00",
        "–",
        "0.82",
        "0.82",
    ]
    widths = {sum(int(cell.get("colspan", 1)) for cell in row.find_all(["td", "th"])) for row in soup.find_all("tr")}
    assert widths == {8}


def test_a_published_row_stands_under_its_own_corpus():
    ours = alignment_table()
    ours = pd.concat([ours, ours.assign(corpus="hatexplain"), ours.assign(corpus="vignettes")])
    printed = pd.DataFrame(
        [("mfrc", "bert_demux", 3.0), ("hatexplain", "sft_outputs", 7.0), ("goemotions", "linear_probing", 5.0)],
        columns=["corpus", "method", "value"],
    ).assign(metric="nll", model="Llama 3.1 8B Instruct")
    soup, found, corpus = BeautifulSoup(tables.alignment_html(ours, printed), "html.parser"), {}, ""
    for row in soup.find_all("tr"):
        if title := row.find("th", attrs={"scope": "rowgroup"}):
            corpus = title.get_text().partition(" (")[0]
        elif row.find("th", string=re.compile("BERT|SFT|robing")):
            found.setdefault(corpus, []).append(row.find("th").get_text())
    assert found == {"MFRC": ["BERT (Demux)"], "HateXplain": ["SFT outputs"]}


def test_bold_only_where_flagged():
    table = alignment_table()
    assert "<strong>" not in tables.alignment_html(table) and "**" not in tables.alignment_markdown(table)
    table["best"] = (table["method"] == "unary_breakdown") & (table["metric"] == "nll")
    soup = BeautifulSoup(tables.alignment_html(table), "html.parser")
    assert [tag.get_text() for tag in soup.find_all("strong")] == ["4.90"]
    assert tables.alignment_markdown(table).count("**4.90**") == 1


def test_alignment_escapes_model_names():
    table = alignment_table().replace({"model": {"small": BAD}})
    assert "<script" not in tables.alignment_html(table)
    assert "<script" not in tables.alignment_markdown(table)


def test_alignment_markdown_is_a_regular_table():
    lines = tables.alignment_markdown(alignment_table(), published.alignment()).splitlines()
    assert {line.count("|") for line in lines} == {len(lines[0].split("|")) - 1}
    row = next(line for line in lines if "Unary" in line)
    assert [cell.strip() for cell in row.split("|")[1:7]] == [
        "MFRC (paper), n = 190",
        "Unary breakdown",
        "small",
        r"4.90 \[3.90, 5.90\]",
        "5.29",
        "2.49",
    ]


def test_other_measures_are_folded_and_say_which_way_is_better():
    rows = [("", "zeros", "dist_ce", 0.1451, 0.1294, 0.1626), ("", "zeros", "soft_micro_f1", 0.0, 0.0, 0.0)]
    rows += [("", "zeros", "entropy_correlation", np.nan, np.nan, np.nan)]
    rows += [("small", "unary_breakdown", "dist_ce", 0.2, 0.1, 0.3)]
    table = pd.DataFrame(rows, columns=["model", "method", "metric", "mean", "low", "high"])
    table = table.assign(corpus="mfrc", documents="paper", n=190)
    soup = BeautifulSoup(tables.measures_html(table, "Other <measures>"), "html.parser")
    assert soup.details.summary.get_text() == "Other <measures>" and soup.details.find("table")
    heads = [th.get_text() for th in soup.select("th[scope=col]")]
    assert heads == ["Method", "Model", "DistCE ↓", "Soft micro F1 ↑", "Entropy correlation ↑"]
    assert cells(row_of(soup, "All zeros"))[2:] == ["0.145 [0.129, 0.163]", "0.000 [0.000, 0.000]", "N/A"]
    assert cells(row_of(soup, "Unary breakdown"))[2:] == ["0.200 [0.100, 0.300]", "–", "–"]
    assert "<script" not in tables.measures_html(table.replace({"model": {"small": BAD}}))


def test_alignment_refuses_bad_tables():
    table = alignment_table()
    with pytest.raises(ValueError, match="'low'"):
        tables.alignment_html(table.drop(columns="low"))
    with pytest.raises(ValueError, match="two rows for .*zeros"):
        tables.alignment_html(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="nonesuch"):
        tables.alignment_html(table.replace({"method": {"zeros": "nonesuch"}}))
