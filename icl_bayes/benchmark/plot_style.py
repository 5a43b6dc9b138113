"""How methods look in every plot: one colour per method, told apart without colour too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#222222"
MUTED = "#6b6b6b"
GRID = "#e6e6e6"
REFERENCE_COLOR = "#b8b8b8"

# Okabe and Ito's colours, which people with colour vision deficiency can tell apart; their
# yellow is left out, since thin yellow lines vanish on white.
_PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "brown": "#7A4B1E",
}
_COLOR_OF = {
    "icl": "blue",
    "parallel_hmc": "vermillion",
    "laplace": "green",
    "nuts": "black",
    "vi": "purple",
    "map": "brown",
    "exact": "sky",
    "sgld": "orange",
}
# The first of a method's variants has its full colour, so the order is fixed where it is known.
_VARIANT_ORDER = ("informed", "laplace", "exact_start", "joint", "full", "structured", "diagonal", "iaf")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Style:
    """Looks of one method: colour by method; marker and dashes by variant."""

    color: str
    marker: str
    dashes: Any


def styles_for(methods: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Style]:
    """Looks for ``(method, variant)`` pairs; a method keeps its colour whatever else is shown.

    ``vi_full`` counts as a variant of ``vi``. Methods without a colour of their own get those
    that are left.
    """
    pairs = sorted(dict.fromkeys(methods), key=_order)
    families = list(dict.fromkeys(_family(method) for method, _ in pairs))
    free = [name for name in _PALETTE if name not in {_COLOR_OF.get(family) for family in families}]
    colors, unnamed = {}, 0
    for family in families:
        if family in _COLOR_OF:
            colors[family] = _PALETTE[_COLOR_OF[family]]
        else:
            colors[family] = _PALETTE[free[unnamed % len(free)]] if free else MUTED
            unnamed += 1
    seen: dict[str, int] = {}
    styles = {}
    for method, variant in pairs:
        family = _family(method)
        index = seen.setdefault(family, 0)
        seen[family] += 1
        offset = families.index(family)  # so that equal markers rarely meet across methods
        styles[method, variant] = Style(
            _shade(colors[family], index), _MARKERS[(index + offset) % len(_MARKERS)], _DASHES[index % len(_DASHES)]
        )
    return styles


def _order(pair: tuple[str, str]) -> tuple[Any, ...]:
    """Methods by name; known variants first, in their order, then forms derived from them."""
    method, variant = pair
    words = re.split(r"[^a-z_]+", variant.lower()) + re.split("_", method.lower())
    rank = next((index for index, known in enumerate(_VARIANT_ORDER) if known in words), len(_VARIANT_ORDER))
    return _family(method), variant not in ("", *_VARIANT_ORDER), rank, method, variant


def _family(method: str) -> str:
    return "vi" if method.startswith("vi_") else method


def _shade(color: str, index: int) -> str:
    """The colour itself, then lighter and darker ones for further variants."""
    from matplotlib.colors import to_hex, to_rgb

    step = (0.0, 0.35, -0.3, 0.55, -0.5)[index % 5]
    goal = 1.0 if step > 0 else 0.0
    red, green, blue = (channel + abs(step) * (goal - channel) for channel in to_rgb(color))
    return to_hex((red, green, blue))


def new_figure(width: float, height: float) -> Figure:
    """A figure outside pyplot's global state, rendered by Agg, with room made for legends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, *, xlabel: str = "", ylabel: str = "", title: str = "", grid: str = "both") -> None:
    """The common looks of an axes: two spines, a pale grid behind the data, a left-aligned title."""
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9)
    axes.set_xlabel(xlabel, color=INK, fontsize=10)
    axes.set_ylabel(ylabel, color=INK, fontsize=10)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK)


def block_medians(values: Any, blocks: int) -> tuple[Any, Any]:
    """Middle positions and medians of consecutive blocks; one spike doesn't move them. NaNs are left out."""
    import numpy as np

    array = np.asarray(values, float)
    parts = np.array_split(np.arange(len(array)), max(1, min(blocks, len(array))))
    middles = np.array([part[len(part) // 2] for part in parts])
    medians = [
        np.median(array[part][np.isfinite(array[part])]) if np.isfinite(array[part]).any() else np.nan for part in parts
    ]
    return middles, np.array(medians)


def legend_outside(figure: Figure, handles: Sequence[Any], labels: Sequence[str], where: str) -> None:
    """A legend beside (``right``) or below (``bottom``) all axes, where it can't cover data."""
    if where == "right":
        options: dict[str, Any] = {"loc": "outside right upper", "ncols": 1}
    else:
        options = {"loc": "outside lower center", "ncols": min(len(labels), 4)}
    figure.legend(handles, labels, frameon=False, fontsize=9, labelcolor=INK, handlelength=2.6, **options)


def to_png(figure: Figure, *, dpi: int = 130) -> bytes:
    """The figure as a PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
