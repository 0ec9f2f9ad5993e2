"""The application, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from tunelab import __version__
from tunelab.service.analyses import Analyses
from tunelab.service.classifiers import Classifiers
from tunelab.service.database import Database, open_database
from tunelab.service.deps import Service
from tunelab.service.middleware import TraceMiddleware
from tunelab.service.openapi import install_openapi
from tunelab.service.places import Places
from tunelab.service.problems import install_handlers
from tunelab.service.routes import analyze, classifiers, info, page, similar, timeline
from tunelab.service.store import Store
from tunelab.service.timelines import Timelines, TimelineStore
from tunelab.settings import Settings, load_settings
from tunelab.types import Pipeline

Cards = Sequence[Mapping[str, Any]]


def create_app(
    pipeline_factory: Callable[[], Pipeline],
    settings: Settings | None = None,
    *,
    cards: Cards | Callable[[], Cards] = (),
) -> FastAPI:
    """The service around a pipeline.

    Nothing happens before the app starts: the database is opened and migrated, and the pipeline made, in its lifespan,
    in the process and on the event loop that serve the requests; they are closed at shutdown. Several apps and several
    processes can share one database.

    Args:
        pipeline_factory: called once at start, on the event loop.
        settings: by default those of the environment, read now.
        cards: model cards for ``/v1/models``, or a function that reads them at start.

    Raises:
        SettingsError: a setting is refused; also at start, when the database cannot be used as it is.
        DatabaseUnavailable: at start, when the database does not answer.
    """
    chosen = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lease = await asyncio.to_thread(open_database, chosen)
        kept_up = asyncio.create_task(lease.keep_up())
        try:
            database = Database(lease.url, chosen.database_pool_size)
            try:
                pipeline = pipeline_factory()
                store = Store(database)
                analyses = Analyses(pipeline, store, chosen)
                loaded = cards() if callable(cards) else cards
                own = Classifiers(database, pipeline, chosen)
                timelines = Timelines(pipeline, TimelineStore(database), chosen)
                # Half of the connections stay for keys, credits and results.
                searches = Places(max(1, chosen.database_pool_size // 2), chosen.max_concurrent_per_account)
                app.state.service = Service(
                    chosen, pipeline, database, store, analyses, loaded, own, timelines, searches
                )
                async with own.trainer:
                    yield
                    await analyses.drain()
                    await timelines.drain()
            finally:
                await database.dispose()
        finally:
            kept_up.cancel()
            # A start that is under way holds the lock that closing waits for.
            await asyncio.to_thread(lease.close)

    app = FastAPI(
        title="TuneLab",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere; ours does not
        redoc_url=None,
        redirect_slashes=False,
    )
    install_handlers(app)
    install_openapi(app)
    for routes in (analyze, similar, timeline, classifiers, info, page):
        app.include_router(routes.router)
    app.include_router(info.health)
    app.add_middleware(TraceMiddleware)
    return app
