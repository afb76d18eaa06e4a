"""Reads a posted body: media type, compression, size and JSON.

What the document says is checked in validation.py.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dunning_pipeline.sandbox.klaviyo.errors import ApiError, Problem, invalid

MEDIA_TYPE = "application/vnd.api+json"
MAX_BODY_BYTES = 5 * 1024 * 1024

_GZIP_WINDOW = 31


@dataclass(frozen=True)
class Body:
    """A posted body: the decompressed bytes and either the parsed document or the error it deserves."""

    raw: bytes
    document: Any = None
    error: ApiError | None = None


def read_body(headers: Mapping[str, str], raw: bytes) -> Body:
    """Decompress and parse a body; `headers` have lower-case names.

    Never raises: what deserves a 400, 413 or 415 is in `error`.
    """
    try:
        _check_media_type(headers)
        content = _decompress(headers, raw)
        return Body(content, _parse_json(content))
    except ApiError as error:
        return Body(raw, error=error)


def _check_media_type(headers: Mapping[str, str]) -> None:
    media_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise _unsupported(f"Content-Type {media_type or '(none)'!r} is not supported, send {MEDIA_TYPE!r}.")


def _unsupported(detail: str) -> ApiError:
    return ApiError(415, "unsupported_media_type", "Unsupported media type.", [Problem(detail)])


def _decompress(headers: Mapping[str, str], raw: bytes) -> bytes:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise _unsupported(f"Content-Encoding {encoding!r} is not supported, send 'gzip' or none.")
    content = _gunzip(raw) if encoding == "gzip" else raw
    if len(content) > MAX_BODY_BYTES:
        detail = f"The decompressed body is larger than {MAX_BODY_BYTES} bytes."
        raise ApiError(413, "payload_too_large", "Payload too large.", [Problem(detail)])
    return content


def _gunzip(raw: bytes) -> bytes:
    # One byte beyond the limit is enough to refuse, and keeps a compression bomb from filling the memory.
    decompressor = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = decompressor.decompress(raw, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise invalid([Problem(f"The body is not valid gzip: {error}.")]) from error
    if not decompressor.eof and len(content) <= MAX_BODY_BYTES:
        raise invalid([Problem("The gzip body ends too early.")])
    return content


def _parse_json(content: bytes) -> Any:
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
        if b"\\ud" in content.lower():
            # A lone surrogate parses but is not text: it cannot be stored or shown as UTF-8.
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid([Problem(f"The body is not valid JSON: {error}.")]) from error
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")
