"""Views as classes: one object for each request, or one for all; one method for each HTTP method."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar

from .globals import current_app, request

HTTP_METHODS = frozenset({"get", "post", "head", "options", "delete", "put", "trace", "patch"})


class View:
    """A view as a class: ``app.add_url_rule("/users", view_func=Users.as_view("users"))``."""

    methods: ClassVar[Collection[str] | None] = None
    """The methods it answers; GET unless said otherwise."""
    provide_automatic_options: ClassVar[bool | None] = None
    """OPTIONS is answered without asking it; None: as the app does."""
    decorators: ClassVar[list[Callable[[Callable[..., Any]], Callable[..., Any]]]] = []
    """Applied to the view function, the first one first."""
    init_every_request: ClassVar[bool] = True
    """Make an object for each request; False: one for all, which must keep nothing of a request."""

    async def dispatch_request(self, **values: Any) -> Any:
        """Answer a request; *values* are the rule's variables."""
        raise NotImplementedError

    @classmethod
    def as_view(cls, name: str, *class_args: Any, **class_kwargs: Any) -> Callable[..., Any]:
        """The view function, called *name*; the other arguments go to the constructor."""
        shared = None if cls.init_every_request else cls(*class_args, **class_kwargs)

        async def view(**values: Any) -> Any:
            answering = cls(*class_args, **class_kwargs) if shared is None else shared
            return await current_app.ensure_async(answering.dispatch_request)(**values)

        view.__name__ = name
        view.__doc__ = cls.__doc__
        view.__module__ = cls.__module__
        decorated: Callable[..., Any] = view
        for decorator in cls.decorators:
            decorated = decorator(decorated)
        for attribute, value in (
            ("__name__", name),
            ("view_class", cls),
            ("methods", cls.methods),
            ("provide_automatic_options", cls.provide_automatic_options),
        ):
            setattr(decorated, attribute, value)
        return decorated


class MethodView(View):
    """A view with a method for each HTTP method it answers: ``async def get(self, id)``."""

    methods: ClassVar[Collection[str] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "methods" not in cls.__dict__:
            methods = {name.upper() for name in HTTP_METHODS if hasattr(cls, name)}
            for base in cls.__bases__:
                methods.update(getattr(base, "methods", None) or ())
            cls.methods = methods or None

    async def dispatch_request(self, **values: Any) -> Any:
        """Call the method of the request's name; ``get`` answers HEAD where there is no ``head``."""
        name = request.method.lower()
        method = getattr(self, name, None)
        if method is None and name == "head":
            method = getattr(self, "get", None)
        if method is None:
            raise LookupError(f"{type(self).__name__} has no method {name!r}")
        return await current_app.ensure_async(method)(**values)
