"""The style of figures, and saving them with alternative text, the same bytes every time (section 9)."""

import base64
import html
import os
from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
from matplotlib.figure import Figure
from PIL import Image

from mlutils.files import replacing, write_json

STYLE = Path(__file__).with_name("paper.mplstyle")


def use_style() -> None:
    """Makes `paper.mplstyle` the style of every figure drawn from here on."""
    matplotlib.style.use(STYLE)


def plain(text) -> str:
    """Returns text that matplotlib draws as it is, dollar signs too (it would read a formula between two)."""
    return str(text).replace("$", r"\$")


@dataclass(frozen=True)
class Picture(os.PathLike):
    """A saved figure: the PNG and its alternative text. A notebook shows it as an image with the text."""

    path: Path
    alt: str

    def __fspath__(self) -> str:
        return str(self.path)

    def html(self, caption: str = "") -> str:
        """Returns a `<figure>` with the image inside, for any page; the caption is plain text."""
        with Image.open(self.path) as image:
            inches = image.width / image.info.get("dpi", (200, 200))[0]
        data = base64.b64encode(self.path.read_bytes()).decode()
        # 130 pixels an inch: 8 pt letters come out nearly as large as the text around them.
        return (
            '<figure class="picture"><div class="scroll" tabindex="0" role="region" aria-label="Figure">'
            f'<img class="{"wide" if inches > 4 else "narrow"}" alt="{html.escape(self.alt)}" '
            f'width="{round(130 * inches)}" src="data:image/png;base64,{data}"></div>'
            f"{f'<figcaption>{html.escape(caption)}</figcaption>' if caption else ''}</figure>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html(), "text/plain": self.alt}


def save(fig: Figure, name: str, alt: str, folder) -> Picture:
    """Writes `name.png` (200 dpi), `name.pdf`, `name.json` (the alternative text); the same bytes every time.

    alt: what a reader who cannot see the figure needs to know; the PNG carries it too (entry Description).
    Raises ValueError for an empty alt and for a name of other characters than letters, digits, `_`, `-`, `.`.
    """
    alt = " ".join(str(alt).split())
    if not alt:
        raise ValueError(f"figure {name!r} has no alternative text: say in alt what it shows and what one sees")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
        raise ValueError(f"figure name {name!r}: use letters, digits, _, - and . only")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))  # no date and no version: same bytes again
    with matplotlib.style.context(STYLE):
        for suffix, metadata in (
            ("pdf", {**nothing, "Subject": alt}),
            ("png", {"Software": None, "Description": alt}),
        ):
            with replacing(folder / f"{name}.{suffix}") as partial:
                fig.savefig(partial, format=suffix, metadata=metadata)
    write_json(folder / f"{name}.json", {"alt": alt})
    return Picture(folder / f"{name}.png", alt)


def load(path) -> Picture:
    """Returns a figure that `save` wrote, its alternative text read from the PNG; without one, ValueError."""
    with Image.open(path) as image:
        alt = image.info.get("Description", "")
    if not alt:
        raise ValueError(f"{path} carries no alternative text: was it written by figures.save?")
    return Picture(Path(path), alt)
