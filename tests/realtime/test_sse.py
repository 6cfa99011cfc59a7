"""Server-sent events: framing, resuming, leaving, ending."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from samovar import Samovar, ServerSentEvent, event_stream, hub, render_template_string, request
from samovar.core.realtime.access import Access
from samovar.core.testing import HTTPDisconnectError

from ..support.until import until_async


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__)
    app.config["TESTING"] = True
    return app


def stream(app: Samovar, *channels: str, **options: Any) -> None:
    @app.get("/events")
    async def events() -> Any:
        return await event_stream(*channels, **options)


async def test_the_answer_is_an_unbuffered_event_stream_with_its_first_bytes_at_once(app: Samovar) -> None:
    stream(app, "tea")
    async with app.test_client().sse("/events") as events:
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-cache, no-transform"
        assert events.headers["x-accel-buffering"] == "no"
        assert await events.receive_comment() == "samovar"
        assert events.retry is None or 1000 <= events.retry <= 3000
        await events.receive()
        assert events.retry is not None and 1000 <= events.retry <= 3000


async def test_the_first_word_then_messages_whose_id_is_the_cursor(app: Samovar) -> None:
    stream(app, "tea")
    async with app.test_client().sse("/events") as events:
        first = await events.receive()
        assert first.event == "subscribed"
        assert first.json() == {"channel": "tea", "subscribed": True, "recovered": None, "cursor": first.id}
        published = await app.hub.publish("tea", "two\nlines")
        message = await events.receive()
        assert (message.event, message.id) == ("message", str(published.position))
        assert message.json()["data"] == "two\nlines"


async def test_last_event_id_resumes_and_beats_the_stale_query(app: Samovar) -> None:
    stream(app, "tea")
    client = app.test_client()
    async with client.sse("/events") as events:
        stale = (await events.receive()).id
        for n in range(5):
            await app.hub.publish("tea", n)
        for _ in range(3):
            last = (await events.receive()).id
    async with client.sse(f"/events?since={stale}", headers={"Last-Event-ID": last}) as events:
        assert (await events.receive()).json()["recovered"] is True
        assert [(await events.receive()).json()["data"] for _ in range(2)] == [3, 4]
        assert await events.receive_nothing()


@pytest.mark.parametrize("header", ["nonsense", "a:b", "x=y=z", "tea=1", "é:1"])
async def test_a_malformed_last_event_id_is_a_gap_since_the_page_cannot_change_it(
    app: Samovar, header: str
) -> None:
    stream(app, "tea")
    await app.hub.publish("tea", 1)
    async with app.test_client().sse("/events", headers={"Last-Event-ID": header}) as events:
        assert (await events.receive()).json()["recovered"] is False
        gap = await events.receive()
        assert (gap.event, gap.json()["gap"]["reason"]) == ("gap", "unknown")
        assert gap.id == gap.json()["cursor"] != ""


async def test_a_malformed_since_is_400(app: Samovar) -> None:
    stream(app, "tea")
    response = await app.test_client().get("/events?since=nonsense")
    assert response.status_code == 400
    assert "epoch:offset" in await response.get_data(as_text=True)


async def test_several_channels_share_a_stream_and_a_composite_id(app: Samovar) -> None:
    stream(app, "a", "b")
    client = app.test_client()
    async with client.sse("/events") as events:
        await events.receive()
        await events.receive()
        await app.hub.publish("a", 1)
        await app.hub.publish("b", 2)
        await events.receive()
        last = (await events.receive()).id
    assert [part.split("=")[0] for part in last.split(",")] == ["a", "b"]
    await app.hub.publish("b", 3)
    await app.hub.publish("a", 4)
    async with client.sse("/events", headers={"Last-Event-ID": last}) as events:
        words = [(await events.receive()).json() for _ in range(4)]
    assert {(w["channel"], w.get("data", "word")) for w in words} == {
        ("a", 4),
        ("b", 3),
        ("a", "word"),
        ("b", "word"),
    }
    assert all(word["recovered"] for word in words if "subscribed" in word)


async def test_a_cut_between_two_first_words_loses_nothing_of_the_second_channel(app: Samovar) -> None:
    stream(app, "a", "b")
    client = app.test_client()
    positions = [await app.hub.publish(channel, 0) for channel in "ab"]
    since = ",".join(f"{channel}={p.position}" for channel, p in zip("ab", positions, strict=True))
    await app.hub.publish("b", 1)
    async with client.sse("/events", headers={"Last-Event-ID": since}) as events:
        cut_here = (await events.receive()).id
    async with client.sse("/events", headers={"Last-Event-ID": cut_here}) as events:
        rows = [(await events.receive()).json() for _ in range(3)]
    assert [row["data"] for row in rows if "data" in row] == [1]


async def test_too_many_channels_for_one_id_are_refused_in_words(app: Samovar) -> None:
    with pytest.raises(ValueError, match="fewer channels"):
        async with app.test_request_context("/"):
            await event_stream(*(f"channel/{n}" for n in range(60)))


@pytest.mark.parametrize("channels", [(), ("a", "a")])
async def test_no_channel_or_the_same_twice_is_an_error(app: Samovar, channels: tuple[str, ...]) -> None:
    async with app.test_request_context("/"):
        with pytest.raises(ValueError, match="channel"):
            await event_stream(*channels)


async def test_a_channel_name_from_the_url_that_no_channel_can_have_is_400(app: Samovar) -> None:
    @app.get("/events/<name>")
    async def events(name: str) -> Any:
        return await event_stream(name)

    assert (await app.test_client().get("/events/a%20b")).status_code == 400


async def test_without_envelope_the_payload_alone_and_an_id_only_first_block(app: Samovar) -> None:
    stream(app, "tea", envelope=False)
    async with app.test_client().sse("/events") as events:
        await events.until(lambda: ":" in events.last_event_id)
        await app.hub.publish("tea", "plain")
        await app.hub.publish("tea", {"a": 1})
        await app.hub.publish("tea", b"\xff")
        received = [await events.receive() for _ in range(3)]
    assert [event.data for event in received] == ["plain", '{"a":1}', "/w=="]


async def test_a_denied_channel_is_403(app: Samovar) -> None:
    @app.channel("secret")
    async def nobody() -> bool:
        return False

    stream(app, "secret")
    assert (await app.test_client().get("/events")).status_code == 403


async def test_the_route_may_decide_itself(app: Samovar) -> None:
    @app.channel("secret")
    async def nobody() -> bool:
        return False

    stream(app, "secret", authorize=False)
    async with app.test_client().sse("/events") as events:
        assert (await events.receive()).event == "subscribed"


async def test_heartbeats_come_while_it_is_silent(app: Samovar) -> None:
    stream(app, "tea", heartbeat=0.02)
    async with app.test_client().sse("/events") as events:
        await events.receive_comment()
        assert [await events.receive_comment() for _ in range(2)] == ["", ""]


async def test_leaving_ends_the_subscription(app: Samovar) -> None:
    stream(app, "tea")
    at_rest = len(app.shutdown_event)
    async with app.test_client().sse("/events") as events:
        await events.receive()
        assert len(app.shutdown_event) == at_rest + 1
    assert len(app.shutdown_event) == at_rest


async def test_shutdown_ends_the_stream_so_that_the_browser_comes_back(app: Samovar) -> None:
    stream(app, "tea")
    async with app.test_client().sse("/events") as events:
        await events.receive()
        app.shutdown_event.set()
        with pytest.raises(HTTPDisconnectError):
            await events.receive()


async def test_presence_counts_while_the_stream_is_open(app: Samovar) -> None:
    app.config["PRESENCE_GRACE"] = 0.0

    @app.channel("room", presence=True)
    async def may_join() -> Access:
        return Access(user=request.args["me"])

    stream(app, "room")
    async with app.test_client().sse("/events?me=ann") as events:
        await events.receive()
        await app.hub.publish("room", "x")
        await events.receive()
        assert [member.user for member in await app.hub.presence("room")] == ["ann"]

    async def empty() -> bool:
        return not await app.hub.presence("room")

    await until_async(empty)


# --- one's own source -------------------------------------------------------------------------------------------------


async def test_an_async_iterable_streams_events_text_and_json(app: Samovar) -> None:
    async def source() -> AsyncIterator[Any]:
        yield ServerSentEvent("hello", event="greeting", id="1")
        yield "text\nof two lines"
        yield {"a": 1}

    @app.get("/events")
    async def events() -> Any:
        return await event_stream(source())

    async with app.test_client().sse("/events") as stream:
        received = [event async for event in stream]
    assert [(e.event, e.data, e.id) for e in received] == [
        ("greeting", "hello", "1"),
        ("message", "text\nof two lines", "1"),
        ("message", '{"a":1}', "1"),
    ]


async def test_a_silent_source_has_heartbeats_and_is_closed_when_the_client_leaves(app: Samovar) -> None:
    closed = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        try:
            yield request.args["me"]
            await asyncio.Event().wait()
        finally:
            closed.set()

    @app.get("/events")
    async def events() -> Any:
        return await event_stream(source(), heartbeat=0.02)

    async with app.test_client().sse("/events?me=ann") as stream:
        assert (await stream.receive()).data == "ann"
        assert [await stream.receive_comment() for _ in range(3)] == ["samovar", "", ""]
    assert closed.is_set()


async def test_a_source_beside_channel_names_is_a_type_error(app: Samovar) -> None:
    async def source() -> AsyncIterator[str]:
        yield "x"

    async with app.test_request_context("/"):
        with pytest.raises(TypeError, match="alone"):
            await event_stream("tea", source())


async def test_a_thousand_points_arrive_whole_in_order_across_three_cuts(app: Samovar) -> None:
    app.add_channel("tea", history=2000, public=True)
    stream(app, "tea")
    client = app.test_client()
    async with client.sse("/events") as events:
        last = (await events.receive()).id
    seen: list[int] = []
    for cut in range(4):
        for n in range(cut * 250, cut * 250 + 250):
            await app.hub.publish("tea", n)
        async with client.sse("/events", headers={"Last-Event-ID": last}) as events:
            assert (await events.receive()).json()["recovered"] is True
            while len(seen) < (1000 if cut == 3 else cut * 250 + 200):
                event = await events.receive()
                seen.append(json.loads(event.data)["data"])
                last = event.id
    assert seen == list(range(1000))


async def test_the_first_subscription_of_a_hub_that_was_never_started_is_counted_and_stopped(
    app: Samovar,
) -> None:
    stream(app, "tea")
    async with app.test_client().sse("/events") as events:
        await events.receive()
        assert app.hub.stats()["subscriptions"] == 1
        await app.hub.stop()
        with pytest.raises(HTTPDisconnectError):
            await events.receive()


async def test_a_time_limit_around_a_yield_holds_in_a_source(app: Samovar) -> None:
    async def source() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(0.05):
                yield "before"
                await asyncio.Event().wait()
        except TimeoutError:
            yield "timed out"

    @app.get("/events")
    async def events() -> Any:
        return await event_stream(source())

    async with app.test_client().sse("/events") as stream:
        assert [event.data async for event in stream] == ["before", "timed out"]


async def test_an_error_in_a_source_ends_the_stream_unfinished_and_is_raised_to_the_test(
    app: Samovar,
) -> None:
    async def source() -> AsyncIterator[str]:
        yield "before"
        raise RuntimeError("the kettle is empty")

    @app.get("/events")
    async def events() -> Any:
        return await event_stream(source())

    with pytest.raises(RuntimeError, match="kettle"):
        async with app.test_client().sse("/events") as stream:
            assert (await stream.receive()).data == "before"
            await stream.receive()


async def test_a_page_goes_on_from_the_cursor_it_asked_for_first(app: Samovar) -> None:
    @app.get("/")
    async def page() -> Any:
        first = await hub.cursor("tea")
        await hub.publish("tea", "meanwhile")
        return [first, await hub.cursor("tea"), await render_template_string("{{ cursor('tea') }}")]

    told = await (await app.test_client().get("/")).get_json()
    assert len(set(told)) == 1 and told[0].endswith(":0")


async def test_outside_a_request_a_cursor_is_always_the_present_one(app: Samovar) -> None:
    async with app.app_context():
        before = await hub.cursor("tea")
        await hub.publish("tea", 1)
        assert (before[-2:], (await hub.cursor("tea"))[-2:]) == (":0", ":1")
