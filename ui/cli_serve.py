"""`tacit demo`, `serve`, `worker`: the long-running commands."""

from __future__ import annotations

import click

from ui.cli_output import Context, command_options

port_option = click.option("--port", default=7860, show_default=True, type=click.IntRange(1, 65535))
host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="0.0.0.0 lets other machines reach it; put TLS in front.",
)


@click.command()
@port_option
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
@command_options
def demo(context: Context, port: int, no_browser: bool) -> None:
    """Set up the sample company with three accounts and serve it; the place to start."""
    from ui.demo import run_demo

    run_demo(context, port=port, open_browser=not no_browser)


@click.command()
@host_option
@port_option
@click.option(
    "--no-worker", is_flag=True, help="Start no worker beside the server; run `tacit worker` yourself."
)
@command_options
def serve(context: Context, host: str, port: int, no_worker: bool) -> None:
    """Serve the pages and the HTTP interface, with a worker beside it."""
    from ui.serving import serve as run_server

    run_server(context, host=host, port=port, with_worker=not no_worker)


@click.command()
@click.option("--once", is_flag=True, help="Do what is due now, then stop.")
@command_options
def worker(context: Context, once: bool) -> None:
    """Work on uploads and training cycles as they come due."""
    from ui.serving import run_worker

    run_worker(context, once=once)
