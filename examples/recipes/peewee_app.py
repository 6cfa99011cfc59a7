"""Peewee blocks, so its views are plain functions: they run in threads, where blocking does no harm.

Two calls of one request may run in two threads, and Peewee's connections belong to threads: each view opens its own.
"""

import os

from peewee import CharField, Model, SqliteDatabase

from samovar import Samovar, hub, request

app = Samovar(__name__)
app.add_channel("teas", public=True)
database = SqliteDatabase(os.environ.get("DATABASE", "teas.db"), timeout=5)


class Tea(Model):
    name = CharField(unique=True)

    class Meta:
        database = database


@app.before_serving
def create_tables() -> None:
    with database.connection_context():
        database.create_tables([Tea])


@app.get("/teas")
def teas() -> list[str]:
    with database.connection_context():
        return [tea.name for tea in Tea.select().order_by(Tea.name)]


@app.post("/teas/<name>")
def add_tea(name: str) -> tuple[dict[str, str], int]:
    with database.connection_context(), database.atomic():
        tea = Tea.create(name=name)
    hub.publish_sync("teas", {"name": name, "by": request.remote_addr})  # from a thread: the one that waits
    return {"name": tea.name}, 201
