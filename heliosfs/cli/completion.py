"""heliosfs completion: what a shell needs to complete our commands."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL, which completes commands, options, paths, and names of snapshots and
    branches.

    \b
    bash:  heliosfs completion bash >> ~/.bashrc
    zsh:   heliosfs completion zsh >> ~/.zshrc
    fish:  heliosfs completion fish > ~/.config/fish/completions/heliosfs.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root().command
    click.echo(kind(root, {}, "heliosfs", "_HELIOSFS_COMPLETE").source())
