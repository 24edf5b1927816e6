"""`maskdsl verify`: a spec against its definition, on random shapes and values."""
import click
@click.command()
def verify() -> None:
    """To come."""
