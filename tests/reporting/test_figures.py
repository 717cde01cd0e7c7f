import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from PIL import Image

from mlutils.readouts import METHODS
from mlutils.reporting import figures, looks, published

ALT = 'Dots: "ours" <b>lie</b> above – the floor'


def alignment_table(models=("small",)):
    rows = []
    for k, corpus in enumerate(("mfrc", "goemotions")):
        for model, method, value in [
            ("", "zeros", 8.0),
            ("", "noise_floor", 1.0),
            *[(model, "compare_to_none", 5.0 + 9 * k) for model in models],
            *[(model, "unary_breakdown", 3.0) for model in models],
        ]:
            for metric in ("nll", "l1", "f1"):
                mean = value / 10 if metric == "f1" else value
                rows.append((corpus, model, method, metric, mean, 0.9 * mean, 1.1 * mean, 190 + k))
    return pd.DataFrame(rows, columns=["corpus", "model", "method", "metric", "mean", "low", "high", "n"])


def drawing():
    figures.use_style()
    fig = Figure(layout="constrained")
    fig.subplots().plot([1, 2], label="$")
    return fig


def inside(axis):
    """Returns whether all lines of an axis that have data coordinates lie within its limits."""
    (left, right), (low, high) = sorted(axis.get_xlim()), sorted(axis.get_ylim())
    for line in axis.lines:
        if line.get_transform() != axis.transData:
            continue  # axhline and axvline
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if not ((x >= left) & (x <= right) & (y >= low) & (y <= high)).all():
            return False
    return True


def test_every_method_has_its_own_look():
    every = [looks.look(method) for method in METHODS]
    marks = [(look.colour, look.marker) for look in every]
    assert len(set(marks)) == len(marks)
    assert len({look.title for look in every}) == len(marks)
    assert {look.group for look in every} == set(looks.GROUPS) - {"fitted"}
    assert looks.look("unary_breakdown_calibrated").group == "fitted"
    assert set(published.alignment()["method"]) <= set(METHODS)


def test_variants_share_colour_and_marker():
    plain, calibrated = figures.look("unary_breakdown"), figures.look("unary_breakdown_calibrated")
    assert (plain.colour, plain.marker) == (calibrated.colour, calibrated.marker)
    assert plain.fill != calibrated.fill and calibrated.title == "Unary breakdown, calibrated"
    methods = ["sft_outputs", "unary_breakdown_calibrated", "zeros", "unary_breakdown", "binary_breakdown"]
    ranked = ["zeros", "unary_breakdown", "binary_breakdown", "unary_breakdown_calibrated", "sft_outputs"]
    assert sorted(methods, key=looks.order) == ranked


@pytest.mark.parametrize("name", ["nonesuch", "_calibrated", "nonesuch_calibrated"])
def test_an_unknown_method_is_an_error(name):
    with pytest.raises(ValueError, match="add it to readouts.METHODS"):
        figures.look(name)


def test_save_stores_the_alternative_text(tmp_path):
    picture = figures.save(drawing(), "fig-2_a", f"  {ALT}\n", tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "fig-2_a.json",
        "fig-2_a.pdf",
        "fig-2_a.png",
    ]
    with Image.open(picture) as image:
        assert image.info["Description"] == ALT
        assert image.info["dpi"][0] == pytest.approx(200, abs=0.1)
        assert image.width == pytest.approx(3.03 * 200, abs=1)
    assert json.loads((tmp_path / "new" / "fig-2_a.json").read_text(encoding="utf-8")) == {"alt": ALT}
    assert figures.load(picture.path) == picture
    pdf = picture.path.with_suffix(".pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # fonttype 42: real fonts, as ACL asks
    assert b"CreationDate" not in pdf


def test_a_rebuild_is_byte_identical(tmp_path):
    # another process with another hash seed, as a rebuild is
    code = (
        "import sys, numpy as np; from matplotlib.figure import Figure; from mlutils.reporting import figures\n"
        "figures.use_style(); fig = Figure(layout='constrained'); axis = fig.subplots()\n"
        "axis.plot([1, 2], [3, 4], marker='o', label='a'); axis.bar([1], [2], hatch='//'); axis.set_title('x $y$')\n"
        "fig.legend(loc='outside lower center'); figures.save(fig, 'f', 'alt', sys.argv[1])"
    )
    digests = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, folder], env=environment, check=True)
        digests.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()})
    assert len(digests[0]) == 3 and digests[0] == digests[1]


@pytest.mark.parametrize(("name", "alt"), [("a", ""), ("a", " \n"), ("../a", "x"), ("", "x"), ("a b", "x")])
def test_save_refuses(tmp_path, name, alt):
    with pytest.raises(ValueError, match="alternative text|figure name"):
        figures.save(drawing(), name, alt, tmp_path)
    assert not list(tmp_path.iterdir())


def test_load_refuses_an_image_without_text(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="alternative text"):
        figures.load(tmp_path / "x.png")


def test_a_notebook_shows_the_picture_with_its_text(tmp_path):
    picture = figures.save(drawing(), "f", ALT, tmp_path)
    bundle = picture._repr_mimebundle_()
    image = BeautifulSoup(bundle["text/html"], "html.parser").img
    assert image["alt"] == ALT and image["src"].startswith("data:image/png;base64,iVBOR")
    assert bundle["text/plain"] == ALT and "<b>" not in bundle["text/html"]


def test_plain_text_is_no_formula(tmp_path):
    figures.use_style()
    fig = Figure()
    fig.text(0.5, 0.5, figures.plain("costs $5 \\and $\\nonsense"))
    figures.save(fig, "f", "x", tmp_path)  # would raise, were it parsed as a formula


@pytest.mark.parametrize("models", [("small",), ("small", "large")])
def test_alignment_scatter_draws_all_points(models):
    fig = figures.alignment_scatter(alignment_table(models), published.alignment())
    assert len(fig.axes) == 2 * len(models)
    assert [axis.get_title() for axis in fig.axes[:2]] == ["MFRC, n = 190", "GoEmotions, n = 191"]
    for axis in fig.axes:
        assert inside(axis) and axis.get_yscale() == "log"
        assert len(axis.containers) == 3  # zeros and two methods with crosses; the floor is two lines
    hollow = [line for line in fig.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == len(published.alignment().query("corpus == 'mfrc' and metric == 'l1'"))
    (text,) = fig.legends
    assert "hollow: published, 8B" in [t.get_text() for t in text.get_texts()]


@pytest.mark.parametrize("models", [("small",), ("small", "large")])
def test_alignment_bars_draws_all_points(models):
    fig = figures.alignment_bars(alignment_table(models), published.alignment())
    assert len(fig.axes) == 6  # two corpora, three metrics
    assert all(inside(axis) for axis in fig.axes)
    names = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert names[-2:] == ["All zeros", "Noise floor"]
    assert ("Compare-to-none · large" in names) == (len(models) == 2)
    values = sorted({float(line.get_xdata()[0]) for line in fig.axes[1].lines if len(line.get_xdata()) == 1})
    assert values[0] == 0.39 and values[-1] == 8.0  # the paper's best L1 on MFRC; our zeros


def test_alignment_figures_name_what_is_missing():
    with pytest.raises(ValueError, match="'high'"):
        figures.alignment_scatter(alignment_table().drop(columns="high"))
    with pytest.raises(ValueError, match="no rows"):
        figures.alignment_bars(alignment_table().iloc[:0])


def test_first_step_sorts_each_document():
    table = pd.DataFrame({"corpus": "mfrc", "document": list("aaabbb"), "probability": [0.1, 0.7, 0.2, 0.3, 0.3, 0.4]})
    (axis,) = figures.first_step(table).axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.7, 0.2, 0.1])
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), [0.55, 0.25, 0.2])  # median at each rank
    assert axis.get_title() == "MFRC, n = 2"
    with pytest.raises(ValueError, match="different numbers of labels"):
        figures.first_step(table.iloc[:-1])


def test_label_counts_beside_published():
    table = pd.DataFrame(
        {"corpus": "mfrc", "labels": ["0", "1", "2", "3+"], "percent": [79.2, 17.8, 2.7, 0.3], "n": 774}
    )
    (axis,) = figures.label_counts(table, published.datasets()).axes
    assert [bar.get_height() for bar in axis.patches] == [79.2, 17.8, 2.7, 0.3]
    assert [float(line.get_ydata()[0]) for line in axis.lines] == [78, 18, 3, 1]
    assert [t.get_text() for t in axis.texts] == ["78", "18", "3", "<1"]


def test_reporting_imports_no_model_library():
    code = (
        "import sys, mlutils.reporting.figures, mlutils.reporting.pages, mlutils.reporting.tables\n"
        "print(*({'torch', 'transformers', 'mlutils.tracing'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == ""
