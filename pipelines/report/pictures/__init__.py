"""The pictures of the report: each function draws one, or nothing where the document lacks what it shows."""

from pipelines.report.findings import Document, standing
from pipelines.report.pictures.base import Picture, series
from pipelines.report.pictures.data import item_map, lengths, popularity, times
from pipelines.report.pictures.groups import groups, targets
from pipelines.report.pictures.nights import trend, windows
from pipelines.report.pictures.ranking import curves, differences, overlap, scores
from pipelines.report.pictures.training import latent, losses, validation


def draw(document: Document, metric: str) -> dict[str, list[Picture]]:
    """All pictures, by section of the page."""
    order = standing(document, metric)
    models = series(document, order)
    sections: dict[str, list[Picture | None]] = {
        "accuracy": [
            scores(document, metric, order, models),
            differences(document, metric, order),
            curves(document, metric, models),
        ],
        "beyond": [overlap(document)],
        "groups": list(groups(document, metric, models)),
        "targets": list(targets(document, metric, models)),
        "learnt": [validation(document, models), losses(document, models), latent(document, models)],
        "map": list(item_map(document)),
        "data": [popularity(document), lengths(document), times(document), windows(document, metric, models)],
        "time": [trend(document, metric, models)],
    }
    return {section: [picture for picture in found if picture is not None] for section, found in sections.items()}
