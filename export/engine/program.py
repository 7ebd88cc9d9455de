"""Several commands behind one program whose usual command needs no name."""

from __future__ import annotations

import click


class DefaultCommand(click.Command):
    """The command that is meant where none is named; shows itself without a name of its own."""

    others: tuple[str, ...] = ()

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """``program [OPTIONS] [CHECKPOINT]``, and the commands with names."""
        program = ctx.find_root().info_name or "sparse-detr-export"
        formatter.write_usage(program, " ".join(self.collect_usage_pieces(ctx)))
        formatter.write_usage(program, f"{'|'.join(self.others)} [OPTIONS] …", prefix="       ")


class DefaultGroup(click.Group):
    """A group whose first command is run where the first word is none of its commands' names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the usual command before arguments without one."""
        default, *others = self.commands
        if not args or args[0] not in self.commands:
            args = [default, *args]
            command = self.commands[default]
            assert isinstance(command, DefaultCommand)
            command.others = tuple(others)
        return super().parse_args(ctx, args)
