"""The engine itself, plugins, swarm as far as it goes, and the words of errors."""

import json

import docker
import pytest
from kit import BASE, archive
from normal import shape

# What an environment is: its name, its size, and the machine's moment.
OWN = {"ID", "Name", "SystemTime", "NFd", "NGoroutines", "NEventsListener", "MemTotal", "NCPU", "Images"}


def test_ping(api, record):
    record(api.ping())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/_ping", "/v1.24/_ping"])
def test_ping_by_path(api, record, method, path):
    answer = api.request(method, f"{api.base_url}{path}")
    record([answer.status_code, answer.text, sorted(answer.headers)])


def test_version(api, record):
    record(api.version())


def test_version_without_a_prefix(api, record):
    record(api.version(api_version=False))


@pytest.mark.parametrize("version", ["1.12", "1.18", "1.24", "1.30", "1.40", "1.41"])
def test_any_version_in_the_path_is_kept(api, record, version):
    answer = api.get(f"{api.base_url}/v{version}/containers/json")
    record([answer.status_code, answer.text])


@pytest.mark.parametrize("version", ["1.99", "1.11", "0.1", "2.0"])
def test_a_version_that_the_engine_does_not_speak_is_refused_in_its_words(api, record, version):
    answer = api.get(f"{api.base_url}/v{version}/containers/json")
    record([answer.status_code, answer.text])


def test_info(api, record):
    record({key: value for key, value in api.info().items() if key not in OWN})


def test_info_counts_containers(kit, api, record):
    kit.sleeper()
    kit.finished("true")
    told = api.info()
    record([told[key] for key in ("Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped")])


def test_disk_usage(kit, api, record):
    kit.finished("true", binds=["disk:/d"])
    told = api.df()
    record([sorted(told), [sorted(each) for each in told["Images"]], [sorted(each) for each in told["Volumes"]]])


def test_a_login_without_a_registry_fails_in_the_engines_words(kit, api):
    kit.refused(api.login, "user", "secret", registry="127.0.0.1:1", reauth=True)


def test_a_login_with_a_broken_body_is_refused(api, record):
    answer = api.post(f"{api.base_url}/v1.41/auth", data="nonsense", headers={"Content-Type": "application/json"})
    record([answer.status_code, answer.text])


def test_plugins_are_listed(api, record):
    record(api.plugins())


def test_an_unknown_plugin_is_not_found(kit, api):
    assert kit.refused(api.inspect_plugin, "nothing")[0] == 404
    kit.refused(api.remove_plugin, "nothing")
    kit.refused(api.enable_plugin, "nothing", timeout=1)
    kit.refused(api.disable_plugin, "nothing")


def test_privileges_of_an_unreachable_plugin(kit, api):
    kit.told(api.plugin_privileges, "127.0.0.1:1/plugin:1")


def test_a_plugin_made_of_next_to_nothing(kit, api, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "rootfs").mkdir()
    kit.told(api.create_plugin, "made:1", str(tmp_path))
    kit.told(api.inspect_plugin, "made:1")
    kit.told(api.enable_plugin, "made:1", timeout=1)
    kit.told(api.remove_plugin, "made:1", force=True)


@pytest.mark.parametrize(
    "call",
    [
        "inspect_swarm", "nodes", "services", "tasks", "secrets", "configs", "inspect_node", "inspect_service", "inspect_task",
        "inspect_secret", "inspect_config", "remove_node", "remove_service", "remove_secret", "remove_config", "leave_swarm",
        "get_unlock_key", "service_logs",
    ],
)
def test_outside_of_a_swarm(kit, api, call):
    arguments = ["x"] if call.startswith(("inspect_", "remove_", "service_logs")) and call != "inspect_swarm" else []
    kit.refused(getattr(api, call), *arguments)


def test_making_things_outside_of_a_swarm(kit, api):
    kit.refused(api.create_secret, "name", b"data")
    kit.refused(api.create_config, "name", b"data")
    kit.refused(api.unlock_swarm, "SWMKEY-1-x")
    kit.refused(api.join_swarm, ["127.0.0.1:1"], "SWMTKN-1-x")
    template = docker.types.TaskTemplate(docker.types.ContainerSpec(BASE, ["true"]))
    kit.refused(api.create_service, template, name="s")


def test_a_swarm_as_far_as_the_engine_offers_it(api, record):
    try:
        api.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    except docker.errors.APIError as error:
        record([error.status_code, error.explanation])
        return
    try:
        record(sorted(api.inspect_swarm()))
        record([[node["Spec"]["Role"], node["Status"]["State"]] for node in api.nodes()])
        secret = api.create_secret("secret", b"data", labels={"a": "b"})
        record([sorted(secret), api.inspect_secret(secret)["Spec"], [each["Spec"]["Name"] for each in api.secrets()]])
        config = api.create_config("config", b"data")
        record([sorted(config), api.inspect_config(config)["Spec"]])
        template = docker.types.TaskTemplate(docker.types.ContainerSpec(BASE, ["true"]))
        service = api.create_service(template, name="service", mode=docker.types.ServiceMode("replicated", 0))
        record([sorted(service), [each["Spec"]["Name"] for each in api.services()], api.tasks()])
        told = api.inspect_service("service")
        record(api.update_service("service", told["Version"]["Index"], name="service", labels={"new": "yes"}, task_template=template))
        record(api.remove_service("service"))
        record([api.remove_secret(secret), api.remove_config(config)])
    finally:
        record(api.leave_swarm(force=True))


UNKNOWN = "nobody"


@pytest.mark.parametrize(
    "call, arguments",
    [
        ("inspect_container", []), ("start", []), ("stop", []), ("kill", []), ("restart", []), ("pause", []), ("unpause", []),
        ("remove_container", []), ("logs", []), ("top", []), ("diff", []), ("wait", []), ("port", [80]), ("rename", ["new"]),
        ("update_container", []), ("resize", [1, 1]), ("exec_create", ["true"]), ("get_archive", ["/"]),
        ("put_archive", ["/", b""]), ("export", []), ("commit", []), ("attach", []),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_call_to_an_unknown_container_is_not_found(kit, api, call, arguments):
    method = getattr(api, call)
    ask = (lambda: list(api.export(UNKNOWN))) if call == "export" else (lambda: method(UNKNOWN, *arguments))
    assert kit.refused(ask)[0] == 404


def test_stats_of_an_unknown_container_are_not_found(kit, api):
    assert kit.refused(api.stats, UNKNOWN, stream=False)[0] == 404


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("POST", "/containers/create", "{"),
        ("POST", "/containers/create", ""),
        ("POST", "/containers/create", "[]"),
        ("POST", "/containers/create", "null"),
        ("POST", "/containers/create", '{"Image": 5}'),
        ("POST", "/containers/create", '{"Image": "conformance:base", "HostConfig": "x"}'),
        ("POST", "/containers/create", '{"Image": "conformance:base", "Cmd": ["true"]} trailing'),
        ("POST", "/containers/create", '{"Image": "conformance:base", "HostConfig": {"Mounts": [{"Type": "volume"}]}}'),
        ("POST", "/containers/create", '{"Image": "conformance:base", "HostConfig": {"Mounts": [{"Type": "nonsense", "Target": "/x"}]}}'),
        ("POST", "/containers/create", '{"Image": "conformance:base", "Cmd": ["true"], "HostConfig": {"Binds": ["relative/path:/x"]}}'),
        ("POST", "/containers/create", '{"Image": "conformance:base", "Cmd": ["true"], "HostConfig": {"Binds": ["v:relative"]}}'),
        ("POST", "/containers/create", '{"Image": "conformance:base", "HostConfig": {"Memory": 1}}'),
        ("POST", "/networks/create", "{"),
        ("POST", "/networks/create", "{}"),
        ("POST", "/volumes/create", "{"),
        ("POST", "/volumes/create", "[1]"),
        ("POST", "/exec/x/start", "{"),
        ("POST", "/nonsense", "{}"),
        ("GET", "/nonsense", None),
        ("GET", "/containers/json?filters=nonsense", None),
        ("GET", "/containers/json?limit=x", None),
        ("GET", "/containers/json?all=maybe", None),
        ("GET", "/images/json?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", None),
        ("GET", "/volumes?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", None),
        ("GET", "/networks?filters=%7B%22x%22%3A%5B%22y%22%5D%7D", None),
        ("DELETE", "/containers/json", None),
        ("PUT", "/containers/create", "{}"),
        ("PATCH", "/info", None),
        ("OPTIONS", "/info", None),
        ("TRACE", "/info", None),
        ("GET", "/images/search", None),
        ("GET", "/containers/a%2Fb/json", None),
        ("GET", "/containers//json", None),
        ("GET", "//_ping", None),
        ("GET", "/containers/../info", None),
        ("GET", "/", None),
        ("POST", "/images/create?fromImage=", None),
        ("POST", "/build?remote=nonsense", ""),
    ],
)
def test_an_odd_request_gets_the_engines_own_answer(api, plain, record, method, path, body):
    if body and path in ("/containers/create", "/volumes/create"):
        if not is_json(body):
            record.by_design("a body that Overside has to look at and cannot read is refused, in Overside's words")
    for prefix in ("/v1.41", ""):
        answer = api.request(
            method, f"{api.base_url}{prefix}{path}", data=body, allow_redirects=False,
            headers={"Content-Type": "application/json"} if body is not None else {},
        )
        record([answer.status_code, answer.text])


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_a_body_without_its_type_is_refused_or_taken_as_the_engine_does(api, record):
    answer = api.post(f"{api.base_url}/v1.41/containers/create", data='{"Image": "conformance:base"}')
    record([answer.status_code, answer.text])


def test_unknown_members_of_a_body_pass_through(api, record):
    body = {"Image": BASE, "Cmd": ["true"], "FutureMember": {"a": [1, 2]}, "HostConfig": {"FutureOption": True}}
    answer = api.post(f"{api.base_url}/v1.41/containers/create", json=body)
    record([answer.status_code, sorted(answer.json())])


def test_large_numbers_and_unicode_in_a_body_are_kept(api, record):
    body = {"Image": BASE, "Cmd": ["true"], "Labels": {"ключ": "значение ☃", "quote": "\"<>&\u2028"}, "HostConfig": {"Memory": 6442450944}}
    identifier = api.post(f"{api.base_url}/v1.41/containers/create", json=body).json()["Id"]
    told = api.inspect_container(identifier)
    record([told["Config"]["Labels"], told["HostConfig"]["Memory"]])


def test_the_shape_of_an_image_list_is_kept(api, record):
    record(shape(api.images()))


def test_a_header_of_credentials_does_not_disturb(api, record):
    import base64
    import json

    configs = {f"registry{number}.invalid": {"username": "u", "password": "p" * 200} for number in range(200)}
    header = base64.b64encode(json.dumps(configs).encode()).decode()
    assert len(header) > 60_000
    answer = api.post(
        f"{api.base_url}/v1.41/build?rm=1", data=archive({"Dockerfile": f"FROM {BASE}\n"}),
        headers={"X-Registry-Config": header, "Content-Type": "application/x-tar"},
    )
    record([answer.status_code, answer.text.count("stream")])
