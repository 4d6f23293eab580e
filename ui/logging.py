"""Logging, configured here and nowhere else: structured events on stderr, pretty on a terminal, JSON lines elsewhere.

One canonical line per turn and per stage is logged by their owners. A single command logs nothing unless `--debug` is given: what goes wrong
it says itself, in one line. Questions and answers are never logged: logs are read by people
who may not read the documents.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings

import structlog


def configure_logging(*, debug: bool = False, verbose: bool = False) -> None:
    """Send structlog and the libraries' loggers to stderr.

    Args:
        debug: Everything, libraries included.
        verbose: Our own information lines and the libraries' warnings; the server and the worker set it.
    """
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.CRITICAL
    _quiet_libraries(debug)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    pretty = sys.stderr.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    exceptions: list[structlog.typing.Processor] = [] if pretty else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *exceptions, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING if verbose else logging.ERROR,
        stream=sys.stderr,
        format="%(levelname)s %(name)s %(message)s",
        force=True,
    )


def _quiet_libraries(debug: bool) -> None:
    # Gradio's analytics and transformers' progress bars would break "nothing leaves the machine" and "logs are ours".
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debug:
        # Meant for those who write programs, not for those who use them.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
