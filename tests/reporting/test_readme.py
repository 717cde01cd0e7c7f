"""The README says what the repository holds: its table is the committed one, its files and commands exist."""

import re

import pytest

from mlutils import paths
from mlutils.reporting.readme import insert_tables

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_is_the_one_that_the_real_grid_wrote():
    assert "<!-- figures/real/headline.md -->" in README
    assert insert_tables(README) == README, "run python -m mlutils.reporting.readme"


PATHS = re.findall(r"`?((?:notebooks|mlutils|data|tests|figures|grids|profiles)/[\w./-]+)", README)


@pytest.mark.parametrize("path", sorted(set(PATHS)))
def test_files_that_it_names_are_there(path):
    assert (paths.ROOT / path.rstrip(".")).exists()


def test_every_grid_and_notebook_is_explained():
    for file in [*paths.GRIDS.glob("*.yaml"), *paths.NOTEBOOKS.glob("*.ipynb")]:
        assert f"`{file.stem}`" in README, f"README does not explain {file.stem}"


def test_make_targets_that_it_names_are_there():
    makefile = (paths.ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target
