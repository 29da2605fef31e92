"""Hand over what a trial has to the keeper of its study.

That is epochs, checkpoints, a result with its model, a failure, remarks.

Each message waits until the driver's side has it on disk. So what the driver hears of a trial afterwards is there.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError

from aesearch.search.keeper import CHUNK, Keeper
from aesearch.search.values import Left, Place


class Handover:
    """The connection of one attempt at a trial with the keeper of its study.

    Every method raises what the keeper raised: OSError where there is no room, SupersededError where the trial is
    another attempt's by now, and Ray's errors where the keeper, and with it the driver, is gone.
    keeper: the keeper itself, or the name of the actor that is it.
    """

    def __init__(self, keeper: Keeper | str, place: Place) -> None:
        self.place = place
        self._keeper = ray.get_actor(keeper) if isinstance(keeper, str) else keeper
        self.left: Left = self._call("take_up", os.getpid(), socket.gethostname())

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Copy files of the whole trial into ``folder``.

        names: paths below the trial's folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            with (folder / Path(name).name).open("wb") as file:
                while content := self._call("fetch", name, file.tell()):
                    file.write(content)

    def epoch(self, line: Mapping[str, Any]) -> None:
        """Hand over an epoch's line of the history."""
        self._tell("add_epoch", line)

    def checkpoint(self, folder: Path, stem: str) -> None:
        """Hand over the checkpoint ``stem`` in ``folder``.

        Of the older ones, those that are in the folder are kept.
        """
        # The manifest last: a checkpoint that has one is whole.
        names = [f"{stem}.safetensors", f"{stem}.json"]
        self._send(folder, names)
        self._tell("keep_checkpoint", names, [path.name for path in folder.iterdir()])

    def result(self, folder: Path, result: Mapping[str, Any]) -> None:
        """Hand over the model and the pictures in ``folder``, and what the trial came to."""
        self._finish("finish", folder, result)

    def joined(self, folder: Path, result: Mapping[str, Any]) -> None:
        """Hand over the model of all replicas, this part's joined to those before."""
        self._finish("join", folder, result)

    def failure(self, reason: str, details: str) -> None:
        """Hand over why the trial failed."""
        self._tell("fail", reason, details)

    def remark(self, text: str) -> None:
        """Hand over what a person should know of the trial."""
        self._tell("remark", text)

    def _finish(self, method: str, folder: Path, result: Mapping[str, Any]) -> None:
        names = sorted(path.name for path in folder.iterdir())
        self._send(folder, names)
        self._tell(method, names, result)

    def _send(self, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            with (folder / name).open("rb") as file:
                # An empty file is sent too.
                self._tell("receive", name, 0, file.read(CHUNK))
                while content := file.read(CHUNK):
                    self._tell("receive", name, file.tell() - len(content), content)

    def _tell(self, method: str, *arguments: object) -> None:
        self._call(method, self.left.attempt, *arguments)

    def _call(self, method: str, *arguments: object) -> Any:
        if isinstance(self._keeper, Keeper):
            return getattr(self._keeper, method)(self.place, *arguments)
        try:
            return ray.get(getattr(self._keeper, method).remote(self.place, *arguments))
        except RayTaskError as error:
            raise error.cause from error
