"""Puts the committed tables into the README, between their marks: `python -m mlutils.reporting.readme`."""

import re

from mlutils import paths

MARK = re.compile(r"(<!-- (figures/\S+\.md) -->\n).*?(<!-- end -->)", re.S)


def insert_tables(text: str) -> str:
    """Returns the README's text with each marked table as its file has it now."""
    return MARK.sub(lambda m: m[1] + (paths.ROOT / m[2]).read_text(encoding="utf-8").strip() + "\n" + m[3], text)


if __name__ == "__main__":
    readme = paths.ROOT / "README.md"
    readme.write_text(insert_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
