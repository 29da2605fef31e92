"""The actions of ``use``: the ``ACTION`` of every file of this folder, by the file's name, in the order of the places.

The parser imports all of them, so a file imports what is heavy, such as torch, in the functions that need it.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from aesearch.use.action import Action


def _gathered() -> dict[str, Action]:
    """Read the actions of all files of this folder."""
    names = [found.name for found in iter_modules([str(Path(__file__).parent)])]
    actions: dict[str, Action] = {name: import_module(f"{__name__}.{name}").ACTION for name in names}
    return dict(sorted(actions.items(), key=lambda item: item[1].place))


ACTIONS = _gathered()
