"""The command `xw`: the grid in a terminal.

Results on standard output, talk on standard error. Exit code 0: done; 1: the system refused, or a
work that was waited for failed; 2: the command line is wrong.
"""

from __future__ import annotations

import logging

import click

from desktopgrid.client.commands import (
    completion,
    delegate,
    doctor,
    identity,
    insert,
    lists,
    people,
    report,
    result,
    submit,
    works,
)
from desktopgrid.client.commands.shell import Shell, common_options
from desktopgrid.model.version import VERSION


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=common_options(),
    epilog="First: xw login --server https://HOST:PORT --ca FILE LOGIN. Then: xw apps, xw submit,"
    " xw wait, xw result.",
)
@click.version_option(VERSION, prog_name="xw")
@click.pass_context
def xw(context: click.Context) -> None:
    """Submit works to a desktop grid, and follow them."""
    context.ensure_object(Shell)


for command in (
    identity.login,
    identity.logout,
    identity.token,
    identity.passwd,
    insert.sendapp,
    insert.senddata,
    insert.getdata,
    submit.submit,
    works.works,
    works.tasks,
    works.wait,
    works.why,
    works.cancel,
    result.result,
    lists.hosts,
    lists.apps,
    lists.datas,
    lists.sessions,
    lists.groups,
    lists.stats,
    report.report,
    people.users,
    people.usergroups,
    people.tokens,
    people.senduser,
    people.moduser,
    people.sendusergroup,
    people.revoke,
    delegate.delegate,
    delegate.delegations,
    delegate.bridges,
    insert.validate,
    insert.sendsession,
    insert.sendgroup,
    insert.chmod,
    insert.rm,
    doctor.doctor,
    completion.completion,
):
    xw.add_command(command)


def main() -> None:
    """Run `xw`."""
    talk = logging.StreamHandler()
    talk.setFormatter(logging.Formatter("xw: %(message)s"))
    # Why a session ended is what the command ends with; no need to say it twice.
    talk.addFilter(lambda record: not record.getMessage().startswith("The link has ended"))
    logging.basicConfig(level=logging.WARNING, handlers=[talk])
    xw()


if __name__ == "__main__":
    main()
