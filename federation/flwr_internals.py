"""What the in-process grid and the byte counts need and Flower does not offer publicly, in one place."""

import uuid
from functools import cache
from importlib.metadata import version

from flwr.app import Message, RecordDict
from flwr.common.serde import recorddict_to_proto
from flwr.supercore.task_identity import TaskIdentity

from fedsched.federation.participant import SettingError

KNOWN_VERSIONS = ("1.41", "1.42")
SERVER_NODE = 1
RUN = 1


@cache
def check_version() -> None:
    """Refuse a Flower whose internals nobody has looked at.

    Raises:
        SettingError: the installed version is not among the known ones.
    """
    found = version("flwr")
    if ".".join(found.split(".")[:2]) not in KNOWN_VERSIONS:
        raise SettingError(
            f"flwr {found} is installed, the in-process grid knows the internals of {', '.join(KNOWN_VERSIONS)}: "
            "install 'flwr>=1.41,<1.43'"
        )


def act_as_server() -> None:
    """Say who makes messages in this process, which Flower's runners do before they call a ServerApp."""
    check_version()
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = RUN
    TaskIdentity.node_id = SERVER_NODE


def stamp(message: Message, message_id: str = "") -> str:
    """Give a message its id (a new one if none is given), which the SuperLink does on a real network; returns it."""
    check_version()
    message_id = message_id or str(uuid.uuid4())
    vars(message.metadata)["_message_id"] = message_id
    return message_id


def wire_bytes(content: RecordDict) -> int:
    """Size of a message's content as Flower serialises it."""
    return int(recorddict_to_proto(content).ByteSize())
