"""Every option and every command of `gpumodels-tui`, in one table.

From it come the parser and its help, the names of environment variables, the keys of the configuration files, the table in
docs/options.md, the shells' completions and the man page. To add an option, add a line to `OPTIONS`, or to the options of its
command; to add a command, add it to `COMMANDS`: its function may stand in any room, and is imported when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gpumodels_shared.records import replace
from gpumodels_shared.schema import KINDS
from gpumodels_tui.settings import kinds
from gpumodels_tui.settings.option import SEVERAL_PATHS, Argument, Command, Option, Shorthand, listed

THEMES: Final = ("terminal", "dark", "light", "high-contrast", "monochrome")
"""The names of all looks in `theme`, which is imported only for the screens."""

OUTPUTS: Final = ("screens", "once", "json", "csv", "follow", "history")

LISTEN: Final = "127.0.0.1:9477"

PURPOSES: Final = ("grafana", "kubernetes", "otel", "prometheus", "slurm", "systemd")
"""The folders of `deploy`."""

SOURCES: Final = (
    Option(
        "dir",
        "read the sidecars' files in DIR; repeatable",
        kinds.DIRECTORY,
        repeats=True,
        variable="GPUMODELS_DIR",
    ),
    Option(
        "models",
        "read model files below DIR; repeatable. Default: ComfyUI's and Hugging Face's folders",
        kinds.DIRECTORY,
        repeats=True,
        separator=SEVERAL_PATHS,
        variable="GPUMODELS_MODELS",
    ),
    Option(
        "group",
        "read the files that members of GROUP share with it, too",
        metavar="GROUP",
        variable="GPUMODELS_GROUP",
    ),
    Option(
        "ask-servers",
        "ask ollama, llama.cpp and vLLM on this machine, where they have no sidecar, what they have loaded",
        kinds.SWITCH,
        default=False,
    ),
)
"""What is read: the same for the screens and for every command that reads sidecars' files."""

FILTERS: Final = (
    listed("gpu", "only these GPUs: numbers, names or UUIDs, or host; repeatable", metavar="GPU"),
    listed("process", "only these processes: pids, or parts of names and commands; repeatable", metavar="PROCESS", separator=""),
    listed("user", "only these users' processes: names or uids; repeatable", metavar="USER"),
    listed("job", "only processes of these jobs: Slurm's, torchrun's or Kubernetes's ids or names; repeatable", metavar="JOB"),
    Option(
        "kind",
        f"only models of these kinds: {', '.join(KINDS)}; repeatable",
        kinds.choice(*KINDS),
        metavar="KIND",
        repeats=True,
        separator=",",
    ),
    Option("min-bytes", "only models of at least this size, such as 512MB or 2.1GB", kinds.SIZE, 0),
    listed("name", "only models with this in their name; repeatable", metavar="TEXT", separator=""),
    Option("copies", "only models that a device holds more than once, from the same files", kinds.SWITCH, default=False),
)
"""What is shown of what is read, by the screens, by what is printed, and by the commands that take filters."""

OPTIONS: Final = (
    *SOURCES,
    Option("theme", "the colours of the screens; default: the terminal's own sixteen", kinds.choice(*THEMES), THEMES[0]),
    Option("ascii", "draw with ASCII only; the default if the locale is not UTF-8", kinds.SWITCH, default=False),
    Option("interval", "refresh the screens so often; default: 1; the keys + and - change it", kinds.seconds(), 1.0),
    Option(
        "output",
        "what to show; default: the screens, and once if stdout is not a terminal",
        kinds.choice(*OUTPUTS),
        OUTPUTS[0],
        metavar="OUTPUT",
        shorthands=(
            Shorthand("once", "once", "print one plain table"),
            Shorthand("json", "json", "print one JSON document"),
            Shorthand("csv", "csv", "print a line of comma-separated values for each model on each device"),
            Shorthand("follow", "follow", "print a JSON line for each event, until stopped"),
            Shorthand("history", "history", "show the last 24 hours, as record or metrics kept them in the background"),
        ),
    ),
    Option("since", "with --follow: begin with what is known since then: 10m, 2h, or 2026-05-28T20:26:40Z", metavar="TIME"),
    Option("state", "with --follow: also print the whole document so often; default: never, 0", kinds.seconds(0, 86400), 0.0),
    Option("replay", "show a recording on the screens; `record` makes one", kinds.FILE),
    Option("history-of", "show the last 24 hours that another service kept in DIR", kinds.DIRECTORY),
    Option("pretty", "print the JSON document in lines, for people", kinds.SWITCH, default=False),
    *FILTERS,
)
"""The options of the screens and of what is printed; `SOURCES` and `FILTERS` are commands' as well."""

COMMANDS: Final = (
    Command(
        "metrics",
        "serve metrics for Prometheus",
        "Serves metrics of models and memory for Prometheus, and the JSON document at /json, until it is stopped.",
        "gpumodels_tui.commands.metrics:run",
        options=(
            Option("listen", f"the address; default: {LISTEN}", default=LISTEN, metavar="HOST:PORT", excludes="place"),
            Option("unix", "listen on a Unix socket instead", kinds.FILE, excludes="place"),
            Option("textfile", "write them to FILE once, for node_exporter's textfile collector", kinds.FILE, excludes="place"),
            Option("top", "series for the N largest models; default: 100", kinds.whole(), 100),
            Option("history", "keep the last 24 hours for --history; the default", kinds.SWITCH, default=True),
            Option("with-pid", "put the pid into gpumodels_process_info", kinds.SWITCH, default=False),
            Option("with-paths", "put whole paths into gpumodels_model_info", kinds.SWITCH, default=False),
        ),
        filters=True,
        epilog="No pid, path or argument is in a label unless asked for. Other pages: /json, /-/healthy, /-/ready.",
        is_strict=True,
    ),
    Command(
        "record",
        "record to a file, for --replay, and keep the last 24 hours, for --history",
        "Records what the screens show, until it is stopped. `gpumodels-tui --replay FILE` shows it.",
        "gpumodels_tui.commands.record:run",
        options=(
            Option("every", "how often; default: 2. Events are recorded as they happen", kinds.seconds(0.5), 2.0),
            Option("limit", "end when FILE has so many bytes; default: 1GB", kinds.SIZE, 1024**3),
            Option("history", "keep the last 24 hours, too; the default", kinds.SWITCH, default=True),
        ),
        arguments=(Argument("file", "a new file, FILE.ndjson.gz; nothing is ever overwritten", kinds.FILE, is_optional=True),),
        epilog="Without FILE it only keeps the last 24 hours, in 64 MB at most, for `gpumodels-tui --history`.",
        is_strict=True,
    ),
    Command(
        "oom",
        "print what was in memory when an allocation failed",
        "Prints what was in memory when an allocation failed, as text for an issue report: by default the last time.",
        "gpumodels_tui.commands.oom:run",
        arguments=(Argument("file", "a record that a sidecar kept, oom-….json", kinds.FILE, is_optional=True),),
    ),
    Command(
        "why",
        "say who holds a model",
        "Asks a model's process who holds it: the shortest chains of references that keep it in memory. Changes nothing there.",
        "gpumodels_tui.commands.why:run",
        options=(
            Option("pid", "the model's process, where several have one of this name", metavar="PID"),
            Option("json", "print one JSON document", kinds.SWITCH, default=False),
        ),
        arguments=(Argument("model", "the model's name, or a part of it", replace(kinds.TEXT, metavar="NAME")),),
        epilog="Only the process's owner and root may ask. GPUMODELS_ASK=0 in the process's environment turns it off.",
    ),
    Command(
        "diff",
        "what came, went, moved or grew between two moments",
        "Compares two documents of --json, or two moments of a recording: models, parts of the memory, processes.",
        "gpumodels_tui.commands.diff:run",
        options=(
            Option(
                "from",
                "of a recording: the first moment, as for --since, ages before its end; default: its begin",
                metavar="TIME",
            ),
            Option("to", "of a recording: the second moment; default: its end", metavar="TIME"),
            Option("markdown", "print a table to paste into an issue", kinds.SWITCH, default=False, excludes="form"),
            Option("json", "print one JSON document", kinds.SWITCH, default=False, excludes="form"),
        ),
        arguments=(
            Argument("before", "a document of --json, - for stdin; or a recording, FILE.ndjson.gz", kinds.FILE),
            Argument("after", "the later document; without it, the first one is a recording", kinds.FILE, is_optional=True),
        ),
        epilog="The text and the table have no paths and no arguments of programs in them.",
        reads=False,
    ),
    Command(
        "other",
        "say what is in memory beside models",
        "Asks a process what is in its memory beside models: tensors that none holds, what the allocator keeps. Frees nothing.",
        "gpumodels_tui.commands.other:run",
        options=(
            Option("pid", "the process, where several have a sidecar", metavar="PID"),
            Option("json", "print one JSON document", kinds.SWITCH, default=False),
        ),
        epilog="Only the process's owner and root may ask. GPUMODELS_ASK=0 in the process's environment turns it off.",
    ),
    Command(
        "doctor",
        "check what the viewer and the sidecars need",
        "Checks directories, sidecars, GPUs, model folders and the terminal, and says what to do next.",
        "gpumodels_tui.commands.doctor:run",
        options=(
            Option("json", "print one JSON document", kinds.SWITCH, default=False),
            Option("bundle", "also write a new FILE.tar.gz for bug reports, without users, hosts and secrets", kinds.FILE),
        ),
        epilog="Exit codes: 0 if all checks pass, 1 with warnings, 2 with failures.",
    ),
    Command(
        "deploy",
        "print files for systemd, Prometheus, Grafana and others",
        "Prints the files with which metrics and recordings are run and shown. Nothing is installed or enabled.",
        "gpumodels_tui.deploy.command:run",
        options=(Option("into", "write them below DIR instead; a file that differs is never overwritten", kinds.DIRECTORY),),
        arguments=(
            Argument("purpose", f"what for: {', '.join(PURPOSES)}", kinds.choice(*PURPOSES)),
            Argument("file", "only this one of them, as it is", kinds.FILE, is_optional=True),
        ),
        epilog="Several files are printed one after the other, each below a line with its name.",
        reads=False,
    ),
    Command(
        "config",
        "what is set and where; a file to begin with",
        "Shows every option's value and where it is from (show), the files that are read, the stronger first (path), or writes "
        "the user's file with every option in a comment (init).",
        "gpumodels_tui.commands.config:run",
        arguments=(Argument("action", "show, path or init", kinds.choice("show", "path", "init")),),
        reads=False,
    ),
    Command(
        "completion",
        "make a shell complete options and commands",
        "Prints completions for a shell.",
        "gpumodels_tui.commands.completion:run",
        arguments=(Argument("shell", "bash, zsh or fish", kinds.choice("bash", "zsh", "fish")),),
        epilog='In bash and zsh: eval "$(gpumodels-tui completion bash)"; in fish: source (gpumodels-tui completion fish | psub)',
        reads=False,
    ),
)
"""The commands, in the order of the help."""


def options_of(command: Command | None) -> Iterator[Option]:
    """The options that a command takes after its name; without one, those before any command."""
    if command is None:
        yield from OPTIONS
        return
    yield from (replace(option, command=command.name) for option in command.options)
    if command.reads:
        yield from SOURCES
    if command.filters:
        yield from FILTERS


def all_options() -> Iterator[Option]:
    """Every option once: those of all, then each command's own."""
    yield from OPTIONS
    for command in COMMANDS:
        yield from (option for option in options_of(command) if option.command)
