"""`miaotui doctor`: this machine and installation, what is missing, and the command that fixes it."""

from __future__ import annotations

import os
import platform
import shutil
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import print_json, print_pairs
from miaotui.cli.parsing import add_model_options, config_of, cpu_info, thread_excess
from miaotui.formats.store_progress import format_bytes

if TYPE_CHECKING:
    from miaotui.config import Config

NEEDED = ("numpy", "tokenizers", "jinja2")
LOW_DISK_BYTES = 1 << 30
LOW_MEMORY_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is missing or doubtful. Without it nothing works if `fatal`; `fix` is a command or a sentence."""

    problem: str
    fix: str
    fatal: bool = False


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Look everywhere; exit code 1 if something is missing without which nothing works."""
    config = config_of(args)
    report: dict[str, Any] = {"software": _software(), "settings": _settings(config)}
    findings = _missing_packages()
    native, problems = _native_core(config)
    findings += problems
    report["cpu"] = native
    report["memory"], problems = _memory()
    findings += problems
    report["store"], problems = _store(config)
    findings += problems
    if native:
        report["tuning"] = _tuning(config)
    report["findings"] = [asdict(finding) for finding in findings]
    if args.json:
        print_json(report)
    else:
        _print(report, findings)
    return 1 if any(finding.fatal for finding in findings) else 0


def _tuning(config: Config) -> list[dict[str, Any]]:
    from miaotui.engine.tuning import kept

    return [asdict(tuning) for tuning in kept(config.home)]


def _software() -> dict[str, str | None]:
    names = ("miaotui", *NEEDED, "huggingface-hub")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _missing_packages() -> list[Finding]:
    findings = [Finding(f"{n} is not installed", f"pip install {n}", fatal=True) for n in NEEDED if not _version(n)]
    if not _version("huggingface-hub"):
        findings.append(Finding("hf:… models cannot be fetched", "pip install 'miaotui[hub]'"))
    return findings


def _native_core(config: Config) -> tuple[dict[str, Any], list[Finding]]:
    """What the native core found, or why it cannot be loaded."""
    from miaotui.errors import ConfigError

    try:
        info = cpu_info(config)
    except ConfigError as error:
        return {}, [Finding(str(error), f"leave out the {config.sources['isa']}", fatal=True)]
    except ImportError as error:
        reinstall = "pip install --force-reinstall miaotui (in a checkout: make build)"
        return {}, [Finding(f"the native core cannot be loaded: {error}", reinstall, fatal=True)]
    findings = []
    if info["tier"] == "scalar" and len(info["tiers"]) == 1:
        findings.append(Finding("this CPU has no AVX2; everything works, but slowly", "use a CPU of 2014 or later"))
    if excess := thread_excess(config, info):
        findings.append(Finding(f"{excess}, which is far slower", f"leave out the {config.sources['threads']}"))
    return info, findings


def _memory() -> tuple[dict[str, int], list[Finding]]:
    from miaotui.engine.kv_memory import available_memory_bytes, total_memory_bytes

    memory = {"total_bytes": total_memory_bytes(), "available_bytes": available_memory_bytes()}
    if memory["available_bytes"] >= LOW_MEMORY_BYTES:
        return memory, []
    free = f"{format_bytes(memory['available_bytes'])} of memory are available"
    return memory, [Finding(free, "close other programs, or raise the container's memory limit")]


def _store(config: Config) -> tuple[dict[str, Any], list[Finding]]:
    """The folder of downloaded models, and whether there is anything in it."""
    from miaotui.formats.store import ModelStore

    folder = ModelStore.default().folder
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    models = [stored.name for stored in ModelStore.default().models()]
    findings = []
    if not models:
        fix = "miaotui pull smollm2:135m"
        fix = f"unset MIAOTUI_OFFLINE, then {fix}" if config.offline else fix
        findings.append(Finding("no model is here yet", fix, fatal=config.offline))  # else `run` fetches it
    if not os.access(existing, os.W_OK | os.X_OK):
        problem = f"{existing} cannot be written to"
        findings.append(Finding(problem, "set MIAOTUI_HOME to a folder of yours", fatal=not models))
    if free_bytes < LOW_DISK_BYTES:
        findings.append(
            Finding(f"{format_bytes(free_bytes)} are free at {existing}", "miaotui rm MODEL, or MIAOTUI_HOME")
        )
    return {"folder": str(folder), "models": models, "free_bytes": free_bytes}, findings


def _settings(config: Config) -> dict[str, Any]:
    shown = {name: getattr(config, name) for name in config.sources}
    return {
        name: {"value": str(value) if isinstance(value, Path) else value, "source": config.sources[name]}
        for name, value in shown.items()
    }


def _print(report: dict[str, Any], findings: list[Finding]) -> None:
    cpu, memory, store = report["cpu"], report["memory"], report["store"]
    if cpu:
        quota = f", quota {cpu['cgroup_quota']:g} CPUs" if cpu["cgroup_quota"] else ""
        pairs = [
            ("processor", cpu["model"]),
            ("instruction set", f"{cpu['tier']} (this machine runs {', '.join(cpu['tiers'])})"),
            ("threads", f"{cpu['threads']} of {cpu['affinity']} CPUs{quota}"),
        ]
        print_pairs("machine", [*pairs, ("memory", _of(memory))])
    print_pairs("software", [(name, text or "missing") for name, text in report["software"].items()])
    here = ", ".join(store["models"]) or "no models"
    print_pairs("models", [("folder", f"{store['folder']} ({format_bytes(store['free_bytes'])} free)"), ("here", here)])
    if tunings := report.get("tuning"):
        from miaotui.engine.tuning import Tuning, describe

        for row in tunings:
            print_pairs(f"tuned for this machine: {row['model']}", describe(Tuning(**row)))
    changed = [(n, f"{s['value']} ({s['source']})") for n, s in report["settings"].items() if s["source"] != "default"]
    if changed:
        print_pairs("settings", changed)
    print_pairs("to do" if findings else "all is well", [(f"{f.fix}", f.problem) for f in findings])


def _of(memory: dict[str, int]) -> str:
    return f"{format_bytes(memory['available_bytes'])} of {format_bytes(memory['total_bytes'])} available"
