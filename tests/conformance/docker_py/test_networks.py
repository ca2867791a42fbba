"""Networks."""

import concurrent.futures

import docker
import pytest


def test_the_three_networks_of_a_fresh_engine(api, record):
    record(sorted([each["Name"], each["Driver"], each["Scope"]] for each in api.networks()))


def test_an_inspection_has_all_members(api, record):
    network = api.create_network("inspected", labels={"a": "b"}, options={"com.docker.network.bridge.name": "cf0"})
    told = api.inspect_network(network["Id"])
    told.pop("IPAM")
    record([network, told])


def test_with_addresses_of_ones_own(api, record):
    pool = docker.types.IPAMPool(subnet="10.77.0.0/24", gateway="10.77.0.1", iprange="10.77.0.128/25")
    api.create_network("addressed", ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    record(api.inspect_network("addressed")["IPAM"]["Config"] is not None)


def test_overlapping_addresses_are_refused(kit, api):
    ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.78.0.0/24")])
    api.create_network("first", ipam=ipam)
    kit.refused(api.create_network, "second", ipam=ipam)


def test_a_network_of_the_same_name_is_a_conflict(kit, api):
    api.create_network("single")
    assert kit.refused(api.create_network, "single", check_duplicate=True)[0] == 409


def test_unknown_drivers_of_networks_volumes_and_logs_are_refused(kit, api, record):
    """All at once: the engine looks for each of them for fifteen seconds."""
    calls = [
        (api.create_network, ["strange"], {"driver": "nonsense"}),
        (api.create_volume, ["strange"], {"driver": "nonsense"}),
        (kit.run, [], {"log_config": {"Type": "nonsense", "Config": {}}}),
    ]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        record(list(threads.map(lambda call: kit.refusal(call[0], *call[1], **call[2]), calls)))


@pytest.mark.parametrize("options", [{"internal": True}, {"attachable": True}, {"enable_ipv6": False}], ids=lambda o: "-".join(o))
def test_options_are_kept(api, record, options):
    network = api.create_network("optional", **options)
    told = api.inspect_network(network["Id"])
    record([told["Internal"], told["Attachable"], told["EnableIPv6"]])


def test_containers_find_each_other_by_name_and_alias(kit, api, record):
    api.create_network("meeting")
    config = api.create_networking_config({"meeting": api.create_endpoint_config(aliases=["nick"])})
    server = kit.create(
        ["sh", "-c", "while :; do echo served | nc -l -p 7000; done"], name="server", networking_config=config, network_mode="meeting"
    )
    api.start(server)
    client = kit.finished(
        "for n in server nick; do for i in 1 2 3 4 5 6 7 8 9; do nc $n 7000 </dev/null | grep served && break; sleep 0.2; done; done",
        network_mode="meeting",
    )
    record(api.logs(client, stderr=False))
    record(sorted(name for name in api.inspect_container(server)["NetworkSettings"]["Networks"]["meeting"]["Aliases"]))


def test_connect_and_disconnect(kit, api, record):
    api.create_network("later")
    container = kit.sleeper(name="guest")
    api.connect_container_to_network(container, "later", aliases=["visitor"])
    record(sorted(api.inspect_container(container)["NetworkSettings"]["Networks"]))
    record([each["Name"] for each in api.inspect_network("later")["Containers"].values()])
    api.disconnect_container_from_network(container, "later")
    record(sorted(api.inspect_container(container)["NetworkSettings"]["Networks"]))


def test_connect_with_a_fixed_address(kit, api, record):
    pool = docker.types.IPAMPool(subnet="10.79.0.0/24")
    api.create_network("fixed", ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    container = kit.sleeper()
    api.connect_container_to_network(container, "fixed", ipv4_address="10.79.0.99")
    told = api.inspect_container(container)["NetworkSettings"]["Networks"]["fixed"]["IPAddress"]
    assert told == "10.79.0.99"
    record("as asked for")


def test_connect_twice_is_refused(kit, api):
    api.create_network("once")
    container = kit.sleeper(name="twice")
    api.connect_container_to_network(container, "once")
    kit.refused(api.connect_container_to_network, container, "once")


def test_disconnect_of_a_stranger_is_refused(kit, api):
    api.create_network("lonely")
    kit.refused(api.disconnect_container_from_network, kit.sleeper(name="stranger"), "lonely")


def test_connect_to_an_unknown_network_is_not_found(kit, api):
    assert kit.refused(api.connect_container_to_network, kit.sleeper(), "nowhere")[0] == 404


def test_remove_of_a_network_in_use_is_refused(kit, api):
    api.create_network("used")
    kit.run(["sleep", "100"], network_mode="used", name="user")
    assert kit.refused(api.remove_network, "used")[0] == 403
    api.remove_container("user", force=True)


def test_remove_of_a_predefined_network_is_refused(kit, api):
    assert kit.refused(api.remove_network, "bridge")[0] == 403


def test_remove_of_an_unknown_network_is_not_found(kit, api):
    assert kit.refused(api.remove_network, "nowhere")[0] == 404
    assert kit.refused(api.inspect_network, "nowhere")[0] == 404


def test_removed_it_is_gone(kit, api, record):
    api.create_network("short")
    api.remove_network("short")
    kit.refused(api.inspect_network, "short")


def test_prune(api, record):
    api.create_network("unused")
    record(api.prune_networks())


@pytest.mark.parametrize(
    "filters", [{"driver": "bridge"}, {"type": "custom"}, {"name": "fil"}, {"label": "z"}, {"scope": "local"}, {"dangling": "true"}],
    ids=lambda filters: "-".join(filters),
)
def test_list_with_a_filter(api, record, filters):
    api.create_network("filtered", labels={"z": ""})
    record(sorted(each["Name"] for each in api.networks(filters=filters)))


def test_list_with_names_and_ids(api, record):
    identifier = api.create_network("listed")["Id"]
    record([len(api.networks(names=["listed"])), len(api.networks(ids=[identifier]))])


def test_no_network_at_all(kit, api, record):
    record(api.logs(kit.finished("ls /sys/class/net", network_mode="none")))


def test_the_network_of_another_container(kit, api, record):
    other = kit.sleeper(hostname="shared")
    record(api.logs(kit.finished("hostname", network_mode=f"container:{other}")))


def test_the_verbose_inspection(api, record):
    record(sorted(api.inspect_network("bridge", verbose=True)))
