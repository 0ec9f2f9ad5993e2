"""What can be wrong with a request, beside the file in it.

TuneLabError
|- ServiceError
|  |- Unauthorized           no key, or not a key that works
|  |- InsufficientCredits    the balance does not cover the price
|  |- TierRequired           the account's tier does not include this
|  |- AccountDisabled        the account was switched off
|  |- NotFound               the account has no such result
|  |- Conflict               it exists already, or is not in a state that allows this
|  |- LimitReached           the account has as many of these as it may
|  |- UnsupportedMediaType   the Content-Type header names nothing that can be sent here
|  |- MalformedUpload        multipart that cannot be read, or without a part `file`
|  |- BodyTooLarge           more bytes of JSON than this address takes
|  |- UploadTimeout          the body came too slowly
|  |- TooManyRequests        the account has too many analyses in progress
|  |- NotReady               starting, or a part is missing
|  `- DatabaseUnavailable    the database cannot be reached
`- AdminError                an administrator asked for something impossible
"""

from __future__ import annotations

from tunelab.errors import TuneLabError


class ServiceError(TuneLabError):
    code = "service_error"


class Unauthorized(ServiceError):
    code = "unauthorized"


class InsufficientCredits(ServiceError):
    code = "insufficient_credits"


class TierRequired(ServiceError):
    code = "tier_required"


class AccountDisabled(ServiceError):
    code = "account_disabled"


class NotFound(ServiceError):
    code = "not_found"


class Conflict(ServiceError):
    code = "conflict"


class LimitReached(ServiceError):
    code = "limit_reached"


class UnsupportedMediaType(ServiceError):
    code = "unsupported_media_type"


class MalformedUpload(ServiceError):
    code = "malformed_upload"


class BodyTooLarge(ServiceError):
    code = "body_too_large"


class UploadTimeout(ServiceError):
    code = "upload_timeout"


class TooManyRequests(ServiceError):
    code = "too_many_requests"


class NotReady(ServiceError):
    code = "not_ready"


class DatabaseUnavailable(ServiceError):
    code = "database_unavailable"


class AdminError(TuneLabError):
    code = "admin_error"
