"""Addresses of stores: what they may be, and how they are shown without secrets."""

import html
import os
import re
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import quote, unquote

MASK = "***"
SERVERS = ("http", "https")
FILES = ("", "sqlite", "file")
# Part of the name of a parameter whose value is a secret; odbc_connect holds a whole connection.
SECRET_NAME = r"[^=&;?#\s]*(?:pass|pwd|secret|token|key|auth|cred|sig|connect)[^=&;?#\s]*"
SECRETS_OF_MLFLOW = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
SHORT = 4  # characters; a shorter secret is looked for as a word of its own, as most texts have its letters


class Address(NamedTuple):
    """Address of a store.

    shown: the address without its secrets. secrets: as they were written.
    problem: why nobody can tell its parts, with the remedy; "" where they are clear.
    """

    shown: str
    secrets: tuple[str, ...] = ()
    problem: str = ""


def parse(uri: str) -> Address:
    """Find the secrets in an address, whether or not it can be read."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "", uri
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(place) :]
    of_file = not place and scheme.split("+")[0].lower() in FILES
    if place.count("@") > 1 or ("@" in tail and not of_file):
        remedy = "in a password write %40 for @, %2F for /, %3F for ? and %23 for #"
        return Address(f"{scheme}{separator}{MASK}", (rest,), f"has an @ that does not end a password; {remedy}")
    place_shown, secrets = _place(scheme, place, alone=not tail)
    tail_shown, problem = tail, ""
    if scheme.lower() in SERVERS and (more := re.search(r"[?#].", tail, re.DOTALL)):
        tail_shown = f"{tail[: more.start() + 1]}{MASK}"
        secrets += [tail[more.start() + 1 :], *_values(tail)]
        problem = (
            f"has more than the path of a server; give a secret as {' or '.join(SECRETS_OF_MLFLOW)} in the environment"
        )
    elif first := re.search(rf"[?&;#]{SECRET_NAME}=", tail, re.IGNORECASE):
        # What follows may belong to the secret, so nothing of it is shown.
        tail_shown = f"{tail[: first.end()]}{MASK}"
        secrets += [tail[first.end() :], *_values(tail)]
    return Address(f"{scheme}{separator}{place_shown}{tail_shown}", tuple(filter(None, secrets)), problem)


def _place(scheme: str, place: str, alone: bool) -> tuple[str, list[str]]:
    """Mask the password before a host, or a token in the place of a server's user.

    alone: whether the address ends with the place.
    """
    given, at, host = place.rpartition("@")
    user, colon, password = given.partition(":")
    if colon and _may_be_password(host, alone):
        # A raw @ in a password whose host is missing: nobody can tell what follows it from a host.
        return f"{user}:{MASK}", [f"{password}@{host}", password, host]
    if colon:
        encoded = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        return f"{user}:{MASK}@{host}", [password, encoded] if password else []
    if at and scheme.lower() in SERVERS:
        return f"{MASK}@{host}", [user]
    # A password whose host is missing stands where a port does.
    host, colon, port = place.rpartition(":")
    if scheme and not at and colon and not port.isdigit() and not port.endswith("]") and port:
        return f"{host}:{MASK}", [port]
    return place, []


def _may_be_password(host: str, alone: bool) -> bool:
    """Tell whether what follows an @ may be no host.

    It is none by its characters, or it may be a part of the password: a word that ends the address.
    """
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]*)(:[A-Za-z0-9]*)?", host):
        return True
    return alone and host not in ("", "localhost") and not re.search(r"[.:]", host)


def _values(tail: str) -> list[str]:
    """List the secrets among parameters, and in the connection that one may hold."""
    values = re.findall(rf"[?&;#]{SECRET_NAME}=([^&;]*)", tail, re.IGNORECASE)
    return [*values, *(found for value in values if "%3d" in value.lower() for found in _values(f"?{unquote(value)}"))]


def shown(uri: str) -> str:
    """Write an address without its passwords, tokens and keys."""
    return parse(uri).shown


def masked(text: str, uri: str) -> str:
    """Mask the secrets of an address, and those of MLflow's environment, in a text.

    They are found as they were written, decoded, and as other programs quote them. Passwords in other addresses, such
    as that of a server's own database, are masked too.
    """
    address = parse(uri)
    secrets = [*address.secrets, *(os.environ.get(name, "") for name in SECRETS_OF_MLFLOW)]
    text = text.replace(uri, address.shown) if uri else text
    for secret in sorted({form for one in secrets for form in (one, unquote(one)) if form}, key=len, reverse=True):
        text = _pattern(secret).sub(MASK, text)
    text = re.sub(r"(://[^\s/:@'\"]*:)[^\s@'\"]+@", rf"\1{MASK}@", text)
    return re.sub(rf"([?&;]{SECRET_NAME}=)[^&;\s'\")]+", rf"\1{MASK}", text, flags=re.IGNORECASE)


def _pattern(secret: str) -> re.Pattern[str]:
    """Match a secret of which each character may be quoted, for an address or a text."""
    whole = "".join(f"(?:{'|'.join(dict.fromkeys(map(re.escape, _forms(one))))})" for one in secret)
    return re.compile(whole if len(secret) >= SHORT else rf"(?<![A-Za-z0-9])(?<![A-Za-z]'){whole}(?![A-Za-z0-9])")


def _forms(one: str) -> list[str]:
    """List the ways in which programs write a character."""
    encoded = "".join(f"%{byte:02X}" for byte in one.encode(errors="surrogateescape"))
    twice = quote(encoded)
    escaped = one.encode("unicode_escape").decode()
    forms = [twice, twice.lower(), encoded, encoded.lower(), escaped, html.escape(one), f"\\{one}", one]
    return [*forms, "+"] if one == " " else forms
