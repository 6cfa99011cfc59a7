"""Templates: Jinja, rendered asynchronously, with the app's and the blueprints' folders."""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import BaseLoader, FileSystemLoader, Template, TemplateNotFound
from jinja2 import Environment as BaseEnvironment
from jinja2.runtime import Context, new_context

from .ctx import required_context
from .signals import before_render_template, send, template_rendered

if TYPE_CHECKING:
    from .app import Samovar

logger: logging.Logger = logging.getLogger("samovar.templating")


@lru_cache(maxsize=64)
def folder_loader(folder: str) -> FileSystemLoader:
    """The loader of one folder."""
    return FileSystemLoader(folder)


class QuickTemplate(Template):
    """A template whose context is made from plain dictionaries.

    Jinja keeps a template's own names in front of the environment's in a ``ChainMap`` and copies that for every
    rendering, key by key; with an app's names among them, that costs as much as a small page.
    """

    def new_context(
        self,
        vars: dict[str, Any] | None = None,
        shared: bool = False,
        locals: Mapping[str, Any] | None = None,
    ) -> Context:
        """What one rendering sees; see :meth:`jinja2.Template.new_context`."""
        names = self.globals
        if isinstance(names, ChainMap):
            flat: dict[str, Any] = {}
            for layer in reversed(names.maps):
                flat.update(layer)
            names = flat
        return new_context(self.environment, self.name, self.blocks, vars, shared, names, locals)


class Environment(BaseEnvironment):
    """A Jinja environment that renders asynchronously and looks into the blueprints' folders too.

    Args:
        app: whose templates they are.
        options: as ``jinja2.Environment`` takes them.
    """

    template_class: type[Template] = QuickTemplate

    def __init__(self, app: Samovar, **options: Any) -> None:
        options.setdefault("loader", app.create_global_jinja_loader())
        options["enable_async"] = True
        super().__init__(**options)
        self.app = app


class DispatchingLoader(BaseLoader):
    """Looks for a template in the app's folder, then in each blueprint's.

    Args:
        app: the app.
    """

    def __init__(self, app: Samovar) -> None:
        self.app = app

    def get_source(self, environment: BaseEnvironment, template: str) -> Any:
        """The first source found.

        Raises:
            TemplateNotFound: it is in none of the folders.
        """
        explain = self.app.config["EXPLAIN_TEMPLATE_LOADING"]
        for owner, loader in self._loaders():
            try:
                found = loader.get_source(environment, template)
            except TemplateNotFound:
                if explain:
                    logger.info("template %r is not in %s", template, owner)
                continue
            if explain:
                logger.info("template %r is in %s", template, owner)
            return found
        raise TemplateNotFound(template)

    def _loaders(self) -> Iterator[tuple[str, BaseLoader]]:
        for owner in (self.app, *self.app.iter_blueprints()):
            loader = owner.jinja_loader
            if loader is not None:
                yield owner.name, loader

    def list_templates(self) -> list[str]:
        """The names of all templates."""
        return sorted({name for _, loader in self._loaders() for name in loader.list_templates()})


DispatchingJinjaLoader = DispatchingLoader  # its name in Flask


async def render_template(template_name_or_list: str | list[str | Template], **context: Any) -> str:
    """Render a template of a folder.

    Args:
        template_name_or_list: its name; of several, the first that exists.
        context: what is there in the template, beside what the context processors add.

    Raises:
        jinja2.TemplateNotFound: there is none.
    """
    app = required_context("render_template").app
    return await _render(app, app.jinja_env.get_or_select_template(template_name_or_list), context)


async def render_template_string(source: str, **context: Any) -> str:
    """Render a template given as text; autoescaped."""
    app = required_context("render_template_string").app
    return await _render(app, app.jinja_env.from_string(source), context)


async def stream_template(
    template_name_or_list: str | list[str | Template], **context: Any
) -> AsyncIterator[str]:
    """Render a template piece by piece: return it from a view, and the client sees the first piece at once."""
    app = required_context("stream_template").app
    return await _stream(app, app.jinja_env.get_or_select_template(template_name_or_list), context)


async def stream_template_string(source: str, **context: Any) -> AsyncIterator[str]:
    """Render a template given as text piece by piece."""
    app = required_context("stream_template_string").app
    return await _stream(app, app.jinja_env.from_string(source), context)


async def _render(app: Samovar, template: Template, context: dict[str, Any]) -> str:
    await _prepare(app, template, context)
    text = await template.render_async(context)
    if template_rendered.receivers:
        await send(template_rendered, app, template=template, context=context)
    return text


async def _stream(app: Samovar, template: Template, context: dict[str, Any]) -> AsyncIterator[str]:
    await _prepare(app, template, context)

    async def pieces() -> AsyncIterator[str]:
        async for piece in template.generate_async(context):
            yield piece
        if template_rendered.receivers:
            await send(template_rendered, app, template=template, context=context)

    return pieces()


async def _prepare(app: Samovar, template: Template, context: dict[str, Any]) -> None:
    await app.update_template_context(context)
    if before_render_template.receivers:
        await send(before_render_template, app, template=template, context=context)


async def get_template_attribute(template_name: str, attribute: str) -> Any:
    """A macro or variable of a template, to use in code; a macro is awaited.

    Departure from Flask: it is a coroutine, because templates that render asynchronously have their module so.
    """
    template = required_context("get_template_attribute").app.jinja_env.get_template(template_name)
    return getattr(await template.make_module_async(), attribute)
