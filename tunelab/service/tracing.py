"""The trace id: made for each request, and written on its answer, its problem body and its log lines."""

from __future__ import annotations

import logging
import secrets
from contextvars import ContextVar

NO_TRACE = "-"

_trace_id: ContextVar[str] = ContextVar("tunelab_trace_id", default=NO_TRACE)


def new_trace_id() -> str:
    """A random trace id: 3 hexadecimal digits, a hyphen, 6 more, such as ``afa-7a2d9f``."""
    digits = secrets.token_hex(5)
    return f"{digits[:3]}-{digits[3:9]}"


def set_trace_id(trace_id: str) -> None:
    """Make ``trace_id`` the one of the current task and of the tasks that it starts."""
    _trace_id.set(trace_id)


def current_trace_id() -> str:
    """Trace id of the request being served, or ``-`` outside of one."""
    return _trace_id.get()


class TraceFilter(logging.Filter):
    """Writes the trace id into each record as ``record.trace_id``; JSON formatters then print it as a field."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "trace_id"):
            record.trace_id = current_trace_id()
        return True


# One logger for the whole service: a filter on a logger does not see the records of its children, and the formatters
# that print the records belong to whoever runs the service.
logger = logging.getLogger("tunelab.service")
logger.addFilter(TraceFilter())
