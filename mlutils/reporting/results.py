"""The tables of `RESULTS.md`: written beside the figures of a grid, and put between their marks in it.

`python -m mlutils.reporting.results` puts in what the files of `figures/` hold now.
"""

import re
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from mlutils import files, paths
from mlutils.reporting import comparison, tables, verdicts

MARK = re.compile(r"(<!-- (figures/\S+\.md) -->\n).*?(<!-- end -->)", re.S)


def write_tables(folder: Path, claims: pd.DataFrame, alignment: pd.DataFrame) -> list[Path]:
    """Writes the tables of `RESULTS.md` into a grid's folder of figures, and returns the files.

    headline.md: a small table a corpus; verdicts.md: the matrix, each cell a link; claims.md: the statistics behind it;
    finetuning.md: tuned minus base. Those that have no rows are not written. claims, alignment: of all runs.
    """

    def link(told: dict[str, str], claim: str) -> Markup:
        return Markup(f"[{', '.join(told.values())}](claims.md#{claim.lower()})")

    told = dict(list(verdicts.details(claims).groupby("Claim", sort=False)))
    parts = [
        f"## {claim}\n\n{words}\n\n"
        + (tables.markdown(told[claim].drop(columns="Claim")) if claim in told else "No case at hand.\n")
        for claim, words in verdicts.CLAIMS.items()
    ]
    best, tuned = comparison.headline(alignment), verdicts.finetuning(claims)
    heads = [
        f"**{corpus}**\n\n{tables.markdown(rows.drop(columns='Corpus'))}"
        for corpus, rows in best.groupby("Corpus", sort=False)
    ]
    made = {
        "verdicts.md": tables.markdown(verdicts.matrix(claims, link)),
        "claims.md": f"# Statistics behind the verdicts, grid `{folder.name}`\n\n" + "\n".join(parts),
        "finetuning.md": tables.markdown(tuned.fillna(tables.MISSING)) if len(tuned) else "",
        "headline.md": "\n".join(heads),  # none where the paper has none of the corpora
    }
    return [files.write_text(folder / name, text) for name, text in made.items() if text]


def insert_tables(text: str) -> str:
    """Returns a text with each marked table as its file has it now."""

    def insert(mark: re.Match) -> str:
        table = (paths.ROOT / mark[2]).read_text(encoding="utf-8").strip()
        return f"{mark[1]}{table.replace('](', f']({Path(mark[2]).parent.as_posix()}/')}\n{mark[3]}"

    return MARK.sub(insert, text)


if __name__ == "__main__":
    page = paths.ROOT / "RESULTS.md"
    files.write_text(page, insert_tables(page.read_text(encoding="utf-8")))
