"""The routes, one file for each thing that they are about; `ROUTERS` is what the application includes."""

from service import observing
from service.routes import anomaly, items, model, recommendations, stored_user, users

ROUTERS = (
    stored_user.router,
    recommendations.router,
    users.router,
    anomaly.router,
    items.router,
    model.router,
    model.health,
    observing.router,
)
