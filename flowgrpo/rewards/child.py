"""The process that one plug-in lives in: loads it and scores for the process that started it, over two pipes.

Whatever the plug-in does to this process (a segmentation fault, a loop without end, an exit), the other one
only sees it end. What the plug-in prints goes to the log. `flowgrpo.rewards.isolated` is the other end.

    python -m flowgrpo.rewards.child --parent PID
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import sys
import threading
import time
from dataclasses import asdict
from importlib import import_module
from typing import Final

import torch

from flowgrpo.rewards.base import Reward, RewardSpec
from flowgrpo.rewards.checks import SCORING, checked
from flowgrpo.rewards.plugins import Plugin
from flowgrpo.rewards.wire import Header, Pipes, read_batch, result_message

_LOADING: Final[tuple[type[Exception], ...]] = (SyntaxError, *SCORING)
_POLL_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


class Server:
    """Answers messages, one after the other."""

    def __init__(self) -> None:
        self.reward: Reward | None = None

    def answer(self, header: Header, data: bytes) -> tuple[Header, bytes]:
        """The answer to one message: what was asked for, or `{"ok": false, "reason": ...}`."""
        match header["op"]:
            case "describe":
                plugin = plugin_at(header["target"])
                return {"ok": True, "spec": asdict(plugin.spec), "options": dict(plugin.options)}, b""
            case "load":
                return self._load(header), b""
            case _:
                return self._score(header, data)

    def _load(self, header: Header) -> Header:
        loaded: object = plugin_at(header["target"]).load(header["options"], header["device"])
        if not isinstance(loaded, Reward):
            raise TypeError(f"its load() returned a {type(loaded).__name__} without spec and score()")
        self.reward = loaded
        return {"ok": True, "spec": asdict(checked_spec(loaded.spec))}

    def _score(self, header: Header, data: bytes) -> tuple[Header, bytes]:
        assert self.reward is not None
        batch = read_batch(header, data)
        try:
            said, values = result_message(checked(self.reward, batch))
            return {"ok": True, **said}, values
        except torch.OutOfMemoryError as error:
            _log.exception("no memory")
            what = f"the {self.reward.spec.name} reward ran out of memory on {len(batch)} images: {error}"
        if torch.cuda.is_available():  # not before the error has gone, which holds what the batch held
            torch.cuda.empty_cache()
        return {"ok": False, "is_short": True, "reason": what}, b""


def plugin_at(target: str) -> Plugin:
    """What an entry point such as `package.module:attribute` names.

    Raises ImportError, AttributeError or TypeError where that is no plug-in; and what its code raises.
    """
    module, _, attributes = target.partition(":")
    found: object = import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    if not isinstance(found, Plugin):
        raise TypeError(f"{target} is a {type(found).__name__} and no flowgrpo.rewards.plugins.Plugin")
    if not callable(found.load):
        raise TypeError(f"{target} has no factory: its load is a {type(found.load).__name__}")
    checked_spec(found.spec)
    return found


def checked_spec(spec: object) -> RewardSpec:
    """The same spec.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(spec, RewardSpec):
        raise TypeError(f"its spec is a {type(spec).__name__} and no flowgrpo.rewards.base.RewardSpec")
    return spec


def serve(pipes: Pipes) -> None:
    """Answers until the other end closes.

    A hang ends this process after the seconds that a message allows: the watchdog is a thread of its own that
    needs no interpreter, and writes to the log where the plug-in hung.
    """
    server = Server()
    while True:
        try:
            header, data = pipes.receive()
        except EOFError:
            return
        faulthandler.dump_traceback_later(float(header["seconds"]), exit=True)
        try:
            said, values = server.answer(header, data)
        except _LOADING as error:
            _log.exception("the plug-in failed")
            said, values = {"ok": False, "reason": f"{type(error).__name__}: {error}"}, b""
        faulthandler.cancel_dump_traceback_later()
        pipes.send(said, values)


def own_pipes() -> Pipes:
    """Takes standard input and output for the messages; whatever else reads finds nothing there, and whatever
    else prints, prints to the log.
    """
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Pipes(source, sink)


def end_with(parent: int) -> None:
    """Ends this process soon after its parent, whatever it does then."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    """Entry point of the child's process."""
    parser = argparse.ArgumentParser(description="Scores images with one plug-in, for the process above it.")
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(argv)
    pipes = own_pipes()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    faulthandler.enable()
    end_with(given.parent)
    serve(pipes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
