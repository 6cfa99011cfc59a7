"""What views call: answers, redirects, files, messages, URLs."""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from errno import EACCES, EISDIR
from pathlib import Path
from stat import S_ISDIR
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeAlias, cast
from urllib.parse import quote
from zlib import adler32

from markupsafe import escape
from werkzeug.exceptions import NotFound
from werkzeug.exceptions import abort as werkzeug_abort
from werkzeug.http import quote_header_value
from werkzeug.security import safe_join
from werkzeug.urls import iri_to_uri
from werkzeug.utils import redirect as werkzeug_redirect

from .config import get_debug_flag, get_load_dotenv
from .ctx import after_this_request, current_context, required_context
from .globals import current_app, request, session
from .json import jsonify
from .signals import message_flashed, send
from .templating import get_template_attribute
from .typing import FilePath
from .utils import find_package, from_timestamp, get_root_path, run_in_thread

MaxAge: TypeAlias = int | Callable[[str | None], int | None] | None

if TYPE_CHECKING:
    from .app import Samovar
    from .wrappers.response import FileBody, IOBody, Response


async def make_response(*args: Any) -> Response:
    """The response that a view returning *args* would give, to add headers or cookies to."""
    if not args:
        return current_app.response_class()
    return await current_app.make_response(args[0] if len(args) == 1 else args)


def url_for(
    endpoint: str,
    *,
    _anchor: str | None = None,
    _external: bool | None = None,
    _method: str | None = None,
    _scheme: str | None = None,
    **values: Any,
) -> str:
    """The URL of *endpoint*; ``.name`` means the current blueprint's.

    Args:
        endpoint: as registered.
        _anchor: put after a ``#``.
        _external: with scheme and host; the default outside a request.
        _method: of several rules, the one for this method.
        _scheme: instead of the request's; implies *_external*.
        values: for the rule's variables; others become the query.

    Raises:
        BuildError: no rule fits.
    """
    return current_app.url_for(
        endpoint, _anchor=_anchor, _external=_external, _method=_method, _scheme=_scheme, **values
    )


def abort(code: int | Response, *args: Any, **kwargs: Any) -> NoReturn:
    """End this request with an HTTP error or a response.

    Raises:
        HTTPException: always.
    """
    context = current_context()
    if context is not None:
        context.app.aborter(code, *args, **kwargs)
    werkzeug_abort(code, *args, **kwargs)


def redirect(location: str, code: int = 302, Response: type[Response] | None = None) -> Response:
    """A response that sends the client to *location*.

    Args:
        location: a URL; what is not ASCII is encoded.
        code: 301, 302, 303, 307 or 308.
        Response: the class of the response, as Flask takes it; the app's by default.

    Returns:
        The response of the app's ``redirect``; outside a context one of Werkzeug's.
    """
    if Response is not None:
        return redirect_response(location, code, Response)
    context = current_context()
    if context is None:
        return _bare_redirect(location, code)
    return context.app.redirect(location, code)


def _bare_redirect(location: str, code: int) -> Response:
    return cast("Response", werkzeug_redirect(location, code))


def redirect_response(location: str, code: int, response_class: type[Response]) -> Response:
    """The response of a redirect, made of the class given."""
    shown = escape(location)
    body = (
        "<!doctype html>\n<html lang=en>\n<title>Redirecting</title>\n"
        f'<p>Please go to <a href="{shown}">{shown}</a>.\n'
    )
    response = response_class(body, code)
    response.headers["Location"] = _as_uri(location)
    return response


def _as_uri(location: str) -> str:
    """*location* in the characters that a header may have; what is no URL at all stays none, percent-encoded."""
    try:
        location = iri_to_uri(location)
    except ValueError:
        pass
    return _NOT_IN_URLS.sub(lambda match: quote(match[0], errors="replace"), location)


_NOT_IN_URLS = re.compile(r"[^!-~]")


# --- messages ------------------------------------------------------------------------------------------------------


async def flash(message: str, category: str = "message") -> None:
    """Keep *message* in the session for the next page that calls :func:`get_flashed_messages`."""
    flashes = list(session.get("_flashes", []))
    flashes.append((category, message))
    session["_flashes"] = flashes
    if message_flashed.receivers:
        app = required_context().app
        await send(message_flashed, app, message=message, category=category)


def get_flashed_messages(with_categories: bool = False, category_filter: Iterable[str] = ()) -> list[Any]:
    """The messages kept so far, taken out of the session; the same ones again within this request.

    Args:
        with_categories: as pairs (category, message).
        category_filter: only these categories.
    """
    context = required_context("get_flashed_messages")
    flashes = context.flashes
    if flashes is None:
        kept = context.session.pop("_flashes") if "_flashes" in context.session else []
        flashes = context.flashes = [(category, message) for category, message in kept]
    wanted = set(category_filter)
    if wanted:
        flashes = [pair for pair in flashes if pair[0] in wanted]
    return list(flashes) if with_categories else [message for _, message in flashes]


# --- files ---------------------------------------------------------------------------------------------------------


async def send_file(
    path_or_file: FilePath | IO[bytes] | None = None,
    mimetype: str | None = None,
    as_attachment: bool = False,
    download_name: str | None = None,
    conditional: bool = True,
    etag: bool | str = True,
    last_modified: datetime | float | None = None,
    max_age: MaxAge = None,
    *,
    filename_or_io: FilePath | IO[bytes] | None = None,
    attachment_filename: str | None = None,
    add_etags: bool | None = None,
    cache_timeout: int | None = None,
) -> Response:
    """Answer with a file, read in threads.

    Never build the path from what a client says: that is what :func:`send_from_directory` is for. The names and
    defaults are Flask's; Quart's names are taken too.

    Args:
        path_or_file: a path, relative to the app's root path, or an open binary file, which is closed in the end.
        mimetype: guessed from the name unless given.
        as_attachment: to be saved rather than shown.
        download_name: the name it is saved under; needed with an open file to guess the type.
        conditional: answer conditions and ranges with 304, 206, 412 and 416.
        etag: the file's, or one of your own.
        last_modified: the file's unless given; seconds since 1970 or a date.
        max_age: seconds clients may keep it, or a function of the path; the app's ``get_send_file_max_age``.
        filename_or_io: Quart's *path_or_file*.
        attachment_filename: Quart's *download_name*.
        add_etags: Quart's *etag*.
        cache_timeout: Quart's *max_age*.

    Raises:
        OSError: the file cannot be read, or is a folder. TypeError: text instead of binary, or no file.
    """
    app = required_context("send_file").app
    given = filename_or_io if path_or_file is None else path_or_file
    if given is None:
        raise TypeError("send_file needs a path or an open binary file")
    file = await run_in_thread(_prepare_file, given, app)
    download_name = download_name or attachment_filename
    response = app.response_class(file.body, mimetype=mimetype or _guess_type(download_name or file.name))
    _set_disposition(response, file.name, download_name, as_attachment)
    _set_validators(response, file, etag if add_etags is None else add_etags, last_modified)
    if max_age is None:
        max_age = app.get_send_file_max_age if cache_timeout is None else cache_timeout
    _set_max_age(response, max_age, file.path)
    if conditional:
        try:
            await response.make_conditional(_request(), accept_ranges=True, complete_length=file.body.length)
        except BaseException:
            await response.close()
            raise
    if app.config["USE_X_SENDFILE"] and file.path is not None and response.status_code == 200:
        response.headers["X-Sendfile"] = file.path
        response.set_data(b"")
        del response.headers["Content-Length"]
    return response


class _File:
    """What is known about a file that will be sent."""

    def __init__(self, body: FileBody | IOBody, path: str | None = None) -> None:
        self.body = body
        self.path = path
        self.name: str | None = None
        self.modified: datetime | None = None
        self.etag: str | None = None


def _prepare_file(path_or_file: Any, app: Samovar) -> _File:
    """Look at the file; blocks."""
    if isinstance(path_or_file, str | os.PathLike):
        path = os.path.join(app.root_path, os.fspath(path_or_file))
        file = _File(app.response_class.file_body_class(path), path)
        stat = os.stat(path)
        if S_ISDIR(stat.st_mode):  # before the answer has begun, as with a file that is not there
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
        if not os.access(path, os.R_OK):
            raise PermissionError(EACCES, os.strerror(EACCES), path)
        file.name = Path(path).name
        file.modified = from_timestamp(stat.st_mtime)
        file.etag = f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{adler32(os.fsencode(path)):x}"
        return file
    if not hasattr(path_or_file, "read") or not isinstance(path_or_file.read(0), bytes):
        raise TypeError(f"send_file takes a path or an open binary file, not {path_or_file!r}")
    return _File(app.response_class.io_body_class(path_or_file))


def _guess_type(name: str | None) -> str:
    if name is None:
        return "application/octet-stream"
    # A name is no URL: without the dot "data:a.png" would be one, and "a://[" an error from Python 3.12 on.
    mimetype, encoding = mimetypes.guess_type(f"./{name}")
    if mimetype is None or encoding is not None:  # an archive is sent as one
        return "application/octet-stream"
    return mimetype


def _set_disposition(response: Response, own: str | None, given: str | None, as_attachment: bool) -> None:
    """RFC 6266: a name outside ASCII is given twice, encoded and simplified.

    Raises:
        TypeError: an attachment without a name.
    """
    name = given or own
    if name is None:
        if as_attachment:
            raise TypeError("send_file: an attachment needs a name: give download_name")
        return
    if not as_attachment and not given:  # it would say what the URL says
        return
    simple = name.encode("ascii", "ignore").decode().translate(_UNQUOTABLE)
    value = f"{'attachment' if as_attachment else 'inline'}; filename={quote_header_value(simple)}"
    if simple != name:
        value += f"; filename*=UTF-8''{quote(name, safe='')}"
    response.headers["Content-Disposition"] = value


def _set_validators(
    response: Response, file: _File, etag: bool | str, last_modified: datetime | float | None
) -> None:
    modified = file.modified if last_modified is None else _as_date(last_modified)
    if modified is not None:
        response.last_modified = modified
    if isinstance(etag, str):
        response.set_etag(etag)
    elif etag and file.etag is not None:
        response.set_etag(file.etag)


_UNQUOTABLE = dict.fromkeys((*range(32), 127, ord('"'), ord("\\")))


def _as_date(value: datetime | float) -> datetime:
    return value if isinstance(value, datetime) else from_timestamp(value)


def _set_max_age(response: Response, max_age: Any, path: str | None) -> None:
    seconds = max_age(path) if callable(max_age) else max_age
    cache = response.cache_control
    if seconds is None or seconds <= 0:
        cache.no_cache = True
    else:
        cache.public = True
        cache.max_age = int(seconds)


def _request() -> Any:
    context = required_context("a conditional answer")
    if context.request is None:
        raise RuntimeError("a conditional answer needs a request: give conditional=False outside one")
    return context.request


async def send_from_directory(
    directory: FilePath, path: FilePath | None = None, *, file_name: FilePath | None = None, **kwargs: Any
) -> Response:
    """Answer with a file inside *directory*; *path* may come from a client, it cannot lead outside.

    Args:
        directory: relative to the app's root path.
        path: relative to the directory.
        file_name: Quart's *path*.
        kwargs: as :func:`send_file` takes them.

    Raises:
        NotFound: there is no such file there, or no file could have that name.
    """
    path = file_name if path is None else path
    if path is None:
        raise TypeError("send_from_directory needs the path of a file in the directory")
    root = os.path.join(required_context("send_from_directory").app.root_path, os.fspath(directory))
    name = os.fspath(path)
    joined = None if name.endswith("/") else safe_join(root, name)
    if joined is None or not await run_in_thread(_is_file, joined):
        raise NotFound()
    return await send_file(joined, **kwargs)


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # a NUL byte or lone surrogates
        return False


# --- streams -------------------------------------------------------------------------------------------------------


def stream_with_context(func: Any) -> Any:
    """Mark a generator, or decorate a generator function, that uses the context while its response is streamed.

    Contexts live as long as the stream here, so it is given back as it is; the function exists so that code written for
    Flask and Quart runs.

    Raises:
        ContextError: no context is active.
    """
    required_context("stream_with_context")
    return func


async def make_push_promise(path: str) -> None:
    """Promise *path* to the client (HTTP/2 push), where the server can."""
    await request.send_push_promise(path)


__all__ = [
    "abort",
    "after_this_request",
    "find_package",
    "flash",
    "get_debug_flag",
    "get_flashed_messages",
    "get_load_dotenv",
    "get_root_path",
    "get_template_attribute",
    "jsonify",
    "make_push_promise",
    "make_response",
    "redirect",
    "send_file",
    "send_from_directory",
    "stream_with_context",
    "url_for",
]
