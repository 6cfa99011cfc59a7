"""The code in README and quickstart runs: what a newcomer copies first must work."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .services import ROOT

PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: str) -> list[str]:
    """The Python blocks of a Markdown file, in order."""
    return PYTHON_BLOCK.findall((ROOT / path).read_text())


def run(path: str) -> dict[str, Any]:
    """The names that a file's Python blocks define, run one after the other as one module."""
    namespace: dict[str, Any] = {"__name__": "snippets", "__file__": str(ROOT / path)}
    for number, block in enumerate(blocks(path), 1):
        exec(compile(block, f"{path}, block {number}", "exec"), namespace)
    return namespace


async def test_the_app_of_the_readme_serves_its_channel() -> None:
    client = run("README.md")["app"].test_client()
    async with client.sse("/prices/events") as stream:
        assert (await stream.receive()).event == "subscribed"
        assert (await client.post("/prices", json={"tea": 3.2})).status_code == 204
        assert (await stream.receive()).json()["data"] == {"tea": 3.2}


async def test_the_test_of_the_quickstart_passes() -> None:
    await run("docs/tutorial/quickstart.md")["test_a_price_arrives"]()


async def test_the_other_doors_of_the_quickstart_carry_the_same_message() -> None:
    client = run("docs/tutorial/quickstart.md")["app"].test_client()
    before = (await (await client.get("/prices/poll")).get_json())["cursor"]
    async with client.websocket("/prices/socket") as socket:
        assert (await socket.receive_json())["subscribed"] is True
        await socket.send("tea")
        first = await socket.receive_json()
    polled = await (await client.get(f"/prices/poll?since={before}")).get_json()
    assert polled["messages"] == [first]
    assert first["data"] == "tea"


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md"])
def test_links_to_files_lead_somewhere(path: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / path).read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_path_in_the_readmes_tree_exists() -> None:
    tree = next(block for block in (ROOT / "README.md").read_text().split("```") if "├──" in block)
    missing, folders = [], [ROOT]
    for line in tree.strip().splitlines():
        indent, name = re.match(r"^([│├└─ ]*)(\S+)", line).groups()  # type: ignore[union-attr]  # every line matches
        depth = len(indent) // 4
        path = (folders[: depth + 1][-1] if depth < len(folders) else folders[-1]) / name.rstrip(",/")
        folders[depth + 1 :] = [path]
        if not path.exists():
            missing.append(path)
    assert missing == []
