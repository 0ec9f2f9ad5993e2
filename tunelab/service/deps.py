"""What routes are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tunelab.service.analyses import Analyses
from tunelab.service.classifiers import Classifiers
from tunelab.service.database import Database
from tunelab.service.errors import AccountDisabled, TierRequired, Unauthorized
from tunelab.service.keys import is_key
from tunelab.service.middleware import ACCOUNT
from tunelab.service.places import Places
from tunelab.service.store import Caller, Store
from tunelab.service.timelines import Timelines
from tunelab.settings import Settings
from tunelab.types import Pipeline


@dataclass(frozen=True, slots=True)
class Service:
    """What lives from start to shutdown of one app."""

    settings: Settings
    pipeline: Pipeline
    database: Database
    store: Store
    analyses: Analyses
    cards: Sequence[Mapping[str, Any]]
    classifiers: Classifiers
    timelines: Timelines
    searches: Places


def get_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="tl_live_...",
    description="A key made with `tunelab keys create`, sent as `Authorization: Bearer tl_live_...`",
)


async def get_caller(
    request: Request,
    service: ServiceDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Who asks. Read from the database each time, so that revoking a key works at once.

    Raises:
        Unauthorized: no key, or none that works; which of them is not said.
        AccountDisabled: the account was switched off.
    """
    caller = None
    if credentials is not None and is_key(credentials.credentials):
        caller = await service.store.caller(credentials.credentials)
    if caller is None:
        raise Unauthorized("send a valid key as 'Authorization: Bearer tl_live_...'")
    request.scope[ACCOUNT] = str(caller.id)
    if caller.disabled:
        raise AccountDisabled("this account is switched off")
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_pro_caller(caller: CallerDep) -> Caller:
    """Who asks, if their tier is pro.

    Raises:
        TierRequired: it is not.
    """
    if caller.tier != "pro":
        raise TierRequired("this needs an account of tier 'pro'")
    return caller


ProCallerDep = Annotated[Caller, Depends(get_pro_caller)]

TrackId = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="`_meta.id` of an analysis: SHA-256 of the file's bytes")
]
