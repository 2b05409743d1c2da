"""Errors of requests as answers: {"error": what was wrong, in one line}, with their status."""

from collections.abc import Mapping
from typing import Any

from fwn.errors import UserError
from fwn.serving.gate import GONE
from fwn.serving.limits import Refused, one_line


def answer_errors(app: Any) -> None:
    """Has the FastAPI application answer every error that a request can raise."""
    from fastapi import Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    def failed(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": one_line(message)}, status, dict(headers or {}))

    @app.exception_handler(UserError)
    async def user_error(_: Request, error: Exception) -> Response:
        return failed(400, str(error))

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return failed(error.status, str(error), error.headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return failed(
            error.status_code, f"{request.method[:20]} {request.url.path[:200]}: {error.detail}", error.headers
        )

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = (f"{'.'.join(map(str, e['loc'][1:]))[:100]}: {e['msg']}" for e in error.errors())
        return failed(422, "; ".join(found)[:1000])

    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, error: Exception) -> Response:  # the client went away; nobody reads it
        return Response(status_code=GONE)

    @app.exception_handler(Exception)
    async def internal_error(_: Request, error: Exception) -> Response:  # it is raised again, and the gate prints it
        return failed(500, "internal error; the server's log says more")
