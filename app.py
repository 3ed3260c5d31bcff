"""The front door. Each command imports what it needs when it is called, so that the web process stays
small."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from storage.engine import Database

STARTER = Path(__file__).parent / "flowgrpo" / "starter" / "weights" / "pipeline"

cli = typer.Typer(add_completion=False, no_args_is_help=False, help="Tune text-to-image models to a taste.")
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


@contextmanager
def _opened(home: Path) -> Iterator[Database]:
    db = _open(home)
    try:
        yield db
    except (LookupError, ValueError, OSError) as error:
        raise _fail(str(error)) from error
    finally:
        db.close()


def _check_name(db: Database, folder: Path) -> None:
    from storage.checkpoints import other_base

    if other := other_base(db, folder.name, str(folder.resolve())):
        raise _fail(
            f"A base named {folder.name} is known already, from {other}: rename the folder {folder}, "
            "so that the checkpoints of the two are not mixed up."
        )


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
        home = Path(os.environ.get("FLOWGRPO_HOME", str(_HOME)))
        context.invoke(serve, home=home, host=None, port=None, base=None)


@cli.command()
def serve(
    home: Home = _HOME,
    host: Annotated[str | None, typer.Option(help="Loopback address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    base: Annotated[Path | None, typer.Option(help="Another base: a diffusers folder.")] = None,
) -> None:
    """Starts the studio in the browser, with the engine that generates and trains behind it."""
    import uvicorn

    from flowgrpo.runs.dispatcher import Dispatcher
    from ui.security import check_host, check_port
    from ui.server import create_app

    address = host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    number = port or int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    try:
        check_host(address)
        check_port(address, number)
    except ValueError as error:
        raise _fail(str(error)) from error
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    db = _open(home, base)
    app = create_app(db, host=address)
    try:
        dispatcher = Dispatcher(db).start()
    except OSError as error:
        raise _fail(f"The data folder {db.home} cannot be used: {error}") from error
    shown = f"[{address}]" if ":" in address else address
    typer.echo(f"FlowGRPO Studio: http://{shown}:{number}  (data in {home}; Ctrl+C ends it, runs go on)")
    try:
        uvicorn.run(app, host=address, port=number, log_level="warning", timeout_graceful_shutdown=2)
    finally:
        dispatcher.stop()
        db.close()


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it takes, and start nothing.")] = False,
    device: Annotated[str, typer.Option(help="Of the dry run: auto, cpu or cuda.")] = "auto",
    rate: Annotated[float, typer.Option(help="Of the dry run: money per hour.", min=0)] = 0,
    teraflops: Annotated[float, typer.Option(help="Of the dry run: what an absent GPU sustains.", min=0)] = 0,
    probe: Annotated[bool, typer.Option(help="Of the dry run: measure one micro-batch.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The dry run for programs.")] = False,
) -> None:
    """Starts a FlowGRPO run without a browser, and waits until it has ended or paused."""
    from flowgrpo.runs.commands import run_to_its_end

    with _opened(home) as db:
        if dry_run:
            from flowgrpo.runs.plan import Wishes, told

            wishes = Wishes(device, teraflops, rate, probe)
            words, fits = told(db, config, checkpoint, wishes, as_json=as_json)
            typer.echo(words)
            raise typer.Exit(0 if fits else 1)
        state = run_to_its_end(db, config, checkpoint, name, typer.echo)
    raise typer.Exit(0 if state == "completed" else 1)


@cli.command()
def base(
    source: Annotated[str, typer.Argument(help="A diffusers folder, a .safetensors file or owner/name@rev.")],
    name: Annotated[str | None, typer.Option(help="How lists call it.")] = None,
    prediction: Annotated[str | None, typer.Option(help="Of a silent file: epsilon or v_prediction.")] = None,
    config: Annotated[str | None, typer.Option(help="Folder or hub id that has what a file lacks.")] = None,
    home: Home = _HOME,
) -> None:
    """Adds a base model to the data folder; the pages then offer it."""
    from flowgrpo.runs.bases import add_base

    with _opened(home) as db:
        made = add_base(db, source, name=name, prediction=prediction, config=config)
    typer.echo(f"{made.name} is there: choose it in Studio or Train.")


@cli.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="Its name or id.")],
    file: Annotated[Path, typer.Argument(help="Where to; ends in .safetensors.")],
    layout: Annotated[str, typer.Option(help="diffusers, or kohya for A1111 and ComfyUI.")] = "diffusers",
    home: Home = _HOME,
) -> None:
    """Writes a checkpoint's adapter as one file for other programs."""
    from flowgrpo.runs.export import checked_layout, export_checkpoint

    with _opened(home) as db:
        typer.echo(str(export_checkpoint(db, checkpoint, file, checked_layout(layout))))


@cli.command()
def accept(
    reward: Annotated[str, typer.Argument(help="Its name, such as pickscore.")],
    yes: Annotated[bool, typer.Option("--yes", help="Accept without being asked.")] = False,
    home: Home = _HOME,
) -> None:
    """Shows what has to be known of a reward's licence, and notes that you accept it."""
    from flowgrpo.runs.reward_options import accept_reward

    with _opened(home) as db:
        is_accepted = accept_reward(db, reward, typer.echo, lambda: yes or typer.confirm("Accept this?"))
    raise typer.Exit(0 if is_accepted else 1)


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def evaluate(words: list[str], home: Home = _HOME) -> None:
    """Measures checkpoints on the same prompts and seeds, with intervals; --help has its options."""
    from flowgrpo.runs.evaluate_command import main

    _open(home).close()
    raise typer.Exit(main(["--home", str(home.resolve()), *words], typer.echo))


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
def doctor(
    home: Home = _HOME,
    rewards: Annotated[bool, typer.Option("--rewards", help="Load, try and time every reward.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Says what this machine and this data folder have; ends with 1 when the studio could not work."""
    from flowgrpo.runs.doctor import report

    with _opened(home) as db:
        raise typer.Exit(0 if report(db, typer.echo, rewards=rewards, as_json=as_json) else 1)


def main() -> None:
    """Entry point of the installed command."""
    cli()


if __name__ == "__main__":
    main()
