"""The version that is served, and the probes."""

from fastapi import APIRouter, HTTPException, Request

from service.routes.reading import ServedNow, Serving, problems, v1
from service.schemas import Arm, IndexInfo, Live, ModelInfo, Ready

router = v1()
health = APIRouter(prefix="/health", tags=["health"])


@router.get("/model", tags=["model"], summary="The version that is served", responses=problems(422, 503))
async def model(engine: Serving, served: ServedNow) -> ModelInfo:
    """Version, model, data digest, metrics and time of training; with an A/B test in progress, of its main version."""
    about, index = engine.about, engine.index
    return ModelInfo(
        version=engine.version,
        model=about["model"],
        data_digest=engine.artifact.manifest.get("data", {}).get("digest"),
        metrics=about["metrics"],
        trained_at=about["created"],
        items=about["items"],
        users=about["users"],
        index=None
        if index is None
        else IndexInfo(recall_at_100=index.recall, queries=index.queries, cells=index.cells, probed=index.probed),
        arms=[
            Arm(version=version, share=share, served=version in served.engines)
            for version, share in (served.test.shares if served.test else {}).items()
        ],
    )


@health.get("/live", summary="Whether the process answers")
async def live() -> Live:
    """200 as long as the process can answer at all."""
    return Live()


@health.get("/ready", summary="Whether a model is served", responses=problems(503))
async def ready(request: Request, engine: Serving) -> Ready:
    """200 once recommendations can be asked for; 503 again when the service is about to stop."""
    if request.app.state.stopping:
        raise HTTPException(503, "the service is about to stop")
    return Ready(model_version=engine.version)
