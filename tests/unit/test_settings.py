"""Settings come from defaults, file, environment and flags, and say where a wrong one came from."""

from dataclasses import fields

import pytest

from clary.errors import ConfigurationError
from clary.settings import (
    RunnerSettings,
    Settings,
    dump_settings,
    load_settings,
    parse_settings,
    run_dir,
    settings_reference,
)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "clary.toml"
    file.write_text(
        """
        [server]
        port = 1111
        region = "eu-west-1"
        [gateway]
        header_timeout_s = 3
        [fleet.instance_type_quotas]
        "ml.g5.xlarge" = 2
        [[runners]]
        match = "my/*"
        runner = "command"
        command = ["serve", "--fast"]
        environment = {A = "1"}
        """
    )
    return file


def test_the_file_is_read(config):
    settings = load_settings({}, config_file=config)
    assert settings.server.port == 1111
    assert settings.gateway.header_timeout_s == 3.0
    assert settings.fleet.instance_type_quotas == {"ml.g5.xlarge": 2}
    assert settings.runners == (
        RunnerSettings(
            match="my/*",
            runner="command",
            command=("serve", "--fast"),
            environment={"A": "1"},
        ),
    )


def test_the_environment_beats_the_file_and_flags_beat_both(config):
    environ = {"CLARY_PORT": "2222", "CLARY_SERVER_REGION": "us-west-2", "CLARY_AUTH": "on"}
    settings = load_settings(environ, config_file=config, flags={("server", "port"): 3333})
    assert settings.server.port == 3333
    assert settings.server.region == "us-west-2"
    assert settings.auth_is_on


def test_a_flag_that_was_not_given_changes_nothing(config):
    settings = load_settings({}, config_file=config, flags={("server", "port"): None})
    assert settings.server.port == 1111


def test_lists_and_tables_can_stand_in_the_environment():
    environ = {
        "CLARY_SERVER_ALLOWED_HOSTS": "a.example, *.b.example",
        "CLARY_FLEET_INSTANCE_TYPE_QUOTAS": '{"ml.m5.large": 3}',
    }
    settings = load_settings(environ)
    assert settings.server.allowed_hosts == ("a.example", "*.b.example")
    assert settings.fleet.instance_type_quotas == {"ml.m5.large": 3}


def test_settings_survive_the_way_to_the_processes(config):
    settings = load_settings({}, config_file=config)
    assert parse_settings(dump_settings(settings)) == settings


@pytest.mark.parametrize(
    ("environ", "setting"),
    [
        ({"CLARY_PORT": "http"}, "server.port"),
        ({"CLARY_PORT": "70000"}, "server.port"),
        ({"CLARY_AUTH": "maybe"}, "server.auth"),
        ({"CLARY_SERVER_ACCOUNT": "123"}, "server.account"),
        ({"CLARY_SERVER_INSECURE": "perhaps"}, "server.insecure"),
        ({"CLARY_FLEET_STOP_TIMEOUT_S": "-1"}, "fleet.stop_timeout_s"),
        ({"CLARY_FLEET_INSTANCE_TYPE_QUOTAS": "many"}, "fleet.instance_type_quotas"),
    ],
)
def test_a_wrong_value_names_its_setting_and_where_it_came_from(environ, setting):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    assert caught.value.setting == setting
    assert next(iter(environ)) in str(caught.value)


def test_an_unknown_setting_in_the_file_is_an_error_that_lists_the_known_ones(tmp_path):
    file = tmp_path / "clary.toml"
    file.write_text("[gateway]\nmax_bodies = 1\n")
    with pytest.raises(ConfigurationError, match=r"gateway.max_bodies.*max_body_bytes"):
        load_settings({}, config_file=file)


@pytest.mark.parametrize("text", ["[server\n", 'server = "x"\n', "[server]\nport = '1'\n"])
def test_a_file_of_the_wrong_form_is_an_error(tmp_path, text):
    file = tmp_path / "clary.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError):
        load_settings({}, config_file=file)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_authentication(host):
    assert not load_settings({"CLARY_HOST": host}).auth_is_on


@pytest.mark.parametrize("auth", ["", "open"])
def test_another_address_needs_authentication_or_an_explicit_word(auth):
    environ = {"CLARY_HOST": "0.0.0.0", "CLARY_AUTH": auth}
    with pytest.raises(ConfigurationError, match="--insecure"):
        load_settings(environ)
    assert load_settings({**environ, "CLARY_AUTH": "on"}).auth_is_on
    assert load_settings(environ, flags={("server", "insecure"): True}).server.insecure


def test_sockets_lie_in_the_data_directory_unless_its_path_is_too_long(tmp_path):
    from pathlib import Path

    assert run_dir(Path("/home/me/.clary")) == Path("/home/me/.clary/run")
    deep = Path("/" + "d" * 100)
    assert len(str(run_dir(deep))) < 60
    assert run_dir(deep) == run_dir(deep) != run_dir(deep / "other")


def test_the_reference_lists_every_section():
    names = {name.partition(".")[0] for name, _, _ in settings_reference()}
    assert names == {section.name for section in fields(Settings)}


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("[sever]", "sever"),
        ("[server]\nprot = 1", "server.prot"),
        ("[server]\nport = 'many'", "server.port"),
        ("server = 5", "server"),
        ("[[server]]", "server"),
        ("[runners]\nmatch = 'x'", "runners"),
        ("[[runners]]\nmatch = 'x'\nrunner = 'magic'", "runners.0.runner"),
        ("[[runners]]\nmatch = 'x'\nrun = 'command'", "runners.0.run"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_file(tmp_path, text, setting):
    file = tmp_path / "clary.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings({"CLARY_SERVER_REGION": "eu-west-1"}, config_file=file)
    assert refused.value.setting == setting
    assert refused.value.source == str(file)
