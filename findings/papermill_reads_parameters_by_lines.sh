#!/usr/bin/env bash
# papermill.inspect_notebook reads a parameters cell line by line: valid Python lines can vanish, or swallow their neighbour.
#
# Guess before it was run: typed assignments with a comment are read as Python reads them; at worst a comment is cut.
# Seen (papermill 2.7.0): a line whose comment holds an equals sign is no parameter (a message on the log, no error), so
# `--help-notebook` and every caller of inspect_notebook believe that it does not exist, while -p sets it all the same; a
# default that holds a hash mark is cut in the middle of its string; a statement behind a parameter is glued to its value.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 nbformat==5.11.1
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import nbformat, papermill
from nbformat.v4 import new_code_cell, new_notebook

source = "limit: int = 5  # <= 0: all\nname: str = \"a # b\"  # which\nseed: int = 1\nprint(seed)"
spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}
cell = new_code_cell(source, metadata={"tags": ["parameters"]})
nbformat.write(new_notebook(cells=[cell], metadata=spec), "book.ipynb")
scope = {}
exec(source.replace("print(seed)", ""), scope)
found = {name: each["default"] for name, each in papermill.inspect_notebook("book.ipynb").items()}
print("Python reads:   ", {name: scope[name] for name in ("limit", "name", "seed")})
print("papermill reads:", found)
assert found == {"name": '"a', "seed": "1print(seed)"}, found
print("as seen: papermill", papermill.__version__)
PY
