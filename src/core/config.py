"""Settings: one table of names, defaults, units and meanings, and the ways to fill it."""

from __future__ import annotations

import errno
import json
import os
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from .typing import FilePath
from .utils import import_string

KiB = 1024
MiB = 1024 * KiB


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Args:
        name: the key in ``app.config``.
        default: the value it starts with.
        unit: what a number counts, empty where nothing is counted.
        meaning: one sentence.
    """

    name: str
    default: Any
    unit: str
    meaning: str


SETTINGS: tuple[Setting, ...] = (
    # the app
    Setting("APPLICATION_ROOT", "/", "", "Where the app is mounted; used for URLs built outside a request."),
    Setting("DEBUG", None, "", "Debug mode: traceback pages and reloaded templates."),
    Setting("ENV", None, "", "A name for the deployment; not read by Samovar."),
    Setting("TESTING", False, "", "Test mode: exceptions reach the test instead of a 500 page."),
    Setting("SECRET_KEY", None, "", "Signs the session cookie; without it the session cannot be written."),
    Setting("SECRET_KEY_FALLBACKS", None, "", "Old secret keys, newest first, still accepted when reading."),
    Setting("SERVER_NAME", None, "", "host[:port] for URLs built outside a request and for subdomains."),
    Setting("PREFERRED_URL_SCHEME", "http", "", "The scheme of URLs built outside a request."),
    Setting("PREFER_SECURE_URLS", False, "", "URLs built outside a request use https and wss."),
    Setting("TRUSTED_HOSTS", None, "", "Host names that are served, `.name` for subdomains; others get 400."),
    Setting("PROPAGATE_EXCEPTIONS", None, "", "Unhandled exceptions leave the app; None: when TESTING."),
    Setting("PRESERVE_CONTEXT_ON_EXCEPTION", None, "", "Accepted for Flask's sake; contexts always end."),
    Setting(
        "TRAP_BAD_REQUEST_ERRORS", None, "", "A missing form key is an error, not a 400; None: when DEBUG."
    ),
    Setting("TRAP_HTTP_EXCEPTIONS", False, "", "HTTP exceptions are treated like any other exception."),
    Setting("PROVIDE_AUTOMATIC_OPTIONS", True, "", "Routes answer OPTIONS by themselves."),
    Setting("EXPLAIN_TEMPLATE_LOADING", False, "", "Logs where each template was looked for."),
    Setting(
        "TEMPLATES_AUTO_RELOAD", None, "", "Templates are read again when they change; None: when DEBUG."
    ),
    # limits and time-outs
    Setting(
        "MAX_CONTENT_LENGTH", 16 * MiB, "bytes", "The largest request body; above it 413. None: no limit."
    ),
    Setting("MAX_FORM_MEMORY_SIZE", 500_000, "bytes", "Form fields held in memory (files are not counted)."),
    Setting("MAX_FORM_PARTS", 1_000, "parts", "Fields and files of one form."),
    Setting(
        "BODY_TIMEOUT", 60, "seconds", "To read a request body, or its next chunk when iterating; then 408."
    ),
    Setting(
        "RESPONSE_TIMEOUT", 60, "seconds", "For one write of a response; then the connection is dropped."
    ),
    Setting(
        "BACKGROUND_TASK_SHUTDOWN_TIMEOUT",
        1,
        "seconds",
        "For background tasks to end once `app.shutdown_event` is set; then they are cancelled.",
    ),
    Setting(
        "SEND_FILE_MAX_AGE_DEFAULT",
        timedelta(hours=12),
        "timedelta or seconds",
        "How long clients may keep files sent by send_file; None, and in debug mode: they ask each time.",
    ),
    Setting("USE_X_SENDFILE", False, "", "send_file leaves the file to the proxy, by an X-Sendfile header."),
    # sessions
    Setting("SESSION_COOKIE_NAME", "session", "", "The session cookie's name."),
    Setting("SESSION_COOKIE_DOMAIN", None, "", "The session cookie's domain; None: this host only."),
    Setting("SESSION_COOKIE_PATH", None, "", "The session cookie's path; None: APPLICATION_ROOT."),
    Setting("SESSION_COOKIE_HTTPONLY", True, "", "Scripts cannot read the session cookie."),
    Setting("SESSION_COOKIE_SECURE", False, "", "The session cookie is sent over https only."),
    Setting(
        "SESSION_COOKIE_SAMESITE",
        "Lax",
        "",
        "`Lax` (other sites cannot post in a visitor's name), `Strict` or `None`; None leaves it out.",
    ),
    Setting(
        "SESSION_COOKIE_PARTITIONED", False, "", "The session cookie is kept apart for each top-level site."
    ),
    Setting(
        "SESSION_REFRESH_EACH_REQUEST",
        True,
        "",
        "A permanent session's cookie is renewed by every request that uses the session.",
    ),
    Setting(
        "PERMANENT_SESSION_LIFETIME",
        timedelta(days=31),
        "timedelta or seconds",
        "How long a permanent session lasts.",
    ),
    Setting("MAX_COOKIE_SIZE", 4093, "bytes", "Warns when a cookie is larger; 0: never."),
    # broadcast
    Setting(
        "BROADCAST_URL",
        None,
        "",
        "The broker behind `app.hub`; None: `memory://`, or `local://` in a worker of `samovar run --workers`.",
    ),
    Setting("BROADCAST_PUBLISH_TIMEOUT", 5, "seconds", "To retry a publish before it is given up."),
    Setting("BROADCAST_MAX_MESSAGE_BYTES", 64 * KiB, "bytes", "The largest payload, at most 1 MiB."),
    Setting("BROADCAST_OUTBOX_MESSAGES", 1024, "messages", "One subscriber's queue."),
    Setting("BROADCAST_OUTBOX_BYTES", 1 * MiB, "bytes", "One subscriber's queue."),
    Setting(
        "READY_BACKEND_GRACE",
        30,
        "seconds",
        "For the backend to be down before `/readyz` turns 503 (`app.health()`); None: it never does.",
    ),
    Setting("PRESENCE_GRACE", 15, "seconds", "Who comes back within it has not left."),
    # doors
    Setting(
        "WEBSOCKET_ALLOWED_ORIGINS",
        None,
        "",
        "Origins whose pages may open websockets beside the own; `*` for all.",
    ),
    Setting(
        "WEBSOCKET_MAX_MESSAGE_BYTES", 1 * MiB, "bytes", "The largest message of a client; above it 1009."
    ),
    Setting(
        "WEBSOCKET_MAX_RATE",
        50,
        "messages a second",
        "Of one client; above it reading slows down. None: any.",
    ),
    Setting("WEBSOCKET_QUEUE_SIZE", 16, "messages", "Received and not read yet; then reading pauses."),
    Setting(
        "WEBSOCKET_READ_TIMEOUT",
        30,
        "seconds",
        "For a handler to read when the queue is full; then 1008, or dropping if it never read.",
    ),
    Setting(
        "WEBSOCKET_WRITE_TIMEOUT",
        30,
        "seconds",
        "For one frame to a client that does not read; then it is cut.",
    ),
    Setting(
        "WEBSOCKET_PING_INTERVAL",
        20,
        "seconds",
        "Between two pings, under `samovar run`; who answers none for two or three of them is cut. None: no pings.",
    ),
    Setting("WEBSOCKET_CLOSE_TIMEOUT", 5, "seconds", "For a handler to finish after its client has gone."),
    Setting("SSE_HEARTBEAT", 15, "seconds", "Of silence, after which an event stream sends a comment."),
    Setting(
        "SSE_RETRY", 2000, "milliseconds", "For a client to wait before it comes back, give or take a half."
    ),
    Setting(
        "SSE_WRITE_TIMEOUT", 30, "seconds", "For one block to a client that does not read; then it is cut."
    ),
    Setting("LONG_POLL_TIMEOUT", 25, "seconds", "For a long-poll to wait for a message."),
)

DEFAULTS: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS}
SWITCHES = frozenset({"DEBUG", *(name for name, default in DEFAULTS.items() if isinstance(default, bool))})


def is_on(flag: Any) -> bool:
    """What a switch such as ``DEBUG`` says: nothing, ``0``, ``false``, ``no``, ``off`` and ``null`` are off."""
    return bool(flag) and str(flag).strip().lower() not in {"", "0", "false", "no", "off", "null"}


def get_debug_flag() -> bool:
    """``SAMOVAR_DEBUG`` in the environment switches debug mode on."""
    return is_on(os.environ.get("SAMOVAR_DEBUG"))


def get_load_dotenv(default: bool = True) -> bool:
    """Environment files are read, unless ``SAMOVAR_SKIP_DOTENV`` says otherwise; *default* where it is not set."""
    value = os.environ.get("SAMOVAR_SKIP_DOTENV")
    return not is_on(value) if value else default


class Config(dict[str, Any]):
    """A dict of settings that can be filled from files, objects and the environment.

    Only upper-case names are taken from objects and files.

    Args:
        root_path: what relative file names are relative to.
        defaults: what it starts with.
    """

    def __init__(self, root_path: FilePath, defaults: Mapping[str, Any] | None = None) -> None:
        super().__init__(defaults or {})
        self.root_path: str = os.fspath(root_path)

    def from_object(self, obj: object | str) -> None:
        """Take the upper-case attributes of *obj*, a module, class, instance or the dotted name of one."""
        source = import_string(obj) if isinstance(obj, str) else obj
        for name in dir(source):
            if name.isupper():
                self[name] = getattr(source, name)

    def from_pyfile(self, filename: FilePath, silent: bool = False) -> bool:
        """Run a Python file and take its upper-case names.

        Args:
            filename: relative to the root path.
            silent: a missing file is False instead of an error.
        """
        path = Path(self.root_path, filename)
        module = types.ModuleType("config")
        module.__file__ = str(path)
        try:
            source = path.read_bytes()
        except OSError as error:
            if silent and error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR):
                return False
            error.strerror = f"cannot load configuration file ({error.strerror})"
            raise
        exec(compile(source, str(path), "exec"), module.__dict__)
        self.from_object(module)
        return True

    def from_envvar(self, variable_name: str, silent: bool = False) -> bool:
        """Read the Python file that the environment variable names.

        Raises:
            RuntimeError: the variable is not set, unless *silent*.
        """
        filename = os.environ.get(variable_name)
        if filename:
            return self.from_pyfile(filename, silent=silent)
        if silent:
            return False
        raise RuntimeError(
            f"the environment variable {variable_name!r} is not set: let it name a configuration file"
        )

    def from_file(
        self,
        filename: FilePath,
        load: Callable[[IO[Any]], Mapping[str, Any]],
        silent: bool = False,
        text: bool = True,
    ) -> bool:
        """Take the upper-case names of what *load* reads from the opened file, as ``tomllib.load`` does.

        Args:
            filename: relative to the root path.
            load: called with the open file; returns a mapping.
            silent: a missing file is False instead of an error.
            text: open as text; ``tomllib`` wants False.
        """
        path = Path(self.root_path, filename)
        try:
            with path.open("r" if text else "rb") as file:
                loaded = load(file)
        except OSError as error:
            if silent and error.errno in (errno.ENOENT, errno.EISDIR):
                return False
            error.strerror = f"cannot load configuration file ({error.strerror})"
            raise
        return self.from_mapping(loaded)

    def from_mapping(
        self, mapping: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None, **kwargs: Any
    ) -> bool:
        """Take the upper-case keys of a mapping, or of pairs, and of the keyword arguments."""
        for name, value in {**dict(mapping or {}), **kwargs}.items():
            if name.isupper():
                self[name] = value
        return True

    def from_prefixed_env(self, prefix: str = "SAMOVAR", *, loads: Callable[[str], Any] = json.loads) -> bool:
        """Take ``PREFIX_NAME=value`` from the environment.

        Values are read as JSON where that works and as text where not; ``__`` in a name goes into a nested dict, so
        ``SAMOVAR_DB__POOL=5`` is ``{"DB": {"POOL": 5}}``. Settings that are switches may be ``no`` or ``off`` too.
        """
        start = f"{prefix}_"
        for variable in sorted(os.environ):
            if variable.startswith(start):
                name, value = variable.removeprefix(start), _loaded(os.environ[variable], loads)
                self._set_nested(name, is_on(value) if name in SWITCHES else value)
        return True

    def _set_nested(self, key: str, value: Any) -> None:
        *path, last = key.split("__")
        place: Any = self
        for name in path:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[last] = value

    def get_namespace(
        self, namespace: str, lowercase: bool = True, trim_namespace: bool = True
    ) -> dict[str, Any]:
        """The settings whose names start with *namespace*, such as ``DB_``, as a dict for keyword arguments."""
        found = {}
        for name, value in self.items():
            if name.startswith(namespace):
                key = name.removeprefix(namespace) if trim_namespace else name
                found[key.lower() if lowercase else key] = value
        return found

    def __repr__(self) -> str:
        return f"<Config of {len(self)} settings>"  # values may be secrets


def _loaded(text: str, loads: Callable[[str], Any]) -> Any:
    try:
        return loads(text)
    except ValueError:
        return text


class ConfigAttribute:
    """An attribute of the app that reads and writes a setting."""

    def __init__(self, name: str, convert: Callable[[Any], Any] | None = None) -> None:
        self.name = name
        self.convert = convert

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = instance.config[self.name]
        return value if self.convert is None else self.convert(value)

    def __set__(self, instance: Any, value: Any) -> None:
        instance.config[self.name] = value


PAGE = """# Settings

Every setting of an app: `app.config["NAME"]`, or `SAMOVAR_NAME` in the environment after
`app.config.from_prefixed_env()`. `from_object`, `from_pyfile`, `from_envvar`, `from_file` and `from_mapping` fill it
too; only upper-case names count. Settings are read when they are used, so most may be changed while the app is built;
change none after the first request.

"""


def page() -> str:
    """The settings as a page of the documentation, ``docs/reference/config.md``."""
    lines = ["| Setting | Default | Unit | Meaning |", "|---|---|---|---|"]
    for setting in SETTINGS:
        lines.append(
            f"| `{setting.name}` | `{_shown(setting.default)}` | {setting.unit} | {setting.meaning} |"
        )
    return PAGE + "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.days} days" if value.days else f"{value.total_seconds() / 3600:g} hours"
    if isinstance(value, int) and not isinstance(value, bool) and value >= KiB and value % KiB == 0:
        return f"{value // MiB} MiB" if value % MiB == 0 else f"{value // KiB} KiB"
    return repr(value)
