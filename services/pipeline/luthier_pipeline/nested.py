"""Commands as steps of another command: the demo and the experiment do what anyone can type."""

import shlex
from typing import TypeVar

from luthier_pipeline.cli import load
from luthier_pipeline.console import Context

T = TypeVar("T")


def command(context: Context, line: str, kind: type[T]) -> T:
    """What the command `luthier <line>` answers with; the line and its answer are shown."""
    context.say(f"\n$ luthier {line}")
    name, *arguments = shlex.split(line)
    called = load(name)
    with called.make_context(name, arguments, obj=Context(context.clients, nested=True)) as ctx:
        answer = called.invoke(ctx)
    if not isinstance(answer, kind):
        raise TypeError(f"luthier {name} answered with a {type(answer).__name__}, not a {kind.__name__}")
    return answer
