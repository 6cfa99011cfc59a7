"""Sessions: a dict in a signed cookie, opened when first touched.

Departure from Flask and Quart: a permanent session's expiry is pushed on by requests that touch the session, not by
every request (a page's images and scripts neither pay for reading the cookie nor answer with Set-Cookie).
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.datastructures import CallbackDict
from werkzeug.http import dump_cookie
from werkzeug.sansio.response import Response as SansIOResponse

from .json.tag import TaggedJSONSerializer
from .signing import KeepingSerializer

if TYPE_CHECKING:
    from .app import Samovar
    from .wrappers.base import BaseRequestWebsocket
    from .wrappers.response import Response


class SessionMixin(MutableMapping[str, Any]):
    """What a session has beside being a dict."""

    new = False
    """It did not come from a cookie."""
    modified = True
    """It has to be saved. A change deep inside a value is not noticed: set it yourself then."""
    accessed = True
    """It was looked into, so the answer depends on the cookie (``Vary: Cookie``)."""

    @property
    def permanent(self) -> bool:
        """It outlives the browser, for ``PERMANENT_SESSION_LIFETIME``."""
        return bool(self.get("_permanent", False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self["_permanent"] = bool(value)


def _changed(session: Any) -> None:
    session.modified = session.accessed = True


class SecureCookieSession(CallbackDict[str, Any], SessionMixin):
    """The session kept in a signed cookie: the client can read it, and cannot change it."""

    modified = False
    accessed = False

    def __init__(self, initial: Any = None) -> None:
        super().__init__(initial, _changed)


class NullSession(SecureCookieSession):
    """Stands in where no secret key is set: reads as empty, refuses to be written."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("the session cannot be written without a secret key: set app.secret_key")

    __setitem__: Any = _refuse
    __delitem__: Any = _refuse
    __ior__: Any = _refuse
    clear: Any = _refuse
    pop: Any = _refuse
    popitem: Any = _refuse
    setdefault: Any = _refuse
    update: Any = _refuse


class SessionInterface:
    """How an app keeps its sessions; subclass it to keep them elsewhere.

    :meth:`open_session` runs before the hooks of each request, :meth:`save_session` after them.
    """

    null_session_class = NullSession
    pickle_based = False

    async def make_null_session(self, app: Samovar) -> NullSession:
        """What stands in where :meth:`open_session` returns None; one that is no coroutine function will do too."""
        return self.null_session_class()

    def is_null_session(self, obj: object) -> bool:
        """Tell whether *obj* is such a stand-in."""
        return isinstance(obj, self.null_session_class)

    def get_cookie_name(self, app: Samovar) -> str:
        """The cookie's name."""
        return str(app.config["SESSION_COOKIE_NAME"])

    def get_cookie_domain(self, app: Samovar) -> str | None:
        """The cookie's domain, None for this host only."""
        domain: str | None = app.config["SESSION_COOKIE_DOMAIN"]
        return domain

    def get_cookie_path(self, app: Samovar) -> str:
        """The cookie's path."""
        return str(app.config["SESSION_COOKIE_PATH"] or app.config["APPLICATION_ROOT"])

    def get_cookie_httponly(self, app: Samovar) -> bool:
        """Scripts cannot read it."""
        return bool(app.config["SESSION_COOKIE_HTTPONLY"])

    def get_cookie_secure(self, app: Samovar) -> bool:
        """Sent over https only."""
        return bool(app.config["SESSION_COOKIE_SECURE"])

    def get_cookie_samesite(self, app: Samovar) -> str | None:
        """``Lax``, ``Strict``, ``None``, or None to leave it out."""
        samesite: str | None = app.config["SESSION_COOKIE_SAMESITE"]
        return samesite

    def get_cookie_partitioned(self, app: Samovar) -> bool:
        """Kept apart for each top-level site."""
        return bool(app.config["SESSION_COOKIE_PARTITIONED"])

    def get_expiration_time(self, app: Samovar, session: SessionMixin) -> datetime | None:
        """When a permanent session ends; None with the browser."""
        return datetime.now(UTC) + app.permanent_session_lifetime if session.permanent else None

    def should_set_cookie(self, app: Samovar, session: SessionMixin) -> bool:
        """It was changed, or is permanent and to be renewed."""
        return session.modified or (session.permanent and bool(app.config["SESSION_REFRESH_EACH_REQUEST"]))

    async def open_session(self, app: Samovar, request: BaseRequestWebsocket) -> SessionMixin | None:
        """The session of *request*; None when there cannot be one."""
        raise NotImplementedError

    async def save_session(self, app: Samovar, session: SessionMixin, response: Response | None) -> None:
        """Save *session* and set the cookie on *response*, which is None for a websocket that was accepted."""
        raise NotImplementedError


session_json_serializer: TaggedJSONSerializer = TaggedJSONSerializer()
"""Writes and reads the content of session cookies; register a :class:`JSONTag` with it to keep a type of your own."""


class SecureCookieSessionInterface(SessionInterface):
    """Sessions in cookies signed by ItsDangerous; the format is Flask's."""

    salt = "cookie-session"
    digest_method: Any = staticmethod(hashlib.sha1)
    key_derivation = "hmac"
    serializer = session_json_serializer
    session_class = SecureCookieSession

    def __init__(self) -> None:
        self._signer: tuple[Any, URLSafeTimedSerializer] | None = None
        self._around: dict[Any, list[str]] = {}  # what stands before and after a cookie's value; bounded

    def get_signing_serializer(self, app: Samovar) -> URLSafeTimedSerializer | None:
        """What signs and verifies; None without a secret key. Built anew when what it is made of changes."""
        key = app.secret_key
        if not key:
            return None
        fallbacks = app.config["SECRET_KEY_FALLBACKS"]
        keys = (*reversed(fallbacks), key) if fallbacks else (key,)  # the last one signs, each verifies
        derivation, digest = self.key_derivation, self.digest_method
        made_of = (keys, self.salt, self.serializer, derivation, digest)
        if self._signer is None or self._signer[0] != made_of:
            signer = KeepingSerializer(
                list(keys),
                salt=self.salt,
                serializer=self.serializer,
                signer_kwargs={"key_derivation": derivation, "digest_method": digest},
            )
            self._signer = made_of, signer
        return self._signer[1]

    def open_session_nowait(self, app: Samovar, request: BaseRequestWebsocket) -> SessionMixin | None:
        """The session in *request*'s cookie, a new one when there is none or it does not verify."""
        signer = self.get_signing_serializer(app)
        if signer is None:
            return None
        cookie = request.cookie(self.get_cookie_name(app))
        if not cookie:
            return self._new_session()
        max_age = int(app.permanent_session_lifetime.total_seconds())
        try:
            return self.session_class(signer.loads(cookie, max_age=max_age))
        except BadData:
            return self._new_session()

    def _new_session(self) -> SecureCookieSession:
        session = self.session_class()
        session.new = True
        return session

    async def open_session(self, app: Samovar, request: BaseRequestWebsocket) -> SessionMixin | None:
        """See :meth:`open_session_nowait`; a subclass that overrides this one is opened before the hooks."""
        return self.open_session_nowait(app, request)

    def _signed(self, signer: URLSafeTimedSerializer, session: SessionMixin) -> str | bytes:
        """The cookie's value.

        Raises:
            TypeError: a value of the session cannot be written; the message names it.
        """
        try:
            return signer.dumps(dict(session))
        except TypeError:
            for key, value in session.items():
                try:
                    self.serializer.dumps({key: value})
                except TypeError as error:
                    what = type(value).__name__
                    raise TypeError(f"session[{key!r}] cannot be stored: {what} ({error})") from None
            raise

    async def save_session(self, app: Samovar, session: SessionMixin, response: Response | None) -> None:
        """Set the cookie where the session was changed, delete it where it was emptied."""
        if response is None:
            return
        if session.accessed:
            _vary_by_cookie(response)
        where: dict[str, Any] = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "samesite": self.get_cookie_samesite(app),
            "httponly": self.get_cookie_httponly(app),
            "partitioned": self.get_cookie_partitioned(app),
        }
        if not session:
            if session.modified:
                response.delete_cookie(self.get_cookie_name(app), **where)
                _vary_by_cookie(response)
            return
        if not self.should_set_cookie(app, session):
            return
        signer = self.get_signing_serializer(app)
        assert signer is not None, "a session with content was opened with a key"
        value = self._signed(signer, session)
        text = value if isinstance(value, str) else value.decode("ascii")
        expires = self.get_expiration_time(app, session)
        name = self.get_cookie_name(app)
        if type(signer) is KeepingSerializer and signer._short:
            self._set_cookie(response, name, text, expires, where)
        else:  # what another one writes may have to be quoted
            response.set_cookie(name, text, expires=expires, **where)
        if not session.accessed:
            _vary_by_cookie(response)

    def _set_cookie(
        self, response: Response, name: str, text: str, expires: datetime | None, where: dict[str, Any]
    ) -> None:
        """Set the cookie: what is around its value is kept, where that does not change."""
        if expires is not None or type(response).set_cookie is not SansIOResponse.set_cookie:
            response.set_cookie(name, text, expires=expires, **where)
            return
        key = (name, *where.values())
        around = self._around.get(key)
        if around is None:
            around = dump_cookie(name, "-", **where).split("=-", 1)
            if len(self._around) < _MAX_AROUND:
                self._around[key] = around
        cookie = f"{around[0]}={text}{around[1]}"
        most = response.max_cookie_size
        if most and len(cookie) > most:  # it warns
            response.set_cookie(name, text, **where)
        else:
            response.headers._list.append(("Set-Cookie", cookie))  # a signed text: no line ends to look for


_MAX_AROUND = 64


def _vary_by_cookie(response: Response) -> None:
    pairs = response.headers._list
    for name, _ in pairs:
        if name == "Vary" or (len(name) == 4 and name.lower() == "vary"):
            response.vary.add("Cookie")
            return
    pairs.append(("Vary", "Cookie"))
