"""The command line of the audit database: `snellen keys …` and `snellen audit-log …`. It computes nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snellen.console import told
from snellen.core.errors import SnellenError, UsageError
from snellen.core.letters import show_name
from snellen.help_texts import LiteralHelp

if TYPE_CHECKING:
    from snellen.serve.audit_check import AuditReport
    from snellen.serve.audit_rows import ApiKey

keys_app = LiteralHelp(help="API keys of `snellen serve`.\n\nExample: snellen keys list", no_args_is_help=True)
audit_log_app = LiteralHelp(
    help="The audit log of `snellen serve`.\n\nExample: snellen audit-log verify", no_args_is_help=True
)
Db = Annotated[
    str | None,
    typer.Option(
        help="sqlite:///FILE, a file, or postgresql+psycopg://…; as `snellen serve` was told. "
        "[default: $SNELLEN_DB, else a file in the user's data folder]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Since = Annotated[str | None, typer.Option(help="Not before this day or time, such as 2026-01-31; UTC.")]
Until = Annotated[str | None, typer.Option(help="Before this day or time.")]


@keys_app.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is, such as a program or a person; the log names it.")],
    role: Annotated[str, typer.Option(help="predict, read (the history) or admin (everything).")],
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret: once, because only a hash of it is kept.

    Example: snellen keys add viewer --role predict
    """
    with told():
        from snellen.serve import upkeep
        from snellen.serve.audit_rows import ROLES

        known = {known: known for known in ROLES}
        if role not in known:
            raise UsageError(f"--role {role}: there is no such role.", f"Roles: {', '.join(known)}.")
        with upkeep.open_or_begin(db) as store:
            key, secret = store.add_key(name, known[role])
        if as_json:
            typer.echo(json.dumps({**_describe_key(key), "secret": secret}))
            return
        typer.echo(
            f"Key {key.key_id} of {show_name(key.name)}, role {key.role}. Its secret, shown this once:", err=True
        )
        typer.echo(secret)


@keys_app.command("list")
def keys_list(db: Db = None, as_json: AsJson = False) -> None:
    """All keys, revoked ones too.

    Example: snellen keys list
    """
    with told():
        from snellen.serve import upkeep

        with upkeep.open_existing(db) as store:
            keys = [_describe_key(key) for key in store.list_keys()]
        if as_json:
            typer.echo(json.dumps(keys))
            return
        rows = [("key", "name", "role", "made", "revoked")]
        rows += [(key["key_id"], show_name(key["name"]), key["role"], key["created"], key["revoked"]) for key in keys]
        widths = [max(len(row[column] or "") for row in rows) for column in range(4)]
        for row in rows:
            line = "  ".join((cell or "").ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            typer.echo(line.rstrip())


@keys_app.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the key.")], db: Db = None, as_json: AsJson = False
) -> None:
    """Refuse a key from now on: a running server does within two seconds.

    Example: snellen keys revoke viewer
    """
    with told():
        from snellen.serve import upkeep

        with upkeep.open_existing(db) as store:
            key = store.revoke_key(name)
        if as_json:
            typer.echo(json.dumps(_describe_key(key)))
        else:
            typer.echo(f"Key {key.key_id} of {show_name(key.name)} is revoked.")


@audit_log_app.command("verify")
def audit_log_verify(
    db: Db = None,
    anchor: Annotated[
        Path | None, typer.Option(help="A copy of the .head file, kept elsewhere, that must hold too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read the whole log and compute every MAC anew. Exit code 2 where a row was changed, removed, added or cut off.

    Example: snellen audit-log verify
    """
    with told():
        from snellen.serve import upkeep

        report = upkeep.verify_log(db, anchor)
        if as_json:
            typer.echo(report.to_json(), nl=False)
        else:
            _show_report(report)
        if report.problems:
            where = "" if report.first_bad_row is None else f", the first at row {report.first_bad_row}"
            raise SnellenError(
                f"{report.database}: the audit log does not hold: {report.n_problems} problem(s){where}.",
                "Keep the database as it is, find out who could write to it, and compare with a backup.",
                code="audit_log_broken",
            )


@audit_log_app.command("purge")
def audit_log_purge(
    db: Db = None,
    before: Annotated[str | None, typer.Option(help="Remove what is older than this day or time; UTC.")] = None,
    keep_days: Annotated[int | None, typer.Option(help="Or: remove what is older than so many days.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Remove old predictions for good. A signed tombstone stays, so that the rest can still be verified.

    Example: snellen audit-log purge --keep-days 3650
    """
    with told():
        from snellen.serve import upkeep

        if (before is None) == (keep_days is None):
            raise UsageError("One of --before and --keep-days is needed.", "Example: --keep-days 3650")
        end = datetime.now(UTC) - timedelta(days=keep_days) if keep_days else _parse_time(before, "--before")
        if end is None:
            raise UsageError("--before names no time.")
        with upkeep.open_existing(db) as store:
            done = store.purge(end)
        if as_json:
            typer.echo(json.dumps({"n_rows": done.n_rows, "last": done.last, "n_images": done.n_images}))
        else:
            images = f" and {done.n_images} kept pictures" if done.n_images else ""
            typer.echo(f"{done.n_rows} rows{images} removed; the log begins behind row {done.last} now.")


@audit_log_app.command("export")
def audit_log_export(
    out: Annotated[Path, typer.Option(help="A new CSV file.")],
    db: Db = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write predictions to a CSV, newest first; for example before they are purged.

    Example: snellen audit-log export --out 2026.csv --since 2026-01-01 --until 2027-01-01
    """
    with told():
        from snellen.serve import upkeep

        n_rows = upkeep.export_log(db, out, _parse_time(since, "--since"), _parse_time(until, "--until"))
        typer.echo(f"{n_rows} predictions written to {out}")


@audit_log_app.command("backup")
def audit_log_backup(
    out: Annotated[Path, typer.Option(help="A new file.")],
    db: Db = None,
) -> None:
    """Copy a SQLite log as it is at this moment; the server may go on. Keep the .key and .head files too.

    Example: snellen audit-log backup --out backup.db
    """
    with told():
        from snellen.serve import upkeep

        upkeep.backup_log(db, out)
        typer.echo(f"Written to {out}")


@audit_log_app.command("accept")
def audit_log_accept(
    reason: Annotated[str, typer.Option(help="Why rows are missing; it stays in the log.")],
    db: Db = None,
) -> None:
    """Go on with a log that is older than its anchor, after a backup was restored. Stop the server first.

    Example: snellen audit-log accept --reason "restored the backup of 31 January"
    """
    with told():
        from snellen.serve import upkeep

        n_rows = upkeep.accept_log(db, reason)
        typer.echo(
            f"The log goes on from row {n_rows}, which says so. `snellen audit-log verify` will tell it as a note."
        )


def _parse_time(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text}: that is no day or time.", "Example: 2026-01-31 or 2026-01-31T08:30"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _describe_key(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "role": key.role,
        "created": key.created.isoformat(timespec="seconds"),
        "revoked": key.revoked.isoformat(timespec="seconds") if key.revoked else None,
    }


def _show_report(report: AuditReport) -> None:
    if report.n_rows:
        rows = f"{report.n_rows} rows ({report.n_predictions} predictions), from {report.first} to {report.last}"
    else:
        rows = "no rows"
    purged = f"; {report.purged} before them were purged" if report.purged else ""
    anchored = "; not anchored" if report.anchored is None else f"; anchored at row {report.anchored}"
    typer.echo(f"{report.database}: {rows}{purged}{anchored}")
    for note in report.notes:
        typer.echo(f"  Note: {show_name(note)}")
    for problem in report.problems:
        typer.echo(f"  {problem.code}: {show_name(problem.message)}")
    if report.n_problems > len(report.problems):
        typer.echo(f"  … and {report.n_problems - len(report.problems)} more")
    if not report.problems:
        typer.echo("The chain holds.")
