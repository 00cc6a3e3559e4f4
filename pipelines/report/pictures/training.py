"""What the fits say: validation by epoch, losses, latent dimensions."""

from collections.abc import Sequence

import numpy as np

from pipelines.report.drawing import SOFT, legend, legend_room, number, panels, sheet, svg, ticks
from pipelines.report.findings import Document
from pipelines.report.pictures.base import Picture, Series, names_of, only_some
from pipelines.report.words import figure, listed, plain

ACTIVE = 0.01
"""Nats of KL from which a latent dimension counts as active."""


def _fits(document: Document, models: Sequence[Series], part: str, least: int = 2) -> list[tuple[Series, list[float], int]]:
    """Models with such a curve, the curve, and the best epoch."""
    found = []
    for m in models:
        fit = document["models"][m.key].get("fit") or {}
        if len(fit.get(part) or []) >= least:
            found.append((m, fit[part], fit.get("best_epoch") or 0))
    return found


def validation(document: Document, models: Sequence[Series]) -> Picture | None:
    """The validation metric over epochs of all models that are trained by epochs."""
    found = _fits(document, models, "validation")
    if not found:
        return None
    drawn = [m for m, _, _ in found]
    picture, axes = sheet(2.1, bottom=legend_room([m.name for m in drawn], 0.6))
    for m, curve, best in found:
        axes.plot(range(1, len(curve) + 1), curve, color=m.colour)
        if 0 < best <= len(curve):
            axes.plot(best, curve[best - 1], m.marker, color=m.colour, markersize=7)
    ticks(axes.xaxis, 5, whole=True)
    ticks(axes.yaxis)
    axes.grid(axis="y")
    axes.set_xlabel("epoch", labelpad=3)
    axes.set_title("validation metric")
    names_of(picture, drawn)
    late = [plain(m.key, 40) for m, curve, best in found if best >= len(curve)]
    stops = [f"{plain(m.key, 40)} at epoch {best} of {len(curve)}" for m, curve, best in found if 0 < best < len(curve)]
    said = f"Best on validation: {listed(stops)}" if stops else "The validation metric over epochs"
    said += f"; {listed(late)} still rose at the last epoch, so more epochs may help" if late else ""
    note = f"The marker is the epoch whose weights are kept.{only_some(document, models)}"
    return Picture("validation", said, note, svg(picture, said))


def losses(document: Document, models: Sequence[Series]) -> Picture | None:
    """The training loss of each model over epochs, each on its own scale."""
    found = _fits(document, models, "losses")
    if not found:
        return None
    picture, all_axes = panels(len(found), 1.1, 0.55)
    for (m, curve, best), axes in zip(found, all_axes, strict=True):
        axes.plot(range(1, len(curve) + 1), curve, color=m.colour)
        if 0 < best <= len(curve):
            axes.plot(best, curve[best - 1], m.marker, color=m.colour)
        ticks(axes.xaxis, 4, whole=True)
        ticks(axes.yaxis, 3)
        axes.grid(axis="y")
        axes.set_title(m.name)
    for axes in all_axes[-2:]:
        axes.set_xlabel("epoch", labelpad=3)
    fell = [f"{plain(m.key, 40)} from {figure(curve[0])} to {figure(curve[-1])}" for m, curve, _ in found]
    said = f"Training loss by epoch: {listed(fell)}"
    note = "Each model has a loss of its own, so the scales cannot be compared; the marker is the epoch that is kept."
    return Picture("losses", said, note, svg(picture, said))


def latent(document: Document, models: Sequence[Series]) -> Picture | None:
    """KL of each latent dimension, sorted: how many carry anything."""
    found = _fits(document, models, "kl_by_dimension", least=1)
    if not found:
        return None
    drawn = [m for m, _, _ in found]
    picture, axes = sheet(2.0, bottom=legend_room([m.name for m in drawn], 0.6))
    told = []
    for m, kl, _ in found:
        values = np.sort(np.maximum(np.asarray(kl, float), 1e-5))[::-1]
        told.append(f"{plain(m.key, 40)} uses {int((values > ACTIVE).sum())} of {len(values)} latent dimensions")
        axes.plot(range(1, len(values) + 1), values, color=m.colour)
    axes.axhline(ACTIVE, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    at = [tick for tick in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100) if low <= tick <= high]
    axes.set_yticks(at, [number(tick) for tick in at])
    axes.set_yticks([], minor=True)
    ticks(axes.xaxis, 5, whole=True)
    axes.grid(axis="y")
    axes.set_xlabel("latent dimension, largest first", labelpad=3)
    axes.set_title("KL from the prior, nats")
    legend(picture, [m.name for m in drawn], [m.colour for m in drawn], [""] * len(drawn))
    note = f"A dimension with more than {ACTIVE:g} nats (dashed) is active; the others say nothing of a user."
    return Picture("latent", listed(told), note, svg(picture, listed(told)))
