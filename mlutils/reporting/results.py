"""The tables of `RESULTS.md`, made from the CSV of `figures/<grid>`: `python -m mlutils.reporting.results`."""

import re
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from mlutils import files, paths
from mlutils.reporting import comparison, tables, verdicts

MARK = re.compile(r"(<!-- (figures/\S+\.md) -->\n).*?(<!-- end -->)", re.S)


def write_tables(folder: Path) -> list[Path]:
    """Writes the Markdown tables behind `RESULTS.md` beside `claims.csv` and `alignment.csv`, and returns the files.

    headline.md: a small table a corpus; verdicts.md: the matrix, each cell a link; claims.md: the statistics behind it;
    finetuning.md: tuned minus base. Those that have no rows are not written.
    """
    made = {}
    if (file := folder / "claims.csv").exists():
        claims, place = pd.read_csv(file), f"figures/{folder.name}/claims.md"
        made["verdicts.md"] = tables.markdown(
            verdicts.matrix(
                claims, lambda told, claim: Markup(f"[{', '.join(told.values())}]({place}#{claim.lower()})")
            )
        )
        parts = [
            f"## {claim}\n\n{verdicts.CLAIMS[claim]}\n\n{tables.markdown(rows.drop(columns='Claim'))}"
            for claim, rows in verdicts.details(claims).groupby("Claim", sort=False)
        ]
        made["claims.md"] = f"# Statistics behind the verdicts, grid `{folder.name}`\n\n" + "\n".join(parts)
        if len(tuned := verdicts.finetuning(claims)):
            made["finetuning.md"] = tables.markdown(tuned.fillna(tables.MISSING))
    if (file := folder / "alignment.csv").exists():
        best = comparison.headline(pd.read_csv(file))
        parts = [
            f"**{corpus}**\n\n{tables.markdown(rows.drop(columns='Corpus'))}"
            for corpus, rows in best.groupby("Corpus", sort=False)
        ]
        if parts:  # none where the paper has none of the corpora
            made["headline.md"] = "\n".join(parts)
    return [files.write_text(folder / name, text) for name, text in made.items()]


def insert_tables(text: str) -> str:
    """Returns a text with each marked table as its file has it now."""
    return MARK.sub(lambda m: m[1] + (paths.ROOT / m[2]).read_text(encoding="utf-8").strip() + "\n" + m[3], text)


if __name__ == "__main__":
    results = paths.ROOT / "RESULTS.md"
    text = results.read_text(encoding="utf-8")
    for folder in sorted({(paths.ROOT / found[2]).parent for found in MARK.finditer(text)}):
        write_tables(folder)
    files.write_text(results, insert_tables(text))
