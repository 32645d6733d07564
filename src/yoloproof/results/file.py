"""The result file: JSON, written once and never overwritten."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from yoloproof.errors import YoloproofError
from yoloproof.files.new import GrowingFile, write_new
from yoloproof.files.reading import MOST_JSON_BYTES, check_regular
from yoloproof.records import Result
from yoloproof.results.kept import place_of
from yoloproof.results.schema import json_from_result, result_from_json


def keep_result(result: Result, file: GrowingFile) -> None:
    """Write what there is so far; where that fails nothing is said, since `write_result` will at the end."""
    with suppress(YoloproofError):
        file.write(text_from_result(result))


def write_result(result: Result, file: str | Path | GrowingFile) -> None:
    """Write `result` to a new file, or over what `keep_result` wrote there, whole or not at all.

    Where that fails, after minutes of measuring, it goes into a new file of the temporary folder, if there is room.
    YoloproofError all the same, as `write_new` raises it, saying where the result is kept.
    """
    file, text = file if isinstance(file, GrowingFile) else GrowingFile(Path(file)), text_from_result(result)
    try:
        file.write(text)
    except YoloproofError as error:
        kept = Path(tempfile.gettempdir()) / f"yoloproof-{uuid4().hex[:8]}.json"
        try:
            write_new(text, kept)
        except YoloproofError:
            raise error from None
        raise YoloproofError(f"{error}. This result is kept in {kept}") from None


def text_from_result(result: Result) -> str:
    """The text of a result file."""
    return _indented(json_from_result(result)) + "\n"


def _indented(value: object, margin: str = "\n") -> str:
    """JSON text, each level one space further in; a list that holds neither lists nor objects stands on one line, so that
    a process's samples take one line and not thousands."""
    inner = f"{margin} "
    if isinstance(value, dict) and value:
        begin, end = "{}"
        items = [f"{json.dumps(key)}: {_indented(item, inner)}" for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        begin, end = "[]"
        items = [_indented(item, inner) for item in value]
    else:
        return json.dumps(value, allow_nan=False)
    return f"{begin}{inner}{f',{inner}'.join(items)}{margin}{end}"


def read_result(path: str | Path) -> Result:
    """The result in `path`, or the newest kept one for `last`. YoloproofError where it is missing, not JSON, of another
    schema, or not of its shape."""
    path = place_of(path)
    check_regular(path, MOST_JSON_BYTES)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise YoloproofError(f"{path} cannot be read: {error.strerror}; give a file of `profile --json`") from None
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and a number of 5000 digits
        reason = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "not JSON text"
        raise YoloproofError(f"{path} is not a result file ({reason}); give a file of `profile --json`") from None
    return result_from_json(document, str(path))
