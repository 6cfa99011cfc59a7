"""SQLAlchemy, asynchronously, with migrations by Alembic: a session for each request, committed by the view."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from samovar import Samovar, request

app = Samovar(__name__)
engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///teas.db"))
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """Everything that is kept."""


class Tea(Base):
    __tablename__ = "teas"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


MIGRATIONS = Path(__file__).parent / "migrations"


def alembic_on(connection: Connection) -> Config:
    """What alembic.ini says elsewhere."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes.update(connection=connection, metadata=Base.metadata)
    return config


@app.cli.command("migrate")
async def migrate() -> None:
    """Bring the schema to the newest revision, once before the workers start; `alembic upgrade head`."""
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: command.upgrade(alembic_on(sync), "head"))


@app.cli.command("revise")
@click.argument("message")
async def revise(message: str) -> None:
    """Write what the models have changed into a revision to be read; `alembic revision --autogenerate`."""
    async with engine.connect() as connection:
        await connection.run_sync(lambda sync: command.revision(alembic_on(sync), message, autogenerate=True))


@app.while_serving
async def close_the_engine() -> AsyncIterator[None]:
    yield
    await engine.dispose()


@app.errorhandler(IntegrityError)
async def conflict(error: IntegrityError) -> tuple[dict[str, str], int]:
    return {"error": "it is there already"}, 409


@app.get("/teas")
async def teas() -> list[str]:
    async with new_session() as session:
        return list(await session.scalars(select(Tea.name).order_by(Tea.name)))


@app.post("/teas")
async def add_tea() -> tuple[dict[str, int], int]:
    given = await request.get_json()
    async with (
        new_session.begin() as session
    ):  # commits, or rolls back when the view raises or its client goes
        session.add(tea := Tea(name=given["name"]))
    return {"id": tea.id}, 201
