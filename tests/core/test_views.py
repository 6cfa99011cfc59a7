"""Views as classes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from samovar import Blueprint, Samovar, request, websocket
from samovar.core.views import MethodView, View


def loud(view: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(**values: Any) -> str:
        return str(await view(**values)).upper()

    return wrapper


class Hello(View):
    methods = ("GET", "POST")
    decorators: ClassVar[list[Any]] = [loud]

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    async def dispatch_request(self, **values: Any) -> str:
        return f"{self.greeting} {values['name']}"


class Items(MethodView):
    async def get(self, id: int) -> dict[str, int]:
        return {"id": id}

    def put(self, id: int) -> str:
        return f"put {id}"


class Counter(View):
    init_every_request = False

    def __init__(self) -> None:
        self.count = 0

    async def dispatch_request(self, **values: Any) -> str:
        self.count += 1
        return str(self.count)


async def test_a_view_class_with_decorators_and_arguments() -> None:
    app = Samovar(__name__, static_folder=None)
    app.add_url_rule("/<name>", view_func=Hello.as_view("hello", "hi"))
    client = app.test_client()
    assert await (await client.post("/ann")).get_data() == b"HI ANN"
    assert (await client.put("/ann")).status_code == 405


async def test_a_method_view_answers_the_methods_it_has() -> None:
    app = Samovar(__name__, static_folder=None)
    blueprint = Blueprint("bp", __name__)
    blueprint.add_url_rule("/<int:id>", view_func=Items.as_view("items"))
    app.register_blueprint(blueprint)
    client = app.test_client()
    assert await (await client.get("/5")).get_json() == {"id": 5}
    assert await (await client.put("/5")).get_data() == b"put 5"
    assert (await client.head("/5")).status_code == 200
    wrong = await client.post("/5")
    assert wrong.status_code == 405 and set(wrong.allow) == {"GET", "HEAD", "OPTIONS", "PUT"}


async def test_methods_are_inherited() -> None:
    class Traced(MethodView):
        methods = ("TRACE",)

    class Page(Traced):
        async def get(self) -> str:
            return "page"

    assert set(Page.methods) == {"GET", "TRACE"}


async def test_a_class_s_plain_methods_run_in_a_thread_by_the_app_s_ensure_async() -> None:
    ran: list[str] = []

    class Mine(Samovar):
        def sync_to_async(self, func: Callable[..., Any]) -> Any:
            ran.append(func.__name__)
            return super().sync_to_async(func)

    class Page(View):
        def dispatch_request(self, **values: Any) -> Any:
            return f"{request.path} {threading.current_thread() is threading.main_thread()}"

    app = Mine(__name__, static_folder=None)
    app.add_url_rule("/page", view_func=Page.as_view("page"))
    assert await (await app.test_client().get("/page")).get_data() == b"/page False"
    assert ran == ["dispatch_request"]


async def test_a_class_may_serve_a_websocket() -> None:
    class Echo(View):
        async def dispatch_request(self, **values: Any) -> None:
            await websocket.send(await websocket.receive())

    app = Samovar(__name__, static_folder=None)
    app.add_websocket("/ws", view_func=Echo.as_view("ws"))
    async with app.test_client().websocket("/ws") as ws:
        await ws.send("tea")
        assert await ws.receive() == "tea"


async def test_one_object_may_serve_all_requests() -> None:
    app = Samovar(__name__, static_folder=None)
    app.add_url_rule("/", view_func=Counter.as_view("counter"))
    client = app.test_client()
    await client.get("/")
    assert await (await client.get("/")).get_data() == b"2"
