"""XML files read element by element: with line numbers, in bounded memory, without document types."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn, cast
from xml.parsers import expat

from fedsched.envs.intersections.network import IntersectionsError

LIMIT_BYTES = 200_000_000
"""Greatest size of an uncompressed file that is read by default."""

_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
_MOST_WITHIN = 200_000
_TRUE, _FALSE = ("true", "1", "yes", "t", "on", "x"), ("false", "0", "no", "f", "off", "-")


@dataclass
class Element:
    """One XML element.

    Attributes:
        name: Its tag.
        attributes: As written.
        line: Where it begins.
        path: The file.
        children: The elements within.
    """

    name: str
    attributes: dict[str, str]
    line: int
    path: Path
    children: list["Element"] = field(default_factory=list)

    def fail(self, message: str) -> NoReturn:
        """Raises an error that points here."""
        raise IntersectionsError(message, self.path, self.line)

    def text(self, name: str, default: str | None = None) -> str:
        """An attribute; raises IntersectionsError where it is missing and there is no default."""
        value = self.attributes.get(name, default)
        if value is None:
            self.fail(f"<{self.name}> lacks the attribute {name!r}; add it")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        if name not in self.attributes and default is not None:
            return default
        text = self.text(name)
        value = _float(text)
        if value is None:
            self.fail(f"{name}={text!r} of <{self.name}> is not a number; write one")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number from 0."""
        if name not in self.attributes and default is not None:
            return default
        text = self.text(name)
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            self.fail(f"{name}={text!r} of <{self.name}> is not a whole number from 0; write one")
        return int(text)

    def flag(self, name: str, default: bool) -> bool:
        """A yes or no."""
        if name not in self.attributes:
            return default
        value = self.attributes[name].lower()
        if value not in _TRUE + _FALSE:
            self.fail(f"{name}={value!r} of <{self.name}> is neither true nor false; write one of them")
        return value in _TRUE

    def words(self, name: str) -> list[str]:
        """A list separated by blanks; empty where the attribute is missing."""
        return self.attributes.get(name, "").split()


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None


class XmlFile:
    """One file; `elements` reads it once.

    Attributes:
        path: Where it lies.
        digest: SHA-256 of the uncompressed content, complete once all elements have been read.
        root: Name of the outermost element, once reading has begun.
    """

    def __init__(self, path: str | Path, limit_bytes: int = LIMIT_BYTES, text: str | None = None) -> None:
        """Args: the file, plain or gzip; the greatest size of its uncompressed content; the content if at hand."""
        self.path = Path(path)
        self._text = text
        self.root = ""
        self._limit = limit_bytes
        self._hash = hashlib.sha256()
        self._stack: list[Element] = []
        self._done: list[Element] = []
        self._within = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what has been read."""
        return self._hash.hexdigest()

    def elements(self, roots: tuple[str, ...]) -> Iterator[Element]:
        """The elements directly within the outermost one, each with all that it holds.

        Args:
            roots: Names that the outermost element may have.

        Raises:
            IntersectionsError: The file cannot be read, is no XML, too large, has a document type or another root.
        """
        self._roots = roots
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._open
        self._parser.EndElementHandler = self._close
        self._parser.StartDoctypeDeclHandler = self._refuse
        try:
            with self._stream() as stream:
                yield from self._chunks(stream)
        except expat.ExpatError as error:
            what = expat.errors.messages.get(error.code, "malformed")
            raise IntersectionsError(
                f"no complete XML ({what}); write the file again", self.path, error.lineno
            ) from None
        except FileNotFoundError:
            raise IntersectionsError("no such file; check the path", self.path) from None
        except (OSError, EOFError, zlib.error) as error:
            raise IntersectionsError(f"cannot be read ({error}); fetch the file again", self.path) from error

    def _stream(self) -> BinaryIO:
        if self._text is not None:
            return io.BytesIO(self._text.encode())
        with self.path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
        if not packed and self.path.stat().st_size > self._limit:
            self._too_large()
        return cast("BinaryIO", gzip.open(self.path, "rb")) if packed else self.path.open("rb")

    def _chunks(self, stream: BinaryIO) -> Iterator[Element]:
        total = 0
        while chunk := stream.read(_CHUNK):
            total += len(chunk)
            if total > self._limit:
                self._too_large()
            self._hash.update(chunk)
            self._parser.Parse(chunk, False)
            yield from self._done
            self._done = []
        self._parser.Parse(b"", True)
        yield from self._done
        self._done = []

    def _too_large(self) -> NoReturn:
        raise IntersectionsError(
            f"larger than {self._limit / 1e6:g} MB uncompressed; cut it down, or raise the limit", self.path
        )

    def _refuse(self, *_: object) -> None:
        line = self._parser.CurrentLineNumber
        raise IntersectionsError("document types and entities are not read; remove <!DOCTYPE ...>", self.path, line)

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        line = self._parser.CurrentLineNumber
        element = Element(name, attributes, line, self.path)
        if not self._stack:
            self.root = name
            if name not in self._roots:
                element.fail(f"the outermost element is <{name}>; give a file with <{'> or <'.join(self._roots)}>")
        elif len(self._stack) > 1:
            self._stack[-1].children.append(element)
            self._within += 1
            if self._within > _MOST_WITHIN:
                element.fail(f"<{self._stack[1].name}> holds more than {_MOST_WITHIN} elements; split it")
        self._stack.append(element)

    def _close(self, _: str) -> None:
        element = self._stack.pop()
        if len(self._stack) == 1:
            self._done.append(element)
            self._within = 0
