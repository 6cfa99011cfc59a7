"""Long-polls: cursors, waiting together, limits, caching."""

import asyncio
import json
from typing import Any

import pytest

from samovar import ChannelRule, Hub, Response, Samovar, long_poll, request
from samovar.backends.memory import MemoryBackend
from samovar.broadcast import Page, presence_channel
from samovar.core.realtime.access import Access
from samovar.tasks import Scope

from ..support.until import until


@pytest.fixture
def app() -> Samovar:
    app = Samovar(__name__)
    app.config["TESTING"] = True
    return app


def door(app: Samovar, *channels: str, **options: Any) -> None:
    @app.get("/poll")
    async def poll() -> Any:
        return await long_poll(*channels, **options)


async def wait_for_pollers(app: Samovar, count: int) -> None:
    await until(lambda: sum(shared.waiting for shared in app.polls.shared()) >= count)


async def test_without_a_cursor_it_answers_at_once_with_the_head(app: Samovar) -> None:
    door(app, "tea")
    published = await app.hub.publish("tea", 1)
    answer = await app.test_client().poll("/poll")
    assert (answer.messages, answer.cursor, answer.recovered) == ([], str(published.position), None)
    assert answer.response.headers["samovar-cursor"] == answer.cursor
    assert answer.response.headers["cache-control"] == "private, no-store"


async def test_from_a_cursor_it_answers_with_what_came_after(app: Samovar) -> None:
    door(app, "tea")
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    for n in range(3):
        await app.hub.publish("tea", n)
    answer = await client.poll("/poll", since=cursor)
    assert [m["data"] for m in answer.messages] == [0, 1, 2]
    assert (answer.recovered, answer.cursor) == (True, answer.messages[-1]["cursor"])


async def test_it_waits_for_the_next_message(app: Samovar) -> None:
    door(app, "tea")
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    async with Scope("test") as scope:
        waiting = scope.start(client.poll("/poll", since=cursor))
        await wait_for_pollers(app, 1)
        await app.hub.publish("tea", "now")
        assert [m["data"] for m in (await waiting).messages] == ["now"]


async def test_equal_polls_share_one_wait_and_one_body(app: Samovar) -> None:
    door(app, "tea")
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    async with Scope("test") as scope:
        waiting = [scope.start(client.poll("/poll", since=cursor)) for _ in range(20)]
        await wait_for_pollers(app, 20)
        assert len(app.polls) == 1
        await app.hub.publish("tea", "now")
        answers = [await task for task in waiting]
    assert all(answer.messages[0]["data"] == "now" for answer in answers)
    assert len(app.polls) == 0


async def test_one_impatient_poller_does_not_end_the_wait_of_the_others(app: Samovar) -> None:
    @app.get("/poll")
    async def poll() -> Any:
        return await long_poll("tea", timeout=float(request.args.get("wait", "5")))

    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    async with Scope("test") as scope:
        patient = scope.start(client.get(f"/poll?since={cursor}"))
        await wait_for_pollers(app, 1)
        hasty = await client.get(f"/poll?since={cursor}&wait=0.01")
        assert hasty.status_code == 204
        await app.hub.publish("tea", "late")
        assert (await (await patient).get_json())["messages"][0]["data"] == "late"


async def test_nothing_in_time_is_204_or_304_with_the_cursor(app: Samovar) -> None:
    door(app, "tea", timeout=0.01)
    client = app.test_client()
    cursor = await app.hub.cursor("tea")  # not by a poll: a busy machine may have no word for it in time
    empty = await client.get(f"/poll?since={cursor}")
    assert (empty.status_code, empty.headers["samovar-cursor"]) == (204, cursor)
    unchanged = await client.get(f"/poll?since={cursor}", headers={"If-None-Match": f'"{cursor}"'})
    assert (unchanged.status_code, unchanged.headers["etag"]) == (304, f'"{cursor}"')
    assert "content-type" not in empty.headers and "content-type" not in unchanged.headers
    assert len(app.polls) == 0


async def test_a_foreign_epoch_is_told_as_a_gap(app: Samovar) -> None:
    door(app, "tea")
    await app.hub.publish("tea", 1)
    answer = await app.test_client().poll("/poll", since="gone:5")
    assert answer.recovered is False
    assert answer.gaps[0]["reason"] == "reset" and answer.gaps[0]["channel"] == "tea"


@pytest.mark.parametrize("since", ["nonsense", "a:b:c", "tea=x"])
async def test_a_malformed_cursor_is_400(app: Samovar, since: str) -> None:
    door(app, "tea")
    assert (await app.test_client().get("/poll", query_string={"since": since})).status_code == 400


async def test_a_nameless_cursor_for_several_channels_is_400(app: Samovar) -> None:
    door(app, "a", "b")
    response = await app.test_client().get("/poll?since=e:1")
    assert response.status_code == 400
    assert "channel=epoch:offset" in await response.get_data(as_text=True)


async def test_a_large_answer_is_cut_and_says_more(app: Samovar) -> None:
    app.add_channel("tea", history=1000, public=True)
    door(app, "tea", limit=30)
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    for n in range(100):
        await app.hub.publish("tea", n)
    data: list[int] = []
    more = True
    while more:
        answer = await client.poll("/poll", since=cursor)
        assert len(answer.messages) <= 30
        data += [m["data"] for m in answer.messages]
        cursor, more = answer.cursor, answer.more
    assert data == list(range(100))


async def test_an_answer_ends_at_a_mebibyte_too(app: Samovar) -> None:
    app.add_channel("tea", history=100, max_bytes=8 * 1024 * 1024, public=True)
    door(app, "tea")
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    for _ in range(40):
        await app.hub.publish("tea", "x" * 60_000)
    response = await client.get(f"/poll?since={cursor}")
    body = await response.get_data(as_text=False)
    assert json.loads(body)["more"] is True
    assert len(body) < 1.2 * 1024 * 1024


async def test_a_composite_cursor_goes_on_in_every_channel(app: Samovar) -> None:
    door(app, "a", "b")
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    assert cursor is not None and "a=" in cursor and "b=" in cursor
    await app.hub.publish("b", 1)
    answer = await client.poll("/poll", since=cursor)
    assert [(m["channel"], m["data"]) for m in answer.messages] == [("b", 1)]
    await app.hub.publish("a", 2)
    await app.hub.publish("b", 3)
    answer = await client.poll("/poll", since=answer.cursor)
    assert sorted((m["channel"], m["data"]) for m in answer.messages) == [("a", 2), ("b", 3)]


async def test_timeout_zero_reads_history_forward_and_backward(app: Samovar) -> None:
    @app.get("/history")
    async def history() -> Any:
        return await long_poll("tea", timeout=0, limit=3, reverse="newest" in request.args)

    client = app.test_client()
    for n in range(5):
        await app.hub.publish("tea", n)
    first = await client.poll("/history")
    assert ([m["data"] for m in first.messages], first.more) == ([0, 1, 2], True)
    rest = await client.poll("/history", since=first.cursor)
    assert ([m["data"] for m in rest.messages], rest.more, rest.recovered) == ([3, 4], False, True)
    newest = await (await client.get("/history?newest")).get_json()
    assert [m["data"] for m in newest["messages"]] == [4, 3, 2]


async def test_a_public_channel_may_be_cached_shared_and_has_an_etag(app: Samovar) -> None:
    app.add_channel("news", public=True)
    door(app, "news", timeout=0.01)
    client = app.test_client()
    response = await client.get("/poll")
    assert response.headers["cache-control"] == "public, max-age=1"
    assert response.headers["etag"].startswith('"')
    nothing = await client.get(f"/poll?since={response.headers['samovar-cursor']}")
    assert (nothing.status_code, nothing.headers["cache-control"]) == (204, "private, no-store")


async def test_a_denied_channel_is_403(app: Samovar) -> None:
    @app.channel("secret")
    async def nobody() -> bool:
        return False

    door(app, "secret")
    assert (await app.test_client().get("/poll")).status_code == 403


async def test_who_is_in_a_denied_channel_is_403_too(app: Samovar) -> None:
    @app.channel("room/<name>", presence=True)
    async def friends_only(name: str) -> bool:
        return name == "open"

    @app.get("/joins/<name>")
    async def joins(name: str) -> Response:
        return await long_poll(presence_channel(f"room/{name}"), timeout=0)

    client = app.test_client()
    assert (await client.get("/joins/secret")).status_code == 403
    assert (await client.get("/joins/open")).status_code == 200


async def test_shutdown_answers_waiting_polls_with_their_cursor(app: Samovar) -> None:
    door(app, "tea")
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    async with Scope("test") as scope:
        waiting = scope.start(client.get(f"/poll?since={cursor}"))
        await wait_for_pollers(app, 1)
        app.shutdown_event.set()
        response = await waiting
    assert (response.status_code, response.headers["samovar-cursor"]) == (204, cursor)


async def test_a_named_poller_is_present_while_it_polls_and_through_the_grace(app: Samovar) -> None:
    @app.channel("room", presence=True)
    async def may_join() -> Access:
        return Access(user="ann")

    door(app, "room", timeout=0.01)
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    await client.poll("/poll", since=cursor)
    assert {member.user for member in await app.hub.presence("room")} == {"ann"}


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 501}, {"reverse": True}])
async def test_options_that_cannot_work_are_errors(app: Samovar, options: dict[str, Any]) -> None:
    async with app.test_request_context("/"):
        with pytest.raises(ValueError, match=r"limit|reverse"):
            await long_poll("tea", **options)


async def test_a_client_changes_doors_in_mid_stream_and_loses_nothing(app: Samovar) -> None:
    from samovar import event_stream, websocket

    door(app, "tea")

    @app.get("/events")
    async def events() -> Any:
        return await event_stream("tea")

    @app.websocket("/ws")
    async def socket() -> None:
        await websocket.subscribe("tea", since=websocket.args.get("since"))
        await websocket.wait_closed()

    client = app.test_client()
    seen: list[int] = []
    cursor = (await client.poll("/poll")).cursor
    for n in range(3):
        await app.hub.publish("tea", n)
    answer = await client.poll("/poll", since=cursor)
    seen += [m["data"] for m in answer.messages]
    for n in range(3, 6):
        await app.hub.publish("tea", n)
    async with client.sse(f"/events?since={answer.cursor}") as stream:
        assert (await stream.receive()).json()["recovered"] is True
        for _ in range(3):
            event = await stream.receive()
            seen.append(event.json()["data"])
    for n in range(6, 9):
        await app.hub.publish("tea", n)
    async with client.websocket(f"/ws?since={event.id}") as ws:
        assert (await ws.receive_json())["recovered"] is True
        for _ in range(3):
            row = await ws.receive_json()
            seen.append(row["data"])
    await app.hub.publish("tea", 9)
    answer = await client.poll("/poll", since=row["cursor"])
    seen += [m["data"] for m in answer.messages]
    assert seen == list(range(10))


# --- what a poll must not do to its client's cursor --------------------------------------------------------------


class SlowSecondPage(MemoryBackend):
    """A broker that gets stuck after its first page of history, until :attr:`free` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.free = asyncio.Event()

    async def history(self, *args: Any, **options: Any) -> Page:
        self.reads += 1
        if self.reads > 1:
            await self.free.wait()
        return await super().history(*args, **options)


@pytest.mark.parametrize("end", ["timeout", "shutdown"])
async def test_a_poll_that_ends_amid_a_backlog_tells_what_it_has_and_moves_no_further(
    app: Samovar, end: str
) -> None:
    backend = SlowSecondPage()
    app.make_hub = lambda: Hub(backend, channels=[ChannelRule("tea", history=2000)])  # type: ignore[method-assign]
    door(app, "tea", timeout=0.2 if end == "timeout" else 5)
    client = app.test_client()
    cursor = await app.hub.cursor("tea")
    for n in range(1200):
        await app.hub.publish("tea", n)
    async with Scope("test") as scope:
        polling = scope.start(client.poll("/poll", since=cursor))
        await until(lambda: backend.reads > 1)
        if end == "shutdown":
            app.shutdown_event.set()
        answer = await polling
    assert answer.response.status_code == 200
    data = [message["data"] for message in answer.messages]
    assert data == list(range(len(data))) and data
    assert (answer.cursor, answer.more) == (answer.messages[-1]["cursor"], True)
    backend.free.set()


async def test_a_gap_behind_messages_of_its_channel_waits_for_the_next_answer(app: Samovar) -> None:
    door(app, "tea")
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    await app.hub.publish("tea", "one")
    await app.hub.backend.publish("tea", b"nobody can read this", id="x")
    await app.hub.publish("tea", "three")
    first = await client.poll("/poll", since=cursor)
    assert ([m["data"] for m in first.messages], first.gaps, first.more) == (["one"], [], True)
    second = await client.poll("/poll", since=first.cursor)
    assert [m["data"] for m in second.messages] == ["three"]
    assert second.gaps[0]["reason"] == "lost" and second.recovered is False


async def test_the_newest_few_of_history_end_at_the_head(app: Samovar) -> None:
    @app.get("/history")
    async def history() -> Any:
        return await long_poll("tea", timeout=0, last=2)

    client = app.test_client()
    for n in range(5):
        await app.hub.publish("tea", n)
    newest = await client.poll("/history")
    assert ([m["data"] for m in newest.messages], newest.more) == ([3, 4], False)
    assert (await client.poll("/history", since=newest.cursor)).messages == []
    lost = await client.poll("/history", since="gone:1")
    assert [m["data"] for m in lost.messages] == [3, 4]
    assert lost.gaps[0]["until"].endswith(":3")
    assert lost.recovered is False


async def test_history_of_a_channel_missing_from_the_cursor_starts_from_now(app: Samovar) -> None:
    @app.get("/history")
    async def history() -> Any:
        return await long_poll("a", "b", timeout=0)

    client = app.test_client()
    await app.hub.publish("a", 1)
    published = await app.hub.publish("b", 2)
    answer = await client.poll("/history", since=f"a={(await app.hub.cursor('a')).replace(':1', ':0')}")
    assert [(m["channel"], m["data"]) for m in answer.messages] == [("a", 1)]
    assert f"b={published.position}" in str(answer.cursor)
    never_learned = await client.poll("/history", since="a=,b=")
    assert never_learned.recovered is False
    assert {gap["reason"] for gap in never_learned.gaps} == {"unknown"}


async def test_history_ends_at_a_mebibyte_and_at_one_limit_for_all_channels(app: Samovar) -> None:
    app.add_channel("big/<n>", history=100, max_bytes=8 * 1024 * 1024, public=True)

    @app.get("/history")
    async def history() -> Any:
        return await long_poll("big/1", "big/2", timeout=0)

    client = app.test_client()
    for n in range(40):
        await app.hub.publish(f"big/{n % 2 + 1}", "x" * 60_000)
    seen, cursor, more = 0, None, True
    while more:
        answer = await client.poll("/history", since=cursor)
        assert len(await answer.response.get_data()) < 1.2 * 1024 * 1024
        seen, cursor, more = seen + len(answer.messages), answer.cursor, answer.more
    assert seen == 40


async def test_a_limit_filled_by_one_channel_keeps_the_cursor_of_the_other(app: Samovar) -> None:
    door(app, "a", "b", limit=2)
    client = app.test_client()
    cursor = (await client.poll("/poll")).cursor
    for n in range(3):
        await app.hub.publish("a", n)
    await app.hub.publish("b", "last")
    seen = []
    for _ in range(3):
        answer = await client.poll("/poll", since=cursor)
        assert answer.recovered is True
        seen += [m["data"] for m in answer.messages]
        cursor = answer.cursor
        if not answer.more:
            break
    assert sorted(map(str, seen)) == ["0", "1", "2", "last"]


async def test_two_polls_of_one_user_leave_one_by_one(app: Samovar) -> None:
    app.config["PRESENCE_GRACE"] = 0

    @app.channel("room", presence=True)
    async def may_join() -> Access:
        return Access(user="ann")

    @app.get("/poll")
    async def poll() -> Any:
        return await long_poll("room", timeout=float(request.args["wait"]))

    client = app.test_client()
    cursor = await app.hub.cursor("room")
    async with Scope("test") as scope:
        patient = scope.start(client.get(f"/poll?wait=5&since={cursor}"))
        await wait_for_pollers(app, 1)
        await client.get(f"/poll?wait=0.01&since={cursor}")
        assert [member.user for member in await app.hub.presence("room")] == ["ann"]
        await app.hub.publish("room", "go")
        await patient
