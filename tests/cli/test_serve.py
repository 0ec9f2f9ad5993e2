"""``tunelab serve``: everything but the graph itself, which tests/deployments starts."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tunelab.cli import serve
from tunelab.encoder.bundle import find_bundle
from tunelab.errors import BundleNotFound, SettingsError


def test_options_change_a_copy_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "serve_config.yaml"
    config.write_text(yaml.safe_dump({"http_options": {"host": "127.0.0.1", "port": 8000}, "applications": []}))
    before = config.read_text()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert serve._configured(config, None, None, scratch) == (config, ("127.0.0.1", 8000))
    changed, address = serve._configured(config, "127.0.0.2", 8111, scratch)
    assert address == ("127.0.0.2", 8111)
    assert yaml.safe_load(changed.read_text())["http_options"] == {"host": "127.0.0.2", "port": 8111}
    assert config.read_text() == before


def test_another_bundle_is_served_from_wherever_it_is(tmp_path: Path) -> None:
    config = tmp_path / "serve_config.yaml"
    config.write_text(yaml.safe_dump({"applications": [{"name": "a", "args": {"bundle": "x", "engine": "auto"}}]}))
    (tmp_path / "scratch").mkdir()
    changed, address = serve._configured(config, None, None, tmp_path / "scratch", "tunelab-v1")
    assert address == ("127.0.0.1", 8000)
    [application] = yaml.safe_load(changed.read_text())["applications"]
    assert application["args"] == {"bundle": str(find_bundle("tunelab-v1").path.resolve()), "engine": "auto"}
    with pytest.raises(BundleNotFound):
        serve._configured(config, None, None, tmp_path / "scratch", str(tmp_path / "nothing"))


@pytest.mark.parametrize("content", ["- a list", "{unclosed: ", None])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    config = tmp_path / "x.yaml"
    if content is not None:
        config.write_text(content)
    with pytest.raises(SettingsError, match=r"x\.yaml"):
        serve._configured(config, None, None, tmp_path)


def test_a_port_in_use_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="cannot listen on"):
            serve._check_free(taken.getsockname())


def test_a_service_that_dies_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "serve"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint('the reason')\nsys.exit(1)\n")
    program.chmod(0o755)
    monkeypatch.setattr(serve.shutil, "which", lambda *_, **__: str(program))
    process = serve._start(tmp_path / "config.yaml", tmp_path / "log")
    assert not serve._wait_until_ready(process, ("127.0.0.1", 1))
    assert "the reason" in (tmp_path / "log").read_text()


def test_a_proxy_of_the_environment_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Ready) as server, subprocess.Popen(["sleep", "60"]) as process:
        threading.Thread(target=server.handle_request, daemon=True).start()
        try:
            assert serve._wait_until_ready(process, ("127.0.0.1", server.server_port))
        finally:
            process.kill()


def test_a_data_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNELAB_DATA_DIR", str(tmp_path / "file" / "data"))
    with pytest.raises(SettingsError, match="TUNELAB_DATA_DIR cannot be written"):
        serve.serve()


def test_the_key_is_shown_with_the_call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    serve._greet(("127.0.0.1", 8111), "tl_live_abc", 1000, "free", tmp_path)
    shown = capsys.readouterr().out
    assert "tl_live_abc" in shown
    assert "1000 credits" in shown
    assert "http://localhost:8111/v1/analyze" in shown
    serve._greet(("127.0.0.1", 8111), None, 1000, "free", tmp_path)
    assert "tl_live" not in capsys.readouterr().out
