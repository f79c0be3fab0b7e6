"""Parts of drawings in SVG: text in generic fonts, and words in the color of their loss."""

from bisect import bisect
from collections.abc import Sequence
from html import escape

from memsinks_np.experiments.report.loss_map import EDGES

SANS = "system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace"
ADVANCE = 0.6  # of a character of a monospaced font, in font sizes
FILLS = ("#00204d", "#27406e", "#4c556c", "#6c6e72", "#958f78", "#b3a772", "#d9c55c", "#ffea46")
INKS = ("#fff",) * 4 + ("#000",) * 4  # of text on them
# color, and fill: rectangles take the first, texts inherit the second
LOSSES = [f"color:{fill};fill:{ink}" for fill, ink in zip(FILLS, INKS, strict=True)]
COLORS = {  # light, dark
    "page": ("#ffffff", "#0d1117"),
    "ink": ("#1d1d1f", "#e6edf3"),
    "soft": ("#57606a", "#9aa4b0"),
    "line": ("#d0d7de", "#3a424c"),
    "card": ("#f4f6f8", "#1b2027"),
    "off": ("#dfe3e8", "#2d343d"),
    "shared": ("#7d8590", "#8b949e"),
    "first": ("#0072B2", "#58b2f0"),
    "second": ("#b35900", "#f0a040"),
}
Place = tuple[float, float, float]  # x, y, width of a word


def bin_of(loss: float) -> int:
    """Return the number of a loss's color."""
    return bisect(EDGES, loss)


def colors(dark: bool) -> str:
    """Return a class for each color, which sets the fill; on dark, words have an outline."""
    outline = f"g rect{{stroke:{COLORS['line'][1]}}}" if dark else ""
    return "".join(f".{name}{{fill:{both[dark]}}}" for name, both in COLORS.items()) + outline


def text(x: float, y: float, words: str, classes: str, more: str = "") -> str:
    """Return one line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{classes}"{more}>{escape(words)}</text>'


def flow(words: Sequence[str], x: float, y: float, width: float, size: float) -> list[Place]:
    """Return places for words of a monospaced font, in lines of at most `width`."""
    places: list[Place] = []
    left = x
    for word in words:
        w = round(ADVANCE * size * len(word) + 0.55 * size, 1)
        if x + w > left + width:
            x, y = left, y + 1.85 * size
        places.append((round(x, 1), round(y, 1), w))
        x += w + 0.2 * size
    return places


def chip(word: str, place: Place, size: float) -> str:
    """Return a word on a rectangle. The text has this width in every font."""
    x, y, w = place
    long = ADVANCE * size * len(word)
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{1.65 * size:g}" rx="3"/>'
        f'<text x="{x + w / 2:g}" y="{y + 1.17 * size:g}" textLength="{long:g}">'
        f"{escape(word)}</text>"
    )


def scale(x: float, y: float, side: float) -> str:
    """Return the colors in order, as squares."""
    return "".join(
        f'<rect x="{x + k * side:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="{fill}"/>'
        for k, fill in enumerate(FILLS)
    )


def document(size: tuple[int, int], title: str, about: str, style: str, body: Sequence[str]) -> str:
    """Return a drawing on a page of its own color, which a reader's program can describe."""
    w, h = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        f'role="img" aria-labelledby="t d"><title id="t">{escape(title)}</title>'
        f'<desc id="d">{escape(about)}</desc>\n<style>{style}</style>\n'
        f'<rect width="{w}" height="{h}" rx="8" class="page"/>\n' + "\n".join(body) + "\n</svg>\n"
    )
