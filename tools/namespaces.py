"""Runs commands in a root of their own: as a step of a build, and as a container with a read-only root.

Every mount is made inside a namespace of mounts that ends with the processes in it, and the processes end
with this one, so that nothing is left behind however a replay ends. A container has a network of its own,
with loopback alone: it reaches nothing outside, and nothing outside reaches it, however it listens.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

_DEVICES: Final = """
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
for one in null zero full random urandom tty; do
    : > "$root/dev/$one"; mount --bind "/dev/$one" "$root/dev/$one"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"; mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=64m shm "$root/dev/shm"
"""
_STEP: Final = f"""
root=$1 binds=$2; shift 2
{_DEVICES}
mount -t tmpfs -o mode=755 run "$root/run"
while [ "$binds" -gt 0 ]; do
    target="$root$2"; mkdir -p "${{target%/*}}"
    if [ -d "$1" ]; then mkdir -p "$target"; else [ -e "$target" ] || : > "$target"; fi
    mount --bind "$1" "$target"; shift 2; binds=$((binds - 1))
done
exec chroot "$root" "$@"
"""
_CONTAINER: Final = f"""
root=$1 volume=$2; shift 2
ip link set lo up; hostname container
mount --bind "$root" "$root"; mount -o remount,bind,ro,nosuid "$root"
{_DEVICES}
mount -t sysfs -o ro,nosuid,nodev,noexec sys "$root/sys"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmp "$root/tmp"
mount --bind "$volume" "$root/data"
exec chroot "$root" "$@"
"""
UNSHARE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")


def as_user(user: str, workdir: str, command: Sequence[str]) -> list[str]:
    """The command in a folder; as any user but root without a privilege, and without a way to get one.

    Args:
        user: number, or numbers of user and group as `10001:10001`.
    """
    there = ["env", f"--chdir={workdir}", *command]
    if user == "0":
        return there
    number, _, group = user.partition(":")
    ids = (f"--reuid={number}", f"--regid={group or number}", "--clear-groups")
    return ["setpriv", *ids, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--", *there]


def run_step(
    root: Path, command: Sequence[str], env: Mapping[str, str], binds: Mapping[str, str], log: IO[bytes]
) -> None:
    """Runs one step of a build in `root`, which keeps what it writes.

    Args:
        binds: files and folders of this machine, to where the step sees them.

    Raises:
        CalledProcessError: it ended with another code than 0.
    """
    carried = [word for pair in binds.items() for word in pair]
    arguments = [*UNSHARE, "--", "sh", "-euc", _STEP, "step", str(root), str(len(binds)), *carried, *command]
    subprocess.run(arguments, env=dict(env), check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


class Container:
    """A command in a read-only root, with a folder as /data and memory as /tmp; process 1 is the command.

    Args:
        log: where what it says goes.
    """

    def __init__(
        self, root: Path, volume: Path, command: Sequence[str], env: Mapping[str, str], log: IO[bytes]
    ) -> None:
        self.root, self.env = root, dict(env)
        alone = (*UNSHARE, "--net", "--ipc", "--uts", "--")
        words = ("sh", "-euc", _CONTAINER, "container", str(root), str(volume), *command)
        self._process = subprocess.Popen(
            [*alone, *words], env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )

    @property
    def pid(self) -> int:
        """Of its process 1, as this machine counts. Raises ProcessLookupError where it has ended."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            if children := path.read_text().split():
                return int(children[0])
            time.sleep(0.01)
        raise ProcessLookupError(f"the container has ended with {self._process.returncode}")

    def execute(self, command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Another command beside the first, as `docker exec` does. Raises TimeoutExpired."""
        inside = ("nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--ipc", "--uts", "--")
        return subprocess.run(
            [*inside, "chroot", str(self.root), *command],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def wait(self, seconds: float) -> int:
        """The exit code, once it ends by itself. Raises TimeoutExpired."""
        return self._process.wait(seconds)

    def stop(self, number: int, grace_seconds: float) -> tuple[int, float]:
        """Sends the signal to process 1 alone; returns its exit code and the seconds that it took.

        Raises:
            TimeoutExpired: it did not end in its grace.
        """
        began = time.monotonic()
        os.kill(self.pid, number)
        return self._process.wait(grace_seconds), time.monotonic() - began

    def kill(self) -> None:
        """Ends it and all that it started, where any of it is left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
