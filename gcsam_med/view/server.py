"""The server of the local page: loopback only, a one-time token, and no request of another page."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gcsam_med import __version__
from gcsam_med.errors import EnvironmentFault, GcsamMedError

if TYPE_CHECKING:
    from jinja2 import Environment

HOST = "127.0.0.1"
STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
# A report brings its own style in the page; it runs no script and loads nothing.
OF_A_REPORT = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": STRICT,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Pictures of patients do not stay in the browser's cache.
    "Cache-Control": "no-store",
}
STATIC = {"style.css": "text/css", "view.css": "text/css", "view.js": "text/javascript"}
MOST_BODY = 320 * 2**20  # bytes of a request: an image file, or a mask of a bit a pixel


class Guard:
    """Lets in whoever brought the token of the start-up line; refuses what another page asks for.

    The token is taken once, for a cookie that scripts cannot read and that no other site's request carries.
    A name that points to this machine (DNS rebinding) is no name of this server, so it is refused.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    port : int
        Where it is served.
    token : str
        What the first visit brings as ``?token=``.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self.app, self._token = app, token
        self._session = secrets.token_urlsafe(32)
        self.hosts = frozenset(f"{name}:{port}" for name in (HOST, "localhost"))
        # A browser sends cookies to every port of a host.
        self.cookie = f"gcsam-med-view-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # no other protocol is spoken here

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        answer = self._foreign(request) or self._stranger(request)
        await (answer or self.app)(scope, receive, send_guarded)

    def _foreign(self, request: Request) -> Response | None:
        """Refuse a request under another name, or that another page sends."""
        host = request.headers.get("host", "")
        if host not in self.hosts:
            return PlainTextResponse("Not a name of this server.", 403)
        origin = request.headers.get("origin")
        reads = request.method in ("GET", "HEAD")
        if (origin is None and not reads) or (origin is not None and origin != f"http://{host}"):
            return PlainTextResponse("Another page may not ask this server.", 403)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BODY:
            return PlainTextResponse("Too large.", 413)
        return None

    def _stranger(self, request: Request) -> Response | None:
        """Take the token for a cookie; refuse who has neither."""
        given = request.query_params.get("token")
        known = _same(request.cookies.get(self.cookie, ""), self._session)
        if given is None or request.method != "GET":
            return None if known else HTMLResponse(_NO_ACCESS, 403)
        fresh = bool(self._token) and _same(given, self._token)
        if not fresh and not known:
            return HTMLResponse(_NO_ACCESS, 403)
        kept = urlencode([(k, v) for k, v in request.query_params.multi_items() if k != "token"])
        answer = RedirectResponse(request.url.path + (f"?{kept}" if kept else ""), 303)
        if fresh:
            self._token = ""
            answer.set_cookie(self.cookie, self._session, httponly=True, samesite="strict", path="/")
        return answer


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())


_NO_ACCESS = """<!doctype html><html lang="en"><meta charset="utf-8"><title>gcsam-med view: no access</title>
<h1>No access</h1>
<p>Open the whole address that <code>gcsam-med view</code> printed, with its token.
It works once: to open the page in another browser, start <code>gcsam-med view</code> again.</p></html>"""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import ChoiceLoader, PackageLoader

    from gcsam_med.reporting.page import environment

    reports = environment()
    own = PackageLoader("gcsam_med.view", "templates")
    loader = ChoiceLoader([own, reports.loader]) if reports.loader is not None else own
    return reports.overlay(loader=loader)


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Fill in a template of ``templates/``, which also finds those of the reports."""
    context |= {"version": __version__, "here": request.url.path, "query": dict(request.query_params)}
    return HTMLResponse(_environment().get_template(template).render(context), status)


def not_found(what: str) -> HTTPException:
    """Answer to an id that stands in no table."""
    return HTTPException(404, f"There is no such {what} here. It may have been moved; go back to the runs.")


def _static(request: Request) -> Response:
    """Our own files, named in a table."""
    name = request.path_params["name"]
    if name not in STATIC:
        raise not_found("file")
    folder = "reporting/templates" if name == "style.css" else "view/static"
    return Response((files("gcsam_med") / folder / name).read_bytes(), media_type=STATIC[name])


def _fault(request: Request, error: Exception) -> Response:
    """Show what went wrong as the command line would: what was found, and what to do."""
    message, advice, status = f"A bug in gcsam-med: {type(error).__name__}. Please report it.", "", 500
    if isinstance(error, HTTPException):
        message, status = str(error.detail), error.status_code
    elif isinstance(error, GcsamMedError):
        message, advice, status = error.message, error.advice, 409
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"error": message, "advice": advice}, status)
    return page(request, "fault.html.j2", status, message=message, advice=advice)


def application(routes: Sequence[BaseRoute], port: int, token: str) -> Guard:
    """Put the rooms' routes behind the guard."""
    faults: dict[Any, Callable[..., Response]] = dict.fromkeys(
        (GcsamMedError, HTTPException, Exception), _fault
    )
    served = [*routes, Route("/static/{name}", _static)]
    return Guard(Starlette(routes=served, exception_handlers=faults), port, token)


def listen(port: int) -> socket.socket:
    """Open a socket on this machine only; port 0 takes a free one.

    Raises
    ------
    EnvironmentFault
        If the port is taken.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port that was just left can be taken again; one that another server holds cannot.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((HOST, port))
        opened.listen(64)
    except OSError as error:
        opened.close()
        raise EnvironmentFault(
            f"Port {port} of this machine cannot be used: {error.strerror}.",
            "Leave --port out to get a free one, or name another.",
        ) from None
    return opened


def serve(
    routes: Sequence[BaseRoute], port: int, started: Callable[[str], None], *, debug: bool = False
) -> None:
    """Serve until Ctrl-C.

    Parameters
    ----------
    routes : sequence of routes
        The rooms.
    port : int
        0 takes a free one.
    started : callable
        Gets the address with its token, once the server can be asked.
    debug : bool
        Print tracebacks.
    """
    import uvicorn

    opened = listen(port)
    with opened:
        number = opened.getsockname()[1]
        token = secrets.token_urlsafe(24)
        config = uvicorn.Config(
            application(routes, number, token),
            log_level="error" if debug else "critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            ws="none",
        )
        # Connections that come before the server runs wait in the socket's queue.
        started(f"http://{HOST}:{number}/?{urlencode({'token': token})}")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[opened])
