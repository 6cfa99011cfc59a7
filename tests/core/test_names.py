"""What people import from Quart's modules is in the modules of the same name, and takes the same arguments."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from werkzeug.datastructures import Headers

import samovar
from samovar import Blueprint, Samovar
from samovar.core.utils import (
    cancel_tasks,
    decode_headers,
    encode_headers,
    file_path_to_path,
    run_sync_iterable,
)
from samovar.tasks import Scope

TOP = """
    Blueprint Config Markup Request Response ResponseReturnValue Websocket abort after_this_request appcontext_popped
    appcontext_pushed appcontext_tearing_down before_render_template copy_current_app_context
    copy_current_request_context copy_current_websocket_context current_app escape flash g get_flashed_messages
    get_template_attribute got_request_exception got_websocket_exception has_app_context has_request_context
    has_websocket_context jsonify make_push_promise make_response message_flashed redirect render_template
    render_template_string request request_finished request_started request_tearing_down send_file
    send_from_directory session signals_available stream_template stream_template_string stream_with_context
    template_rendered url_for websocket websocket_finished websocket_started websocket_tearing_down
"""

MODULES = {
    "app": "Samovar",
    "asgi": "ASGIHTTPConnection ASGILifespan ASGIWebsocketConnection",
    "blueprints": "Blueprint BlueprintSetupState",
    "cli": "AppGroup NoAppException SamovarGroup ScriptInfo cli load_dotenv main pass_script_info routes_command"
    " run_command shell_command version_option with_appcontext",
    "config": "Config ConfigAttribute",
    "ctx": "AppContext RequestContext WebsocketContext _AppCtxGlobals after_this_request after_this_websocket"
    " copy_current_app_context copy_current_request_context copy_current_websocket_context has_app_context"
    " has_request_context has_websocket_context",
    "datastructures": "FileStorage",
    "debug": "traceback_response",
    "formparser": "FormDataParser",
    "globals": "app_ctx current_app g request request_ctx session websocket websocket_ctx",
    "helpers": "abort find_package flash get_debug_flag get_flashed_messages get_load_dotenv get_root_path"
    " get_template_attribute make_push_promise make_response redirect send_file send_from_directory"
    " stream_with_context url_for",
    "json": "dump dumps jsonify load loads",
    "json.provider": "DefaultJSONProvider JSONProvider",
    "json.tag": "TaggedJSONSerializer",
    "logging": "LocalQueueHandler create_logger default_handler has_level_handler",
    "routing": "SamovarMap SamovarRule",
    "sessions": "NullSession SecureCookieSession SecureCookieSessionInterface SessionInterface SessionMixin",
    "signals": "appcontext_popped appcontext_pushed appcontext_tearing_down before_render_template"
    " got_background_exception got_request_exception got_serving_exception got_websocket_exception message_flashed"
    " request_finished request_started request_tearing_down signals_available template_rendered websocket_finished"
    " websocket_received websocket_sent websocket_started websocket_tearing_down",
    "templating": "Environment render_template render_template_string stream_template stream_template_string",
    "testing": "SamovarCliRunner SamovarClient TestApp make_test_body_with_headers"
    " make_test_headers_path_and_query_string make_test_scope no_op_push sentinel",
    "testing.app": "LifespanError TestApp",
    "testing.client": "TestClient",
    "typing": "ASGIHTTPProtocol ASGILifespanProtocol ASGIReceiveCallable ASGISendCallable ASGIWebsocketProtocol"
    " AfterRequestCallable AfterServingCallable AfterWebsocketCallable AppOrBlueprintKey BeforeRequestCallable"
    " BeforeServingCallable BeforeWebsocketCallable ErrorHandlerCallable Event FilePath HTTPScope HeaderName"
    " HeaderValue HeadersValue LifespanScope ResponseReturnValue ResponseTypes ResponseValue RouteCallable"
    " ShellContextProcessorCallable StatusCode TeardownCallable TemplateContextProcessorCallable"
    " TemplateFilterCallable TemplateGlobalCallable TemplateTestCallable TestAppProtocol TestClientProtocol"
    " TestHTTPConnectionProtocol TestWebsocketConnectionProtocol URLDefaultCallable URLValuePreprocessorCallable"
    " WebsocketCallable WebsocketScope WhileServingCallable",
    "utils": "cancel_tasks decode_headers encode_headers file_path_to_path is_coroutine_function"
    " raise_task_exceptions run_sync run_sync_iterable",
    "views": "MethodView View",
    "wrappers": "BaseRequestWebsocket Body Request Response Websocket",
}

# Methods whose arguments people give by name or count on by place, as Quart has them.
SIGNATURES = {
    Samovar: """
        __init__(self, import_name, static_url_path, static_folder, static_host, host_matching, subdomain_matching,
            template_folder, instance_path, instance_relative_config, root_path)
        add_template_filter(self, f, name)
        add_url_rule(self, rule, endpoint, view_func, provide_automatic_options, options)
        add_websocket(self, rule, endpoint, view_func, options)
        create_url_adapter(self, request)
        do_teardown_appcontext(self, exc)
        do_teardown_request(self, exc, request_context)
        do_teardown_websocket(self, exc, websocket_context)
        dispatch_request(self, request_context)
        dispatch_websocket(self, websocket_context)
        finalize_request(self, result, request_context, from_error_handler)
        finalize_websocket(self, result, websocket_context, from_error_handler)
        full_dispatch_request(self, request_context)
        full_dispatch_websocket(self, websocket_context)
        handle_url_build_error(self, error, endpoint, values)
        log_exception(self, exception_info)
        make_config(self, instance_relative)
        postprocess_websocket(self, response, websocket_context)
        preprocess_request(self, request_context)
        preprocess_websocket(self, websocket_context)
        process_response(self, response, request_context)
        register_error_handler(self, code_or_exception, f)
        run(self, host, port, debug, use_reloader, loop, ca_certs, certfile, keyfile, kwargs)
        run_task(self, host, port, debug, ca_certs, certfile, keyfile, shutdown_trigger, kwargs)
        teardown_appcontext(self, f)
        test_client(self, use_cookies, kwargs)
        trap_http_exception(self, e)
        url_for(self, endpoint, _anchor, _external, _method, _scheme, values)
    """,
    Blueprint: """
        __init__(self, name, import_name, static_folder, static_url_path, template_folder, url_prefix, subdomain,
            url_defaults, root_path, cli_group)
        add_app_template_filter(self, f, name)
        app_errorhandler(self, code)
        before_app_request(self, f)
        make_setup_state(self, app, options, first_registration)
        register(self, app, options)
        register_blueprint(self, blueprint, options)
    """,
}


def test_all_that_quart_exports_is_exported() -> None:
    assert set(TOP.split()) - set(samovar.__all__) == set()


def test_json_is_there_as_in_flask() -> None:
    assert samovar.json.loads(samovar.json.dumps({"tea": [1]})) == {"tea": [1]}
    assert "json" not in samovar.__all__


@pytest.mark.parametrize("module", MODULES)
def test_a_module_of_the_same_name_has_what_people_import(module: str) -> None:
    found = importlib.import_module(f"samovar.core.{module}")
    assert [name for name in MODULES[module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("owner", SIGNATURES)
def test_arguments_have_their_names_and_places(owner: type) -> None:
    for line in " ".join(SIGNATURES[owner].split()).split(") "):
        name, _, arguments = line.rstrip(")").partition("(")
        assert (
            f"{name}({', '.join(inspect.signature(getattr(owner, name)).parameters)})"
            == f"{name}({arguments})"
        )


def test_the_app_has_quart_s_replaceable_parts() -> None:
    parts = (
        "aborter_class app_ctx_globals_class asgi_http_class asgi_lifespan_class asgi_websocket_class config_class "
        "event_class jinja_environment json_provider_class lock_class request_class response_class session_interface "
        "test_app_class test_client_class test_cli_runner_class url_map_class url_rule_class websocket_class"
    )
    assert [name for name in parts.split() if not hasattr(Samovar, name)] == []


def test_headers_as_asgi_has_them_and_back() -> None:
    pairs = encode_headers(Headers([("X-Tea", "assam"), ("X-Tea", "ünnan")]))
    assert pairs == [(b"x-tea", b"assam"), (b"x-tea", "ünnan".encode("latin-1"))]
    assert decode_headers(pairs).getlist("x-tea") == ["assam", "ünnan"]


def test_paths_are_joined_whatever_they_are() -> None:
    assert file_path_to_path("a", b"b", Path("c")) == Path("a/b/c")


async def test_cancelled_tasks_are_waited_for_and_their_errors_raised() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("no")

    async with Scope("test", on_error=lambda task, error: None) as scope:
        quiet, loud = scope.start(asyncio.Event().wait()), scope.start(stubborn())
        await asyncio.sleep(0)
        await cancel_tasks([quiet])
        with pytest.raises(ValueError, match="no"):
            await cancel_tasks({quiet, loud})
        await cancel_tasks([])
    assert quiet.cancelled()


async def test_a_blocking_iterable_is_iterated_in_threads() -> None:
    assert [item async for item in run_sync_iterable(iter("ab"))] == ["a", "b"]


async def test_a_promise_to_push_is_heard_in_a_test() -> None:
    promised: list[Any] = []

    async def push(path: str, headers: Headers) -> None:
        promised.append((path, headers.get("accept-language")))

    app = Samovar(__name__, static_folder=None)
    headers = {"accept-language": "ru"}
    async with app.test_request_context("/", headers=headers, send_push_promise=push):
        await samovar.make_push_promise("/tea.css")
    assert promised == [("/tea.css", "ru")]
