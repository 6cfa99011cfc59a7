"""What every server has to carry: a plain request, a websocket, an event stream; for the commands of the recipes."""

from samovar import Response, Samovar, event_stream, hub, request, websocket

app = Samovar(__name__)
app.config["BROADCAST_URL"] = "memory://served"  # each server its own: a name says that this is meant
app.add_channel("prices", public=True)


@app.get("/")
async def index() -> dict[str, str]:
    return {"version": request.http_version}


@app.post("/prices/<int:price>")
async def new_price(price: int) -> tuple[str, int]:
    await hub.publish("prices", price)
    return "", 204


@app.get("/prices")
async def prices() -> Response:
    return await event_stream("prices")


@app.websocket("/echo")
async def echo() -> None:
    async for message in websocket:
        await websocket.send(message)
