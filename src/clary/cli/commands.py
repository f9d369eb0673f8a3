"""What can be typed: every command with its arguments, its help, and nothing else.

The module that does a command's work is imported when it runs. `docs/cli.md` is made from here.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clary import __version__

app = typer.Typer(
    name="clary",
    help="A self-hosted server that speaks the AWS SageMaker inference APIs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys_app = typer.Typer(
    help="Access keys of this server: who may use it when authentication is on.",
    no_args_is_help=True,
)
app.add_typer(keys_app, name="keys")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Directory that holds everything durable.", metavar="DIR"),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file (TOML).", metavar="FILE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EndpointName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the endpoint.")]


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port. 0 takes a free one.")] = None,
    data_dir: DataDir = None,
    config: Config = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Allow other addresses than loopback without authentication. "
            "Whoever reaches the port can run code as you.",
        ),
    ] = False,
) -> None:
    """Start the server. Ctrl-C stops it and every process of it."""
    settings = _settings(data_dir, config, host=host, port=port, insecure=insecure or None)
    from clary.app import start_server

    start_server(settings)


@app.command()
def env(
    data_dir: DataDir = None,
    config: Config = None,
    shell: Annotated[
        str, typer.Option(help="What the lines are for: sh, fish or powershell.")
    ] = "sh",
) -> None:
    """Print the lines that point AWS clients at this server: `eval "$(clary env)"`."""
    from clary.cli import local
    from clary.cli import shell as shells

    if shell not in shells.SHELLS:
        raise typer.BadParameter(f"{shell!r} is not one of {', '.join(shells.SHELLS)}")
    sys.stdout.write(shells.script(local.variables(_settings(data_dir, config)), shell))


@app.command()
def deploy(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A directory with `inference.py` or a server, or a finished `model.tar.gz`.",
            exists=True,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the endpoint. [default: the directory's name]")
    ] = None,
    instances: Annotated[int, typer.Option(help="How many instances.", min=1, metavar="N")] = 1,
    instance_type: Annotated[
        str, typer.Option(help="Instance type.", metavar="TYPE")
    ] = "ml.m5.large",
    serverless: Annotated[
        bool,
        typer.Option("--serverless", help="No instance: workers from zero by the first call."),
    ] = False,
    memory: Annotated[
        int, typer.Option(help="Memory of a serverless worker, in MB.", metavar="MB")
    ] = 2048,
    max_concurrency: Annotated[
        int, typer.Option(help="Most calls at once of a serverless endpoint.", metavar="N")
    ] = 5,
    image: Annotated[
        str, typer.Option(help="Image URI, looked up in the image table. [default: as needed]")
    ] = "",
    variables: Annotated[
        list[str] | None,
        typer.Option("--env", help="Variable of the container; repeat it.", metavar="KEY=VALUE"),
    ] = None,
    asgi: Annotated[
        str,
        typer.Option("--app", help="ASGI application of a server of your own.", metavar="MOD:ATTR"),
    ] = "",
    command: Annotated[
        str, typer.Option(help="Command that starts a server on $SAGEMAKER_BIND_TO_PORT.")
    ] = "",
    wait: Annotated[bool, typer.Option(help="Wait until the endpoint serves.")] = True,
    watch: Annotated[
        bool, typer.Option("--watch", help="Deploy again whenever a file changes.")
    ] = False,
) -> None:
    """Make an endpoint of a directory, or update the endpoint of that name."""
    from clary.cli import deploying, deployment

    if asgi and command:
        raise typer.BadParameter("give --app or --command, not both")
    if serverless and instances != 1:
        raise typer.BadParameter("give --serverless or --instances, not both")
    if watch and not wait:
        raise typer.BadParameter("--watch waits for each deployment; leave out --no-wait")
    wanted = deployment.Deployment(
        source=source,
        name=name or deployment.endpoint_name(source),
        instances=instances,
        instance_type=instance_type,
        serverless=(
            deployment.Serverless(memory_mb=memory, max_concurrency=max_concurrency)
            if serverless
            else None
        ),
        image=image,
        environment=deployment.parse_variables(variables or []),
        app=asgi,
        command=command,
    )
    if watch:
        from clary.cli import watching

        watching.deploy_on_change(_api(), wanted)
    else:
        deploying.deploy_and_report(_api(), wanted, wait=wait)


@app.command()
def invoke(
    name: EndpointName,
    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", help="The body: text, `@file`, or `-` for standard input.", metavar="D"
        ),
    ] = "",
    content_type: Annotated[
        str | None,
        typer.Option(help="Type of the body. [default: by the file's name, else JSON]"),
    ] = None,
    accept: Annotated[str | None, typer.Option(help="Type of the answer to ask for.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the answer to a file.")
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(help="Inference component of the endpoint that takes it.", metavar="C"),
    ] = None,
    asynchronous: Annotated[
        bool,
        typer.Option(
            "--async",
            help="Put the call into an asynchronous endpoint's queue; print where the answer will "
            "be. D may be `s3://bucket/key`, too.",
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="With --async: show where the call is, and print the answer when it is there.",
        ),
    ] = False,
) -> None:
    """Send one request to an endpoint and print the answer."""
    if asynchronous:
        if component is not None:
            raise typer.BadParameter("--component cannot be used with --async")
        from clary.cli import invoking_async

        invoking_async.invoke_async(
            _api(),
            name,
            data,
            content_type=content_type,
            accept=accept,
            output=output,
            wait=wait or output is not None,
        )
        return
    if wait:
        raise typer.BadParameter("--wait is for calls with --async")
    from clary.cli import invoking

    invoking.invoke(
        _api(),
        name,
        data,
        content_type=content_type,
        accept=accept,
        output=output,
        component=component,
    )


@app.command("ls")
def list_endpoints(as_json: AsJson = False) -> None:
    """List the endpoints."""
    from clary.cli import showing

    showing.list_endpoints(_api(), as_json=as_json)


@app.command()
def describe(name: EndpointName, as_json: AsJson = False) -> None:
    """Show an endpoint: status, variants, instances, and the reason of a failure."""
    from clary.cli import showing

    showing.describe(_api(), name, as_json=as_json)


@app.command()
def logs(
    name: EndpointName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", help="How many of the last lines.", min=0)
    ] = 100,
    variant: Annotated[str | None, typer.Option(help="Of this variant only.")] = None,
    instance: Annotated[str | None, typer.Option(help="Of this instance only.")] = None,
) -> None:
    """Print the log of an endpoint: what its handler or server writes."""
    from clary.cli import showing

    showing.logs(_api(), name, follow=follow, lines=lines, variant=variant, instance=instance)


@app.command()
def transform(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    source: Annotated[str, typer.Argument(metavar="INPUT", help="s3:// prefix of the input.")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="s3:// path of the output.")],
    name: Annotated[str | None, typer.Option(help="Name of the job.")] = None,
    instances: Annotated[int, typer.Option(help="Instances that share the files.", min=1)] = 1,
    instance_type: Annotated[str, typer.Option(help="What they are.")] = "ml.m5.large",
    content_type: Annotated[str | None, typer.Option(help="Of requests.")] = None,
    accept: Annotated[str | None, typer.Option(help="Of answers.")] = None,
    split: Annotated[str, typer.Option(help="None, Line, RecordIO or TFRecord.")] = "Line",
    strategy: Annotated[
        str | None, typer.Option(help="MultiRecord or SingleRecord.", metavar="STRATEGY")
    ] = None,
    payload: Annotated[
        int | None, typer.Option(help="Most MB of a request; 0: whole files.", min=0)
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Open requests of each instance.", min=1)
    ] = None,
    input_filter: Annotated[str | None, typer.Option(help="What the model gets.")] = None,
    output_filter: Annotated[str | None, typer.Option(help="What is written.")] = None,
    join: Annotated[bool, typer.Option("--join", help="Write input and answer.")] = False,
    wait: Annotated[bool, typer.Option(help="Show progress until it has ended.")] = True,
) -> None:
    """Run every object under a prefix through a model (a batch transform job)."""
    from clary.cli import transforming

    options = {
        "instances": instances,
        "instance_type": instance_type,
        "content_type": content_type,
        "accept": accept,
        "split": split,
        "strategy": strategy,
        "payload": payload,
        "concurrency": concurrency,
        "input_filter": input_filter,
        "output_filter": output_filter,
        "join": join,
    }
    request = transforming.job_request(
        name=name, model=model, source=source, output=output, options=options
    )
    transforming.transform(_api(), request, wait=wait)


@app.command("rm")
def remove(name: EndpointName) -> None:
    """Delete an endpoint, and the model and configuration that `deploy` made for it."""
    from clary.cli import endpoints

    for thing in endpoints.remove(_api(), name):
        typer.echo(f"deleted {thing}")


@app.command()
def demo() -> None:
    """Show it all: train a model, deploy it with plain boto3, deploy a server, clean up."""
    from clary.cli import demo as demonstration

    demonstration.run()


@app.command()
def doctor(data_dir: DataDir = None, config: Config = None) -> None:
    """Check this machine and the server, and say what to do about what is wrong."""
    from clary.cli import doctor as checks

    checks.run(_settings(data_dir, config))


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        from clary.cli import output

        output.print_json({"clary": __version__, "python": sys.version.split()[0]})
    else:
        typer.echo(f"clary {__version__}")


@keys_app.command("create")
def create_key(
    principal: Annotated[
        str, typer.Option("--for", help="Who the key is for, as it shows in logs.", metavar="WHO")
    ] = "root",
    data_dir: DataDir = None,
) -> None:
    """Make an access key and print it."""
    from clary.cli import local

    local.create_key(_settings(data_dir, None), principal)


@keys_app.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """List the access keys, without their secrets."""
    from clary.cli import local

    local.list_keys(_settings(data_dir, None))


@keys_app.command("delete")
def delete_key(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="Access key id.")],
    data_dir: DataDir = None,
) -> None:
    """Delete an access key. Requests signed with it are refused from then on."""
    from clary.cli import local

    local.delete_key(_settings(data_dir, None), key_id)


def _settings(data_dir: Path | None, config: Path | None, **server: Any) -> Any:
    from clary.settings import load_settings

    flags = {"data_dir": str(data_dir) if data_dir else None, **server}
    return load_settings(
        os.environ,
        config_file=config,
        flags={("server", name): value for name, value in flags.items()},
    )


def _api() -> Any:
    from clary.cli.api import Api

    return Api()
