"""The front door. Each command imports what it needs when it is called, so that the web process stays
small."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from flowgrpo.runs.dispatcher import Dispatcher
    from storage.engine import Database

STARTER = Path(__file__).parent / "flowgrpo" / "starter" / "weights" / "pipeline"

cli = typer.Typer(
    add_completion=False, no_args_is_help=False, help="FlowGRPO Studio: tune text-to-image models to a taste."
)
Home = Annotated[Path, typer.Option(envvar="FLOWGRPO_HOME", help="The data folder.")]
_HOME = Path("data")


def _fail(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(2)


def _open(home: Path, base: Path | None = None) -> Database:
    """Opens the data folder and notes the starter (and `base`, a diffusers folder) in it."""
    from storage.engine import open_database
    from storage.errors import NotSavedError, SchemaError

    try:
        db = open_database(home.resolve())
    except (SchemaError, NotSavedError, OSError) as error:
        raise _fail(f"The data folder {home} cannot be used: {error}") from error
    if STARTER.is_dir():
        _register(db, "starter", STARTER)
    if base is not None:
        _check_name(db, base)
        _register(db, base.name, base)
    return db


def _check_name(db: Database, folder: Path) -> None:
    """A folder that moved keeps its checkpoints; another folder of the same name must not inherit them."""
    from storage.checkpoints import base_of, list_checkpoints

    bases = [base_of(db, one) for one in list_checkpoints(db) if one.path is None]
    source = next((base.source for base in bases if base.name == folder.name), None)
    if source is not None and Path(source).is_dir() and Path(source).resolve() != folder.resolve():
        raise _fail(
            f"A base named {folder.name} is known already, from {source}: rename the folder {folder}, "
            "so that the checkpoints of the two are not mixed up."
        )


def _dispatch(db: Database, **options: Any) -> Dispatcher:
    from flowgrpo.runs.dispatcher import Dispatcher

    try:
        return Dispatcher(db, **options).start()
    except OSError as error:
        raise _fail(f"The data folder {db.home} cannot be used: {error}") from error


def _register(db: Database, name: str, folder: Path) -> None:
    from storage.checkpoints import register_base

    index = folder / "model_index.json"
    if not index.is_file():
        raise _fail(f"{folder} is not a diffusers folder: it has no model_index.json.")
    family = str(json.loads(index.read_text()).get("_class_name", "unknown"))
    register_base(db, name=name, source=str(folder.resolve()), family=family)


@cli.callback(invoke_without_command=True)
def front(context: typer.Context) -> None:
    """Serves the studio when no command is given."""
    if context.invoked_subcommand is None:
        context.invoke(
            serve, home=Path(os.environ.get("FLOWGRPO_HOME", str(_HOME))), host=None, port=None, base=None
        )


@cli.command()
def serve(
    home: Home = _HOME,
    host: Annotated[str | None, typer.Option(help="Loopback address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    base: Annotated[Path | None, typer.Option(help="Another base: a diffusers folder.")] = None,
) -> None:
    """Starts the studio in the browser, with the engine that generates and trains behind it."""
    import uvicorn

    from ui.security import check_host
    from ui.server import create_app

    address = host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    number = port or int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    try:
        check_host(address)
    except ValueError as error:
        raise _fail(str(error)) from error
    _check_port(address, number)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    db = _open(home, base)
    app = create_app(db, host=address)
    dispatcher = _dispatch(db)
    shown = f"[{address}]" if ":" in address else address
    typer.echo(f"FlowGRPO Studio: http://{shown}:{number}  (data in {home}; Ctrl+C ends it, runs go on)")
    try:
        uvicorn.run(app, host=address, port=number, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        dispatcher.stop()
        db.close()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _fail(
                f"Port {port} is taken: end the other program, or set GRADIO_SERVER_PORT to another one."
            ) from error


@cli.command()
def worker(home: Home = _HOME, device: str = "auto") -> None:
    """Runs one engine worker in the foreground (`serve` starts its own)."""
    from flowgrpo.runs.worker import main

    _open(home).close()
    raise typer.Exit(main(["--home", str(home.resolve()), "--device", device]))


@cli.command()
def run(
    config: Annotated[Path, typer.Argument(help="A RunConfig as JSON.")],
    checkpoint: Annotated[str, typer.Option(help="Name of the checkpoint to start from.")] = "starter",
    name: str = "from the command line",
    home: Home = _HOME,
) -> None:
    """Starts a FlowGRPO run without a browser, and waits until it has ended or paused."""
    from pydantic import ValidationError

    from flowgrpo.config import RunConfig
    from storage import checkpoints, runs

    try:
        checked = RunConfig.model_validate_json(config.read_text())
    except (OSError, ValidationError) as error:
        raise _fail(f"{config} is not a run: {error}") from error
    db = _open(home)
    parent = next((one for one in checkpoints.list_checkpoints(db) if one.name == checkpoint), None)
    if parent is None:
        raise _fail(f"There is no checkpoint named {checkpoint}.")
    made = runs.create_run(
        db,
        name=name,
        owner_id="local",
        parent_checkpoint_id=parent.id,
        config=checked.model_dump(mode="json"),
    )
    dispatcher = _dispatch(db, devices=())
    try:
        state = _watch(db, made.id)
    except KeyboardInterrupt:
        runs.request_stop(db, made.id)
        state = _watch(db, made.id)
    finally:
        dispatcher.stop()
        db.close()
    raise typer.Exit(0 if state == "completed" else 1)


def _watch(db: Database, run_id: str) -> str:
    """Prints each new line of progress until the run has ended or paused; returns its last state."""
    from flowgrpo.runs.local import follow_run
    from storage import runs

    number = runs.get_run(db, run_id).number
    for now in follow_run(db, run_id):
        typer.echo(f"run {number}: {now.state}, update {now.update} of {now.num_updates}, {now.phase}")
    if now.reason:
        typer.echo(now.reason)
    return now.state


@cli.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where report and picture go.")] = Path("demo"),
    home: Annotated[Path | None, typer.Option(help="Keep the data folder here.")] = None,
    updates: Annotated[int | None, typer.Option(help="Updates of the run.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the run's noise.", min=0, max=2**32 - 1)] = 0,
) -> None:
    """Tunes the starter without a browser, through the same rows and processes, and measures before and
    after."""
    from flowgrpo.runs.demo import main as show

    given = ["--out", str(out), "--seed", str(seed)]
    given += ["--home", str(home)] if home else []
    given += ["--updates", str(updates)] if updates else []
    raise typer.Exit(show(given))


@cli.command()
def doctor(home: Home = _HOME) -> None:
    """Says what this machine and this data folder have; ends with 1 when the studio could not work."""
    from importlib.util import find_spec

    wanted = ("torch", "diffusers", "transformers", "peft", "open_clip")
    missing = [name for name in wanted if find_spec(name) is None]
    db = _open(home)
    lines = [
        (True, f"Python {sys.version.split()[0]}"),
        (True, f"data in {home.resolve()}, {shutil.disk_usage(home).free / 1e9:.1f} GB free"),
        (True, f"SQLite {db.driver.version} by {db.driver.name}, journal {db.driver.journal_mode}"),
        (
            STARTER.is_dir(),
            "the starter's weights"
            + ("" if STARTER.is_dir() else " are missing: build them with python -m flowgrpo.starter.build"),
        ),
        (not missing, "the engine's libraries" + (f" are missing: {', '.join(missing)}" if missing else "")),
    ]
    db.close()
    for fine, text in lines:
        typer.echo(f"{'ok ' if fine else 'BAD'}  {text}")
    raise typer.Exit(0 if all(fine for fine, _ in lines) else 1)


def main() -> None:
    """Entry point of the installed command."""
    cli()


if __name__ == "__main__":
    main()
