"""WSGI apps below paths of their own: Flask under /flask, Django under /django, by a2wsgi's threads."""

import django
import flask
from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse

from samovar import Samovar
from samovar.core.asgi import Mounts

blog = flask.Flask("blog")


@blog.route("/posts/<int:number>", methods=["GET", "POST"])
def post(number: int) -> dict[str, str]:
    return {"url": flask.url_for("post", number=number), "body": flask.request.get_data(as_text=True)}


def shelf(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{reverse('shelf')} {request.method}")


urlpatterns = [path("shelf/", shelf, name="shelf")]
settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["localhost", "127.0.0.1"], SECRET_KEY="for development only"
)
django.setup()

app = Samovar(__name__)


@app.get("/")
async def index() -> str:
    return "samovar"


app.asgi_app = Mounts(  # type: ignore[method-assign]  # Flask's way to wrap an app
    app.asgi_app,
    {
        "/flask": WSGIMiddleware(blog.wsgi_app, workers=10),  # type: ignore[arg-type]  # a closer type than Flask's
        "/django": WSGIMiddleware(WSGIHandler(), workers=10),
    },
)
