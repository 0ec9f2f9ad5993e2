"""``tunelab serve``: start the service, wait until it answers, and say how to call it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import typer

from tunelab.errors import SettingsError

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 60.0
_LOG_LINES = 30

commands = typer.Typer()


@commands.command("serve")
def serve(
    config: Annotated[Path, typer.Option(help="A Ray Serve configuration.")] = Path("serve_config.yaml"),
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default what the file says.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="By default what the file says.")] = None,
    bundle: Annotated[
        str | None, typer.Option(help="A bundle's name or folder; by default what the file says.")
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Show what Ray prints, instead of keeping it in a file.")] = False,
) -> None:
    """Start the service on this machine; Ctrl-C ends it.

    The same as `serve run CONFIG`, but quiet, on a Ray of its own, and with a key for the first user: at the very
    first start an account with credits is made, and its key shown once.
    """
    from tunelab.service.bootstrap import ensure_first_key
    from tunelab.service.database import stop_unused
    from tunelab.settings import load_settings

    settings = load_settings()
    log = settings.data_dir / "serve.log"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        log.touch()
    except OSError as error:
        raise SettingsError(f"TUNELAB_DATA_DIR cannot be written: {settings.data_dir}: {error.strerror}") from None
    with tempfile.TemporaryDirectory(prefix="tunelab-") as scratch:
        path, address = _configured(config, host, port, Path(scratch), bundle)
        _check_free(address)
        # What a container is stopped with, and what a terminal sends that is closed. Before the start: whatever ends
        # this process must end the other one, too.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        process = _start(path, None if verbose else log)
        try:
            if not _wait_until_ready(process, address):
                _explain(None if verbose else log)
                raise typer.Exit(1)
            _greet(address, ensure_first_key(settings), settings.signup_credits, settings.signup_tier, log)
            raise typer.Exit(process.wait())
        except KeyboardInterrupt:
            typer.echo("stopping ...", err=True)
        finally:
            # Impatience must not leave half of the service behind.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            _stop(process)
            stop_unused(settings)  # Ray kills a replica that takes too long to end


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _configured(
    config: Path, host: str | None, port: int | None, scratch: Path, bundle: str | None = None
) -> tuple[Path, tuple[str, int]]:
    """The configuration to run, changed where options say so, and the address that it listens on."""
    import yaml

    from tunelab.encoder.bundle import find_bundle

    if not config.is_file():
        raise SettingsError(f"there is no file {config.name!r} here; name one with --config")
    try:
        content: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SettingsError(f"{config.name} is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{config.name} is no Ray Serve configuration")
    options = content["http_options"] = content.get("http_options") or {}
    address = (host or options.get("host", "127.0.0.1"), port or options.get("port", 8000))
    unchanged = address == (options.get("host"), options.get("port"))
    if bundle is not None:
        unchanged, found = False, find_bundle(bundle)  # a wrong name is told before anything is started
        for application in content.get("applications") or []:
            application["args"] = {**(application.get("args") or {}), "bundle": str(found.path.resolve())}
    if not unchanged:
        options["host"], options["port"] = address
        config = scratch / config.name
        config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return config, address


def _check_free(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise SettingsError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from None


def _start(config: Path, log: Path | None) -> subprocess.Popen[bytes]:
    program = shutil.which("serve", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise SettingsError("Ray Serve is not installed: its command 'serve' is missing")
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.front:middlewares",
        **os.environ,
    }
    command = [program, "run", "--address", "local", str(config)]
    typer.echo("starting ..." if log is None else f"starting ... (Ray's output: {log})", err=True)
    output = None if log is None else log.open("wb")
    try:
        # A session of its own: Ctrl-C in the terminal should reach only this process, which then stops the other.
        return subprocess.Popen(  # noqa: S603
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )
    finally:
        if output is not None:
            output.close()


def _heed_interrupts() -> None:
    # A shell starts its background jobs deaf to SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_until_ready(process: subprocess.Popen[bytes], address: tuple[str, int]) -> bool:
    host = "127.0.0.1" if address[0] in ("0.0.0.0", "::") else address[0]  # noqa: S104  compared, not bound
    deadline = time.monotonic() + _START_TIMEOUT_S
    # Not by a proxy that the environment may name: it would answer for itself.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        try:
            with direct.open(f"http://{host}:{address[1]}/readyz", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _explain(log: Path | None) -> None:
    typer.echo("error: the service did not start", err=True)
    if log is not None:
        lines = log.read_text(errors="replace").splitlines()
        typer.echo("\n".join(lines[-_LOG_LINES:]), err=True)


def _greet(address: tuple[str, int], key: str | None, credits: int, tier: str, log: Path) -> None:
    host = "localhost" if address[0] in ("0.0.0.0", "127.0.0.1", "::") else address[0]  # noqa: S104
    url = f"http://{host}:{address[1]}"
    lines = [f"TuneLab is ready: {url}  (a page to try it; API reference: {url}/docs)", ""]
    if key is not None:
        lines += [
            f"A first account, 'default' ({tier}), was made with {credits} credits. Its key, shown only now:",
            "",
            f"    {key}",
            "",
            "Analyse a file:",
            "",
            f"    export KEY={key}",
        ]
    else:
        lines += ["Analyse a file (another key: tunelab keys create default):", ""]
    lines += [
        '    curl -H "Authorization: Bearer $KEY" -H "Content-Type: audio/mpeg" \\',
        f"         --data-binary @track.mp3 {url}/v1/analyze",
        "",
        "Ctrl-C ends it.",
    ]
    typer.echo("\n".join(lines))


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
