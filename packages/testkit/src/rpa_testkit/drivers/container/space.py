"""The bounded space that a node writes to, used up and given back."""

from __future__ import annotations

from rpa_testkit.drivers.container.handle import Container
from rpa_testkit.drivers.protocol import NotPossible
from rpa_testkit.warden.undo import Command

_BALLAST = ".testkit-ballast"


class Space:
    """A tmpfs of `container`, mounted at `folder`. `container` is one that runs when the space is to be given back."""

    def __init__(self, container: Container, folder: str) -> None:
        self._container = container
        self._folder = folder
        self._ballast = f"{folder}/{_BALLAST}"

    def fill(self) -> None:
        """Write until the kernel says that there is no space left."""
        ran = self._container.run(["dd", "if=/dev/zero", f"of={self._ballast}", "bs=256k"])
        if "No space left on device" not in ran.text:
            raise NotPossible(f"{self._folder} of {self._container.name} did not fill up: {ran.text.strip()}")

    def give_back(self) -> None:
        """Remove what `fill` wrote. A container that has ended has nothing on its tmpfs."""
        if self._container.state().running:
            self._container.run(["rm", "-f", self._ballast])

    def free_bytes(self) -> int:
        """What can still be written."""
        ran = self._container.run(["stat", "-f", "-c", "%a %S", self._folder])
        try:
            blocks, size = ran.text.split()
            return int(blocks) * int(size)
        except ValueError:
            raise NotPossible(f"the free space of {self._container.name} cannot be told: {ran.text.strip()}") from None

    def undo(self) -> Command:
        """The same as `give_back`."""
        return Command(argv=("docker", "exec", self._container.id, "rm", "-f", self._ballast))
