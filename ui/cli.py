"""The `tacit` command: the tree of commands, and the one place where errors become a line and an exit code.

Exit codes: 0 done, 1 failed (one line that says what to do next; the traceback only with `--debug`), 2 wrong usage. Command modules
import click and nothing heavy: `tacit --help` answers within a second.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import PackageNotFoundError, version

import click

from ui.cli_ask import ask, evaluate, search
from ui.cli_documents import collections, documents, ingest
from ui.cli_feedback import feedback, simulate
from ui.cli_operate import audit, backup, doctor, init, reembed, restore
from ui.cli_people import users
from ui.cli_policies import policies, runs, schedule
from ui.cli_raters import raters
from ui.cli_serve import demo, serve, worker
from ui.cli_train import train


def _version() -> str:
    try:
        return version("tacit")
    except PackageNotFoundError:
        return "not installed"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(_version(), prog_name="tacit")
def tacit() -> None:
    """Tacit: the company knowledge chatbot that learns from the people who use it.

    Start with `tacit demo`. Every command takes --home DIR (or TACIT_HOME) and --json.
    """


for _command in (
    demo,
    serve,
    worker,
    doctor,
    init,
    ingest,
    documents,
    collections,
    users,
    search,
    ask,
    evaluate,
    feedback,
    raters,
    simulate,
    train,
    runs,
    policies,
    schedule,
    reembed,
    backup,
    restore,
    audit,
):
    tacit.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    try:
        outcome = tacit.main(args=arguments, prog_name="tacit", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show(sys.stderr)
        return 2
    except click.ClickException as error:
        return _say(_usage_line(error), 2)
    except (click.Abort, KeyboardInterrupt):
        return _say("stopped; run the command again to go on", 1)
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _explain(error)
    # Outside standalone mode click hands the code of `Exit` back instead of raising it.
    return outcome if isinstance(outcome, int) else 0


def _usage_line(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "tacit"
    return f"{error.format_message().rstrip('.')}: see `{command} --help`"


def _explain(error: Exception) -> int:
    from knowledge_base.errors import TacitError, UsageError

    if isinstance(error, UsageError):
        return _say(str(error), 2)
    if isinstance(error, TacitError):
        return _say(str(error), 1)
    if isinstance(error, UnicodeError):
        return _say(f"a file is not UTF-8 text: {error}", 1)
    if isinstance(error, ValueError):
        # Settings dataclasses reject bad values by name with ValueError.
        return _say(str(error), 2)
    if isinstance(error, BrokenPipeError):
        return _leave_quietly()
    if isinstance(error, OSError):
        return _say(_system_line(error), 1)
    if isinstance(error, MemoryError):
        return _say("out of memory: close other programs, or lower the batch sizes in settings.toml", 1)
    return _say(
        f"unexpected {type(error).__name__}: {error} (run again with --debug and report the traceback)", 1
    )


def _system_line(error: OSError) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        place = error.filename or "the home directory"
        return (
            f"no space left on the disk ({place}): free some and run the command again; nothing saved is lost"
        )
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}: check the path and its permissions"


def _leave_quietly() -> int:
    """Whoever read our output has had enough (`tacit audit list | head`): no error, and nothing more to write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(line: str, code: int) -> int:
    sys.stderr.write("tacit: " + " ".join(line.split()) + "\n")
    return code
