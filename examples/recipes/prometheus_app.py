"""prometheus-client: requests are counted by hooks, and what the hub counts is read when Prometheus asks."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from samovar import Response, Samovar, event_stream, request

app = Samovar(__name__)
app.add_channel("prices", public=True)
registry = CollectorRegistry()
requests = Counter(
    "app_requests", "Answers, by endpoint and status.", ["endpoint", "status"], registry=registry
)

SIZES = {"channels", "subscriptions", "queued", "in_flight"}  # all other numbers of hub.stats() only grow


class HubCollector(Collector):
    """The counters of this worker's hub, each under its own name."""

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for name, value in app.hub.stats().items():
            text = f"See {name} in the reference of counters."
            if name in SIZES:
                yield GaugeMetricFamily(f"samovar_{name}", text, value)
            elif isinstance(value, dict):  # by reason, or by policy
                family = CounterMetricFamily(f"samovar_{name}", text, labels=["kind"])
                for kind, count in value.items():
                    family.add_metric([kind], count)
                yield family
            elif isinstance(value, int):
                yield CounterMetricFamily(f"samovar_{name}", text, value)
            else:
                yield GaugeMetricFamily("samovar_backend_up", "1 while the backend is up.", value == "up")


registry.register(HubCollector())


@app.after_request
async def count(response: Response) -> Response:
    requests.labels(request.endpoint or "none", response.status_code).inc()
    return response


@app.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


@app.post("/prices/<int:price>")
async def new_price(price: int) -> tuple[str, int]:
    await app.hub.publish("prices", price)
    return "", 204


@app.get("/prices")
async def prices() -> Response:
    return await event_stream("prices")
