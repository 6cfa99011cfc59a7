"""Publishing from sync views."""

from samovar import Samovar, hub


def make() -> Samovar:
    app = Samovar(__name__)

    @app.post("/sync")
    def sync() -> dict[str, str]:
        return {"position": str(hub.publish_sync("c", "from a thread").position)}

    @app.post("/loop")
    async def in_the_loop() -> str:
        try:
            hub.publish_sync("c", 1)
        except RuntimeError as error:
            return str(error)
        return "published"

    return app


async def test_a_sync_view_publishes_before_anything_else_used_the_hub() -> None:
    app = make()
    async with app.test_app() as running:
        response = await running.test_client().post("/sync")
        assert response.status_code == 200
        page = await app.hub.history("c")
        assert [message.data for message in page.messages] == ["from a thread"]
        assert (await response.get_json())["position"] == str(page.head)


async def test_an_async_view_is_told_to_await() -> None:
    response = await make().test_client().post("/loop")
    assert "await hub.publish" in await response.get_data(as_text=True)
