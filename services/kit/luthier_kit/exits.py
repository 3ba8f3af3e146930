"""How a child process that does one piece of work ended, and whose fault that was."""

import signal

FAULTS = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)
"""Signals that a process draws upon itself. SIGKILL is not among them: the kernel wants memory, or somebody an end."""


def crashed(code: int) -> bool:
    """True when a process with this exit code (negative: the signal) ended by its own doing, so by its work."""
    return code >= 0 or -code in FAULTS


def told(code: int) -> str:
    """`signal SIGSEGV`, `exit code 3`."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
