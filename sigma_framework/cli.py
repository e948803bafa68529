"""``sigma-run`` and ``sigma-export``. The only part of the core that prints; imports nothing heavy before a run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_command

from sigma_framework.errors import PluginError, Problem, SigmaError

if TYPE_CHECKING:
    from sigma_framework.plugin_host import PluginHost
    from sigma_framework.recipe import LoadedRecipe

DONE, DEFECT, MISTAKE = 0, 1, 2
"""Exit codes: done, a defect of the program, the user's to mend; 130 and 143 on Ctrl-C and SIGTERM."""

run_app = typer.Typer(add_completion=True, rich_markup_mode=None, pretty_exceptions_enable=False)
export_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_HELP = "Run a recipe's task; the same command again resumes it."


def run_main() -> None:
    """Entry point of ``sigma-run``."""
    sys.exit(guarded(run_app, "sigma-run", sys.argv[1:]))


def export_main() -> None:
    """Entry point of ``sigma-export``."""
    sys.exit(guarded(export_app, "sigma-export", sys.argv[1:]))


def _complete_recipe(incomplete: str) -> list[str]:
    from sigma_framework.recipe import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete) and not name.startswith("_")]


@run_app.command(help=_HELP)
def run(  # typer passes by keyword
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.", autocompletion=_complete_recipe
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides by dotted path: stages.s1.steps=10.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check everything, load no weights; exit 0 or 2.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what will run, with which plugins.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved recipe and where each value came from.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; an earlier run folder is renamed.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="KEY", help="Accept that KEY differs from the run resumed.")
    ] = None,
    allow_env: Annotated[
        list[str] | None, typer.Option("--allow-env", metavar="NAME", help="Let ${env:NAME} be read.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --check, --explain, --print-config, --plugins: the same as data.")
    ] = False,
    plugins: Annotated[bool, typer.Option("--plugins", help="List every component and every broken plugin.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """One call of ``sigma-run``."""
    out = _Output(as_json=as_json)
    if recipe is None and not plugins:
        raise UsageMistake("found no recipe, expected one: sigma-run RECIPE [KEY=VALUE]...; --help explains")
    if plugins:
        _list_plugins(recipe, overrides or [], allow_env or [], out)
    elif check or explain or print_config:
        assert recipe is not None
        _look(recipe, overrides or [], allow_env or [], out, check=check, explaining=explain, printing=print_config)
    else:
        assert recipe is not None
        _start(recipe, overrides or [], allow_env or [], fresh=fresh, allow=allow or [])


class UsageMistake(SigmaError):
    """The command line itself makes no sense."""


def _look(
    argument: str,
    overrides: Sequence[str],
    allow_env: Sequence[str],
    out: _Output,
    *,
    check: bool,
    explaining: bool,
    printing: bool,
) -> None:
    """``--check``, ``--explain`` and ``--print-config``: no torch."""
    from sigma_framework.recipe.config_text import config_text, origins_of
    from sigma_framework.recipe.explain import explain
    from sigma_framework.recipe.outline import outline
    from sigma_framework.recipe.readiness import check_readiness

    try:
        loaded, host = _load(argument, overrides, allow_env)
        ready = check_readiness(loaded, host)
    except SigmaError as error:
        if out.as_json:
            out.data(
                {"ok": False, "error": error.message, "problems": [_as_data(problem) for problem in error.problems]}
            )
        raise
    if printing:
        recipe = ready.recipe
        out.either({"recipe": recipe.plain(), "origins": origins_of(recipe)}, lambda: config_text(recipe).rstrip("\n"))
    if explaining:
        facts = explain(ready.recipe, host, ready.size, ready.subjects)
        out.either(facts, lambda: "\n".join(outline(facts)))
    if check and not (explaining or printing):
        scene = str(ready.recipe.scene) if ready.subjects is not None else None
        document = {"ok": True, "recipe": loaded.label, "scene": scene, "problems": [], "warnings": [*ready.warnings]}
        checked = loaded.label if scene is None else f"{loaded.label} with {scene}"
        lines = [f"{checked}: no problems", *(f"warning: {text}" for text in ready.warnings)]
        out.either(document, lambda: "\n".join(lines))


def _list_plugins(recipe: str | None, overrides: Sequence[str], allow_env: Sequence[str], out: _Output) -> None:
    """``--plugins``; with a recipe, as its ``plugins.disable`` leaves them."""
    from sigma_framework.plugin_host import STRICT_VARIABLE, PluginHost
    from sigma_framework.recipe.check import disabled_plugins
    from sigma_framework.recipe.explain import plugin_listing
    from sigma_framework.recipe.load import load_recipe

    disable = disabled_plugins(load_recipe(recipe, overrides, allow_env)) if recipe is not None else ()
    host = PluginHost.discover(disable, strict=False)
    listing = plugin_listing(host)
    out.either(listing, lambda: "\n".join(_table(listing)))
    faults = [Problem(str(broken.provider), broken.reason) for broken in host.broken]
    faults += [Problem(f"{kind} '{name}'", "CONFLICT") for kind, name in host.conflicts()]
    if faults and os.environ.get(STRICT_VARIABLE) == "1":
        raise PluginError("plugins", faults)


def _start(
    argument: str, overrides: Sequence[str], allow_env: Sequence[str], *, fresh: bool, allow: Sequence[str]
) -> None:
    """Runs the task; checks everything cheap first, so that a mistake is told before weights are loaded."""
    from sigma_framework.recipe.readiness import check_readiness

    check_readiness(*_load(argument, overrides, allow_env))
    for library in ("TRANSFORMERS", "DIFFUSERS", "HF_HUB"):  # notes on torchvision, unused keys and retries
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    from sigma_framework.framework import Framework
    from sigma_framework.terminal import TerminalProgress

    framework = Framework.load(argument, overrides=list(overrides), allow_env=list(allow_env))
    framework.progress = TerminalProgress()
    try:
        for line in framework.run(fresh=fresh, allow=list(allow)):
            typer.echo(line)
    finally:
        framework.progress.finish()


def _load(argument: str, overrides: Sequence[str], allow_env: Sequence[str]) -> tuple[LoadedRecipe, PluginHost]:
    from sigma_framework.plugin_host import PluginHost
    from sigma_framework.recipe.check import disabled_plugins
    from sigma_framework.recipe.recall import load_recalled

    loaded = load_recalled(argument, overrides, allow_env)
    return loaded, PluginHost.discover(disabled_plugins(loaded))


@export_app.command(help="Write an adapter in another program's format.")
def export(
    adapter: Annotated[
        Path, typer.Argument(metavar="ADAPTER", help="The adapter's file, or the folder that holds it.")
    ],
    target: Annotated[str, typer.Option("--format", metavar="FORMAT", help="comfyui.")] = "comfyui",
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where to write; beside the adapter by default.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """One call of ``sigma-export``."""
    from sigma_framework.adapter_export import export_adapter

    typer.echo(f"written: {export_adapter(adapter, target, output)}")


class _Output:
    """Standard output, as text or as one JSON document."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def data(self, document: Mapping[str, Any]) -> None:
        """One JSON document."""
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))

    def either(self, document: Mapping[str, Any], text: Callable[[], str]) -> None:
        """The document when data was asked for, else the text."""
        if self.as_json:
            self.data(document)
        else:
            typer.echo(text())


def guarded(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Runs a command line and turns whatever happens into an exit code and at most a few lines on standard error."""
    debug = "--debug" in arguments
    with _terminable():
        try:
            code = get_command(app).main(args=list(arguments), prog_name=name, standalone_mode=False)
            return code if isinstance(code, int) else DONE
        except SigmaError as error:
            return _report(f"error: {error.render()}", debug, error.exit_code)
        except KeyboardInterrupt:
            return _report("stopped by Ctrl-C", debug, 130)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else DEFECT
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except Exception as error:
            return _report_unforeseen(error, name, debug)


def _report_unforeseen(error: Exception, name: str, debug: bool) -> int:
    """Typer's own errors are the user's; anything else is a defect: one line, and how to see more."""
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return _report(f"error: {error.format_message()}; {name} --help explains", debug, MISTAKE)
    if type(error).__name__ == "Abort":  # typer turns Ctrl-C into its own exception
        return _report("stopped by Ctrl-C", debug, 130)
    what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    notes = "; ".join(getattr(error, "__notes__", ()))
    hint = "" if debug else "; run again with --debug and report it"
    return _report(f"defect: {what}{f' ({notes})' if notes else ''}{hint}", debug, DEFECT)


def _report(text: str, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exc()
    typer.echo(text, err=True)
    return code


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the program with 143 and runs its clean-up; a training run puts its own handler in front."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _as_data(problem: Problem) -> dict[str, str]:
    return {"where": problem.where, "what": problem.what, "remedy": problem.remedy}


def _table(listing: Mapping[str, Any]) -> Iterator[str]:
    """Components, one line each in columns, then what is in conflict, broken or switched off."""
    columns = ("kind", "name", "distribution", "version", "summary")
    rows: list[Mapping[str, Any]] = [dict(zip(columns, columns, strict=True)), *listing["components"]]
    widths = {column: max(len(row[column]) for row in rows) for column in columns}
    for row in rows:
        yield "  ".join(row[column].ljust(widths[column]) for column in columns).rstrip()
    for row in listing["conflicts"]:
        yield f"CONFLICT {row['kind']} {row['name']}: {' and '.join(row['providers'])}"
    for row in listing["broken"]:
        yield f"BROKEN {row['distribution']} {row['version']} ({row['entry_point']} = {row['module']}): {row['reason']}"
    for provider in listing["disabled"]:
        yield f"DISABLED {provider}"
