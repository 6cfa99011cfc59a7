"""The command groups: one that loads the app when a command needs it, one for commands that apps bring along."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any, TypeVar, overload

import click

from ...errors import LifespanError, MissingDependency, SamovarError
from .discovery import find_app
from .dotenv import load_dotenv

if TYPE_CHECKING:
    from ..app import Samovar

F = TypeVar("F", bound=Callable[..., Any])
ENTRY_POINTS = "samovar.commands"


class ScriptInfo:
    """Finds the app that a command line is about, once.

    Args:
        app_import_path: what ``--app`` says.
        create_app: makes the app instead of looking for it; takes no arguments.
        set_debug_flag: whether the debug flag of the command line goes to the app.
    """

    def __init__(
        self,
        app_import_path: str | None = None,
        create_app: Callable[[], Samovar] | None = None,
        set_debug_flag: bool = True,
    ) -> None:
        self.app_import_path = app_import_path
        self.create_app = create_app
        self.set_debug_flag = set_debug_flag
        self.debug: bool | None = None
        self.data: dict[Any, Any] = {}
        self.loading: bool = False
        self._app: Samovar | None = None

    def load_app(self) -> Samovar:
        """Return the app, looked for at the first call.

        Raises:
            NoAppError: there is none.
            AppImportError: its module raised.
        """
        if self._app is None:
            self.loading = True
            try:
                with _debug_in_environment(self.debug if self.set_debug_flag else None):
                    app = find_app(self.app_import_path) if self.create_app is None else self.create_app()
            finally:
                self.loading = False
            if self.set_debug_flag and self.debug is not None:
                app.debug = self.debug
            self._app = app
        return self._app


@contextmanager
def _debug_in_environment(debug: bool | None) -> Iterator[None]:
    """Let code that runs while the app is imported see the debug flag of the command line, as ``app.debug`` too."""
    before = os.environ.get("SAMOVAR_DEBUG")
    if debug is not None:
        os.environ["SAMOVAR_DEBUG"] = "1" if debug else "0"
    try:
        yield
    finally:
        if debug is not None:
            if before is None:
                os.environ.pop("SAMOVAR_DEBUG", None)
            else:
                os.environ["SAMOVAR_DEBUG"] = before


def is_loading() -> bool:
    """Whether a command line is importing its app at this moment."""
    context = click.get_current_context(silent=True)
    info = context.find_object(ScriptInfo) if context is not None else None
    return info is not None and info.loading


pass_script_info: Callable[[Callable[..., Any]], Callable[..., Any]]
pass_script_info = click.make_pass_decorator(ScriptInfo, ensure=True)


@overload
def with_appcontext(fn: F) -> F: ...


@overload
def with_appcontext(fn: None = None) -> Callable[[F], F]: ...


def with_appcontext(fn: Callable[..., Any] | None = None) -> Any:
    """Run a command's function inside the app's context; an async one is awaited there. With or without parentheses."""
    if fn is None:
        return with_appcontext
    function = fn

    @click.pass_context
    def in_context(context: click.Context, /, *args: Any, **kwargs: Any) -> Any:
        app = context.ensure_object(ScriptInfo).load_app()
        return run_in_context(app, lambda: context.invoke(function, *args, **kwargs))

    return update_wrapper(in_context, function)


def run_in_context(app: Samovar, call: Callable[[], Any]) -> Any:
    """Call *call* inside *app*'s context; the loop does not run meanwhile, unless it returns an awaitable."""
    variables = contextvars.copy_context()
    with asyncio.Runner() as runner:
        app_context = app.app_context()
        runner.run(_enter(app_context), context=variables)
        error: BaseException | None = None
        try:
            result = variables.run(call)
            if inspect.isawaitable(result):
                result = runner.run(_wait(result), context=variables)
            return result
        except BaseException as caught:
            error = caught
            raise
        finally:
            runner.run(_leave(app_context, error), context=variables)


async def _enter(app_context: Any) -> None:
    await app_context.__aenter__()


async def _leave(app_context: Any, error: BaseException | None) -> None:
    await app_context.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)


async def _wait(awaitable: Any) -> Any:
    return await awaitable


class AppGroup(click.Group):
    """A group whose commands run inside the app's context; ``app.cli`` and ``Blueprint.cli`` are such."""

    @overload
    def command(self, function: Callable[..., Any], /) -> click.Command: ...

    @overload
    def command(
        self, *args: Any, with_appcontext: bool = True, **kwargs: Any
    ) -> Callable[[Callable[..., Any]], click.Command]: ...

    def command(self, *args: Any, with_appcontext: bool = True, **kwargs: Any) -> Any:
        """Register a command, sync or async; ``with_appcontext=False`` leaves the context out."""
        register = super().command

        def decorator(function: Callable[..., Any]) -> click.Command:
            wrap = in_appcontext if with_appcontext else in_loop
            made: click.Command = register(*args, **kwargs)(wrap(function))
            return made

        if len(args) == 1 and callable(args[0]) and not kwargs:
            function, args = args[0], ()
            return decorator(function)
        return decorator

    def group(self, *args: Any, **kwargs: Any) -> Any:
        """Register a group of the same kind."""
        kwargs.setdefault("cls", AppGroup)
        return super().group(*args, **kwargs)


in_appcontext = with_appcontext  # the name that AppGroup.command's argument hides


def in_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give an async command a loop to run in; a sync one stays as it is."""
    if not inspect.iscoroutinefunction(function):
        return function

    def run(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return update_wrapper(run, function)


class SamovarGroup(AppGroup):
    """The group of the ``samovar`` command: its own commands, those of installed packages and those of the app.

    Args:
        add_default_commands: whether ``run``, ``shell`` and ``routes`` are in it.
        create_app: makes the app instead of looking for it.
        add_version_option: whether ``--version`` is in it.
        load_dotenv: whether ``.env`` and ``.samovarenv`` are read.
        set_debug_flag: whether the debug flag goes to the app.
    """

    def __init__(
        self,
        add_default_commands: bool = True,
        create_app: Callable[[], Samovar] | None = None,
        add_version_option: bool = True,
        load_dotenv: bool = True,
        set_debug_flag: bool = True,
        **extra: Any,
    ) -> None:
        params = [env_file_option, app_option, debug_option]
        if add_version_option:
            params.append(version_option)
        extra["params"] = [*extra.get("params", ()), *params]
        super().__init__(**extra)
        self.create_app = create_app
        self.load_dotenv = load_dotenv
        self.set_debug_flag = set_debug_flag
        self._plugins_loaded = False
        if add_default_commands:
            from .channels import channels_command, publish_command, tail_command
            from .hub import hub_command
            from .routes import routes_command
            from .run import run_command
            from .shell import shell_command

            channels = (channels_command, publish_command, tail_command)
            for command in (run_command, shell_command, routes_command, hub_command, *channels):
                self.add_command(command)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Make the context, with the environment files read and a :class:`ScriptInfo` in it."""
        if self.load_dotenv and not _asks_for(args, "-e", "--env-file"):
            load_dotenv()
        if "obj" not in extra and "obj" not in self.context_settings:
            extra["obj"] = ScriptInfo(create_app=self.create_app, set_debug_flag=self.set_debug_flag)
        extra.setdefault("auto_envvar_prefix", "SAMOVAR")
        return super().make_context(info_name, args, parent=parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; without a command show the help."""
        if not args and self.no_args_is_help:
            args = ["--help"]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command: ours, a package's, or the app's; ours are found when the app is broken too."""
        self._load_plugins()
        found = super().get_command(ctx, name)
        if found is not None:
            return found
        info = ctx.ensure_object(ScriptInfo)
        try:
            command: click.Command | None = info.load_app().cli.get_command(ctx, name)
            return command
        except click.ClickException as error:
            _warn(error)
            return None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands; those of an app that cannot be loaded are missing, and the reason is printed."""
        self._load_plugins()
        names = set(super().list_commands(ctx))
        info = ctx.ensure_object(ScriptInfo)
        try:
            names.update(info.load_app().cli.list_commands(ctx))
        except click.ClickException as error:
            _warn(error)
        return sorted(names)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our own errors become one line."""
        try:
            return super().invoke(ctx)
        except LifespanError as error:
            raise StartError(error) from error
        except SamovarError as error:
            raise click.ClickException(str(error)) from error

    def _load_plugins(self) -> None:
        if not self._plugins_loaded:
            self._plugins_loaded = True
            for entry in entry_points(group=ENTRY_POINTS):
                self.add_command(entry.load(), entry.name)


class StartError(click.ClickException):
    """An app that did not start or stop well; shown with the traceback of the cause."""

    def __init__(self, error: LifespanError) -> None:
        super().__init__(str(error))
        self.cause: BaseException | None = error.__cause__

    def show(self, file: Any = None) -> None:
        """Print the traceback of the cause, if there is one, and the error."""
        import traceback

        if self.cause is not None:
            click.echo("".join(traceback.format_exception(self.cause)), err=True, nl=False)
        super().show(file)


def _warn(error: click.ClickException) -> None:
    click.secho(f"Note: {error.format_message()}", err=True, fg="yellow")


def _asks_for(args: list[str], *options: str) -> bool:
    return any(arg in options or arg.startswith(f"{options[-1]}=") for arg in args)


def set_app(ctx: click.Context, param: click.Option, value: str | None) -> str | None:
    if value is not None:
        ctx.ensure_object(ScriptInfo).app_import_path = value
    return value


def _set_debug(ctx: click.Context, param: click.Option, value: bool | None) -> bool | None:
    if value is not None:
        ctx.ensure_object(ScriptInfo).debug = value
    return value


def _set_env_file(ctx: click.Context, param: click.Option, value: str | None) -> str | None:
    if value is not None:
        try:
            load_dotenv(value)
        except MissingDependency as error:  # the command does not run yet, which would make a line of it
            raise click.ClickException(str(error)) from error
    return value


def _show_version(ctx: click.Context, param: click.Option, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    lines = [f"Python {platform.python_version()}"]
    lines += [f"{name} {version(name.lower())}" for name in ("Samovar", "Werkzeug", "Hypercorn")]
    click.echo("\n".join(lines))
    ctx.exit()


env_file_option: click.Option = click.Option(
    ["-e", "--env-file"],
    type=click.Path(exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_set_env_file,
    help="Read environment variables from this file, before .env and .samovarenv. Needs python-dotenv.",
)
app_option: click.Option = click.Option(
    ["-A", "--app"],
    metavar="IMPORT",
    is_eager=True,
    expose_value=False,
    callback=set_app,
    help="The app: module, module:name, path/to/file, 'module:factory(\"arg\")'. By default app.py, wsgi.py, asgi.py.",
)
debug_option: click.Option = click.Option(
    ["--debug/--no-debug"],
    default=None,
    expose_value=False,
    callback=_set_debug,
    help="Debug mode: traceback pages, the reloader, each request logged.",
)
version_option: click.Option = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the versions and exit.",
)
