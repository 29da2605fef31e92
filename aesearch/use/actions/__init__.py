"""Actions of ``use``: the ``ACTION`` of every file of this folder.

An action has the name of its file; actions are in the order of their places. The parser imports all of them, so each
file imports slow modules, such as torch, in the functions that need them.
"""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from aesearch.use.action import Action


def _gathered() -> dict[str, Action]:
    """Collect the actions of all files of this folder, in the order of their places."""
    names = [found.name for found in iter_modules([str(Path(__file__).parent)])]
    actions: dict[str, Action] = {name: import_module(f"{__name__}.{name}").ACTION for name in names}
    return dict(sorted(actions.items(), key=lambda item: item[1].place))


ACTIONS = _gathered()
