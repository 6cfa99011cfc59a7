"""The commands that speak to channels from a shell: ``publish``, ``tail`` and ``channels``, against any backend."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click

from ...broadcast import ChannelRule, Gap, Hub, Message, Subscribed
from ...errors import ConfigError
from ..realtime import frames
from .groups import ScriptInfo, pass_script_info
from .routes import table

URL_HELP = (
    "The backend, such as redis://localhost; by default SAMOVAR_BROADCAST_URL, else the app's BROADCAST_URL."
)
url_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--url", envvar="SAMOVAR_BROADCAST_URL", metavar="URL", help=URL_HELP
)


def _hub(info: ScriptInfo, url: str | None) -> Hub:
    """A hub on the backend that is meant; one inside a single process is none that a shell can reach.

    Raises:
        ConfigError: it is ``memory://``.
    """
    if not url:
        url = info.load_app().config["BROADCAST_URL"] or "memory://"
    if urlsplit(url).scheme == "memory":
        raise ConfigError(
            "memory:// lives inside one process, so no command can reach it: name a broker by --url or "
            "SAMOVAR_BROADCAST_URL, such as local:///path.sock or redis://localhost"
        )
    return Hub(url)


def _run(job: Callable[[], Any]) -> None:
    """Run a command's coroutine; Ctrl-C is how one ends what has no end."""
    try:
        asyncio.run(job())
    except KeyboardInterrupt:
        click.echo()


@click.command("publish", short_help="Publish one message.")
@click.argument("channel")
@click.argument("data", default="-")
@click.option("--json", "as_json", is_flag=True, help="DATA is JSON; without it, text.")
@click.option("--id", "message_id", metavar="ID", help="The message's id; the same one twice is one message.")
@url_option
@pass_script_info
def publish_command(
    info: ScriptInfo, channel: str, data: str, as_json: bool, message_id: str | None, url: str | None
) -> None:
    """Publish DATA to CHANNEL and print its position and id. Without DATA, or with -, standard input is read."""
    text = sys.stdin.read() if data == "-" else data
    value = _parsed(text) if as_json else text

    async def publish() -> None:
        async with _hub(info, url) as hub:
            published = await hub.publish(channel, value, id=message_id)
        note = "  (known already: nothing was added)" if published.duplicate else ""
        click.echo(f"{published.position or '-'}  {published.id}{note}")

    _run(publish)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"this is no JSON: {error}", param_hint="DATA") from error


@click.command("tail", short_help="Print messages as they come.")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@click.option("--since", metavar="CURSOR", help="Go on after this cursor.")
@click.option("--last", type=click.IntRange(0), metavar="N", help="Start with the newest N kept messages.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N messages.")
@click.option("--raw", is_flag=True, help="Print payloads alone; gaps go to standard error.")
@url_option
@pass_script_info
def tail_command(
    info: ScriptInfo,
    channels: tuple[str, ...],
    since: str | None,
    last: int | None,
    count: int | None,
    raw: bool,
    url: str | None,
) -> None:
    """Print the messages of CHANNELs, one JSON object a line, as the doors send them. Ctrl-C ends."""

    async def tail() -> None:
        left = count
        async with _hub(info, url) as hub, hub.subscribe(*channels, since=since, last=last) as subscription:
            while left is None or left > 0:
                for event in await subscription.events():
                    _print(event, raw)
                    if left is not None and isinstance(event, Message):
                        left -= 1
                        if not left:
                            return

    _run(tail)


def _print(event: Message | Gap | Subscribed, raw: bool) -> None:
    match event:
        case Message():
            click.echo(frames.bare(event) if raw else frames.envelope(event))
        case Gap():
            click.echo(frames.gap(event), err=raw)
        case Subscribed() if not raw:
            click.echo(frames.subscribed(event))
    sys.stdout.flush()


@click.command("channels", short_help="Show the app's channel rules, or how channels stand.")
@click.argument("names", nargs=-1, metavar="[CHANNEL]...")
@url_option
@pass_script_info
def channels_command(info: ScriptInfo, names: tuple[str, ...], url: str | None) -> None:
    """Without arguments, list the channel rules of the app; for each CHANNEL, tell where it stands in the broker."""
    if not names:
        rules = info.load_app().channels
        rows = [_rule_row(rule, rules.guarded(rule)) for rule in rules.declared]
        nothing = "The app declares no channels: app.channel(…) and app.add_channel(…) do."
        click.echo("\n".join(table(RULE_TITLES, rows)) if rows else nothing)
        return

    async def look() -> None:
        async with _hub(info, url) as hub:
            rows = [await _state_row(hub, name) for name in names]
        click.echo("\n".join(table(STATE_TITLES, rows)))

    _run(look)


RULE_TITLES = ["Pattern", "History", "Seconds", "Replay", "Presence", "Who may subscribe"]
STATE_TITLES = ["Channel", "Cursor", "Kept", "Newest", "Here"]
MOST_COUNTED = 10_000


def _rule_row(rule: ChannelRule, guard: str | None) -> list[str]:
    who = guard or ("everybody" if rule.public else "routes that name it")
    presence = "yes" if rule.presence else "no"
    return [rule.pattern, str(rule.history), f"{rule.ttl:g}", str(rule.replay), presence, who]


async def _state_row(hub: Hub, name: str) -> list[str]:
    page = await hub.history(name, limit=MOST_COUNTED, reverse=True)
    kept = f"{len(page.messages)}{'+' if page.more else ''}"
    newest = "-"
    if page.messages:
        newest = datetime.fromtimestamp(page.messages[0].ts / 1000, UTC).isoformat(timespec="milliseconds")
    members = await hub.presence(name)
    return [name, str(page.head), kept, newest, str(len({member.key for member in members}))]
