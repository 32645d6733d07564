"""Official weights by name: fetched once from the projects' GitHub releases, cached, held to a SHA-256 ever after."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pooch

from yoloproof.errors import YoloproofError
from yoloproof.files.cache import cache_folder
from yoloproof.files.digest import sha256_of
from yoloproof.files.new import write_over
from yoloproof.network.variants import FAMILIES, Variant

# Two independent public records name this hash with the release's address. Where none is known, the hash of the first
# download is recorded beside the file and later loads are checked against it.
KNOWN_SHA256 = {"yolov13n": "6653035017b0f111f80ec11ed914874ea85699b104aeac1e46e517d16889d6b7"}


def official_weights(variant: Variant) -> Path:
    """Path of the variant's official `.pt`, downloaded on first use.

    Raises YoloproofError without a network, and for a file whose SHA-256 is not the known or first recorded one.
    """
    file_name = f"{variant.name}.pt"
    address = FAMILIES[variant.family].release + file_name
    folder = cache_folder()
    path, record = folder / file_name, folder / "sha256.json"
    recorded = _recorded(record)
    known = KNOWN_SHA256.get(variant.name) or recorded.get(variant.name)
    if path.exists() and known and sha256_of(path) != known:
        raise YoloproofError(f"{path}: SHA-256 is not the {known[:12]}… on record; delete the file to fetch it again")
    pooch.get_logger().setLevel("WARNING")  # what it says of its own accord is in the errors raised here
    try:
        pooch.retrieve(address, known_hash=f"sha256:{known}" if known else None, fname=file_name, path=folder)
    except OSError as error:  # requests' errors are OSErrors
        raise YoloproofError(
            f"cannot fetch {address} ({type(error).__name__}): put the file at {path},"
            " name a file of yours instead, or use --random-weights (latency without detections)"
        ) from None
    except ValueError:  # pooch: the hash does not match
        raise YoloproofError(
            f"{file_name}: the download's SHA-256 is not the known {str(known)[:12]}…; not used"
        ) from None
    if variant.name not in recorded:
        if not known:
            logging.getLogger("yoloproof").warning(  # on stderr, unless a program that imports us says otherwise
                "yoloproof: %s: no SHA-256 of it is known from two sources; this first download is trusted, and later loads"
                " are held to it (%s)", file_name, record,
            )  # fmt: skip
        write_over(json.dumps({**recorded, variant.name: sha256_of(path)}, indent=1) + "\n", record)
    return path


def _recorded(record: Path) -> dict[str, str]:
    try:
        found = json.loads(record.read_text()) if record.exists() else {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise YoloproofError(
            f"{record}: the record of downloads' SHA-256 is damaged; delete the folder to fetch them again"
        )
    return found
