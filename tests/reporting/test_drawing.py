"""The drawing kit: style, panels, intervals and words, and figures saved with their text, the same bytes every time."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from mlutils.metrics import METRICS
from mlutils.reporting import drawing

ALT = 'Dots: "ours" <b>lie</b> above – the floor'


def draw(alt=ALT):
    fig = drawing.Drawing(alt=alt)
    fig.subplots().plot([1, 2], label="$")
    return fig


def test_save_stores_the_alternative_text(tmp_path):
    picture = drawing.save(draw(f"  {ALT}\n"), "fig-2_a", tmp_path / "new")
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
    assert drawing.load(picture.path) == picture
    pdf = picture.path.with_suffix(".pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # fonttype 42: real fonts, as ACL asks
    assert b"CreationDate" not in pdf


def test_a_rebuild_is_byte_identical(tmp_path):
    # another process with another hash seed, as a rebuild is
    code = (
        "import sys; from mlutils.reporting import drawing\n"
        "fig = drawing.Drawing(alt='alt'); axis = fig.subplots()\n"
        "axis.plot([1, 2], [3, 4], marker='o', label='a'); axis.bar([1], [2], hatch='//'); axis.set_title('x $y$')\n"
        "fig.legend(loc='outside lower center'); drawing.save(fig, 'f', sys.argv[1])"
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
        drawing.save(draw(alt), name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_load_refuses_an_image_without_text(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="alternative text"):
        drawing.load(tmp_path / "x.png")


def test_a_notebook_shows_the_picture_with_its_text(tmp_path):
    picture = drawing.save(draw(), "f", tmp_path)
    bundle = picture._repr_mimebundle_()
    image = BeautifulSoup(bundle["text/html"], "html.parser").img
    assert image["alt"] == ALT and image["src"].startswith("data:image/png;base64,iVBOR")
    assert bundle["text/plain"] == ALT and "<b>" not in bundle["text/html"]


def test_plain_text_is_no_formula(tmp_path):
    fig = draw()
    fig.text(0.5, 0.5, drawing.plain("costs $5 \\and $\\nonsense"))
    drawing.save(fig, "f", tmp_path)  # would raise, were it parsed as a formula


def test_panels_stand_in_lines_and_gaps_stay_empty():
    fig, axes = drawing.panels(["a", None, "b", "c"], 3, 1.5, 0.5)
    assert list(axes) == ["a", "b", "c"] and len(fig.axes) == 3
    assert tuple(fig.get_size_inches()) == pytest.approx((drawing.TEXT, 3.5))
    assert [drawing.is_left(axis) for axis in axes.values()] == [True, False, True]
    for axis in axes.values():
        drawing.label(axis, "x", "y")
    assert [(axis.get_xlabel(), axis.get_ylabel()) for axis in axes.values()] == [("", "y"), ("", ""), ("x", "y")]
    (alone,) = drawing.panels(["a"], 1, 1.5, 0.5)[1].values()
    assert alone.figure.get_figwidth() == pytest.approx(drawing.COLUMN)


def test_arms_point_outwards_and_an_unknown_end_has_none():
    found = drawing.arms([2.0, 1.0, 3.0], [1.5, np.nan, 3.2], [4.0, np.nan, 3.5])
    np.testing.assert_allclose(found, [[0.5, np.nan, 0], [2.0, np.nan, 0.5]])
    assert drawing.arms(2.0, 1.5, 4.0).tolist() == [[0.5], [2.0]]


def test_intervals_reach_from_low_to_high_on_either_axis():
    axis = drawing.Drawing().subplots()
    (line, _, (bars,)) = drawing.intervals(axis, [2.0, 3.0], [5, 6], ([1.5, 2.0], [4.0, 3.5]))
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[1.5, 4.0], [2.0, 3.5]]
    (_, _, (across, upright)) = drawing.intervals(axis, 2.0, 5.0, (1.5, 4.0), (4.0, 9.0))
    ends = [across.get_segments()[0][:, 0].tolist(), upright.get_segments()[0][:, 1].tolist()]
    assert ends == [[1.5, 4.0], [4.0, 9.0]] and line.get_linestyle() == "None"


def test_rows_are_told_in_words():
    table = pd.DataFrame({"model": ["a", "b"], "mean": [0.125, 1.0]})
    assert drawing.told(table, "{model} {mean:.1f}") == "a 0.1; b 1.0"
    assert drawing.told(table.iloc[:0], "{model}", "no model") == "no model"


def test_a_table_that_cannot_be_drawn_is_named():
    table = pd.DataFrame({"corpus": ["mfrc"], "model": [None]})
    assert drawing.check(table, "corpus")["model"].tolist() == [""]
    with pytest.raises(ValueError, match=r"lacks the columns \['n'\]; it has \['corpus', 'model'\]"):
        drawing.check(table, "corpus", "n")
    with pytest.raises(ValueError, match="no rows"):
        drawing.check(table.iloc[:0], "corpus")


def test_words_of_axes_and_counts():
    assert METRICS["nll"].axis_label == "NLL, nats (lower is better)"
    assert METRICS["f1"].axis_label == "Example-F1 (higher is better)"
    assert [drawing.counts(each) for each in ([], [3, 3], [5, 4, 9])] == ["n = 0", "n = 3", "n = 4-9"]


def test_reporting_imports_no_model_library():
    code = (
        "import sys, mlutils.reporting, mlutils.reporting.pages, mlutils.reporting.tables\n"
        "print(*({'torch', 'transformers', 'mlutils.tracing'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == ""
