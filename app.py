"""The front door. Each command imports what it needs when it is called: the web process stays small."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storage.late_commands import Version, late

if TYPE_CHECKING:
    from storage.engine import Database

STARTER = Path(__file__).parent / "flowgrpo" / "starter" / "weights" / "pipeline"
ELSEWHERE = {
    **dict.fromkeys(("backup", "restore", "clean", "limits"), "storage.commands"),
    **dict.fromkeys(("archive", "unarchive"), "storage.archive_commands"),
    **dict.fromkeys(("export-ratings", "import-ratings"), "flowgrpo.runs.ratings_commands"),
    "to-postgres": "storage.server_commands",
    "user": "ui.user_commands",
    "prompts": "ui.prompt_commands",
}
"""Command to the module that has it, imported when it is called."""

cli = typer.Typer(
    cls=late(ELSEWHERE),
    add_completion=False,
    no_args_is_help=False,
    help="Tune text-to-image models to a taste.",
)
Home = Annotated[Path, typer.Option(envvar="FLOWGRPO_HOME", help="The data folder.")]
_HOME = Path("data")


def _fail(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(2)


def _open(home: Path, base: Path | None = None) -> Database:
    """Opens the data folder and notes the starter (and `base`, a diffusers folder) in it."""
    from storage.opening import open_with

    try:
        return open_with(home, STARTER, base)
    except ValueError as error:
        raise _fail(str(error)) from error


@contextmanager
def _opened(home: Path) -> Iterator[Database]:
    db = _open(home)
    try:
        yield db
    except (LookupError, ValueError, OSError) as error:
        raise _fail(str(error)) from error
    finally:
        db.close()


@cli.callback(invoke_without_command=True)
def front(context: typer.Context, version: Version = False) -> None:
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
    language: Annotated[str, typer.Option(help="Of the labels: en or ja.")] = "en",
    public_url: Annotated[str, typer.Option(help="Address under which others reach it.")] = "",
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Give images without a text.")] = False,
    log_format: Annotated[str, typer.Option(help="plain or json; FLOWGRPO_LOG says it too.")] = "",
) -> None:
    """Starts the studio in the browser, with the engine that generates and trains behind it."""
    from flowgrpo.runs.tickets import dispatcher_of_web
    from storage.masking import MaskedStream
    from storage.shutdown import served
    from ui.language import speak
    from ui.logs import set_up
    from ui.opening import Listening, first_link
    from ui.server import create_app, listen

    sys.stderr = MaskedStream(sys.stderr)
    try:
        listening = Listening.asked(host, port, public_url)
        speak(language)
        set_up(log_format)
    except ValueError as error:
        raise _fail(str(error)) from error
    db = _open(home, base)
    address, number = listening.host, listening.port
    app = create_app(db, host=address, public_url=listening.public_url, demands_accounts=listening.is_public)
    app.state.bare_images = no_metadata
    try:
        dispatcher = dispatcher_of_web(db).start()
    except OSError as error:
        raise _fail(f"The data folder {db.home} cannot be used: {error}") from error
    typer.echo(f"FlowGRPO Studio: {listening.url}  (data in {home}; Ctrl+C ends it, runs go on)")
    if link := first_link(db, listening):
        typer.echo(
            f"Nobody has an account yet. Make yours, the first admin's, here (once, within 48 h): {link}"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # once uvicorn has ended: everything ends in order
    try:
        with served(db):
            listen(app, address, number)
    finally:
        dispatcher.stop()
        db.close()


@cli.command()
def worker(home: Home = _HOME, device: str = "auto") -> None:
    """Runs one engine worker (`serve` starts its own); with PostgreSQL, a host that draws and trains."""
    from flowgrpo.runs import host

    with _opened(home) as db:
        if not db.is_sqlite:
            host.work(db, (device,))
            return
    from flowgrpo.runs.worker import main

    raise typer.Exit(main(["--home", str(home.resolve()), "--device", device]))


@cli.command()
def run(
    config: Annotated[Path, typer.Argument(help="A run's settings: YAML, or JSON.")],
    checkpoint: Annotated[str | None, typer.Option(help="To start from; by default the file's own.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the run; by default the file's own.")] = None,
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
        raise typer.Exit(0 if run_to_its_end(db, config, checkpoint, name, typer.echo) == "completed" else 1)


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
    file: Annotated[Path, typer.Argument(help="Where to; ends in .safetensors. With --merged, a folder.")],
    layout: Annotated[str, typer.Option(help="diffusers, or kohya for A1111 and ComfyUI.")] = "diffusers",
    merged: Annotated[bool, typer.Option("--merged", help="The base with the adapter in it.")] = False,
    home: Home = _HOME,
) -> None:
    """Writes a checkpoint for other programs: its adapter as one file, or a whole model; and a card."""
    from flowgrpo.runs.export import export_as

    with _opened(home) as db:
        typer.echo("\n".join(map(str, export_as(db, checkpoint, file, layout, merged=merged))))


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
    """Tunes the starter without a browser, by the same rows and processes; measures before and after."""
    from flowgrpo.runs.demo import main as show

    given = {"--out": out, "--seed": seed, "--home": home, "--updates": updates}
    raise typer.Exit(show([str(one) for pair in given.items() if pair[1] is not None for one in pair]))


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


main = cli
"""Entry point of the installed command."""

if __name__ == "__main__":
    main()
