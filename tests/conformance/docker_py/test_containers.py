"""Containers from their making to their end."""

import time

import docker
import pytest
from kit import BASE, raw, read_until, unpack, wait_for
from normal import shape


def inspected(api, container):
    """What an inspection tells that is the same for every engine."""
    told = api.inspect_container(container)
    for key in ("Id", "LogPath", "ResolvConfPath", "HostnamePath", "HostsPath", "GraphDriver", "Created", "Image"):
        assert key in told
        told.pop(key)
    return told


def test_a_created_container_is_inspected_with_all_members(kit, api, record):
    record(inspected(api, kit.create(["echo", "a"], name="made", labels={"a": "b"}, environment={"X": "1"})))


def test_create_tells_warnings_and_id(kit, api, record):
    record(api.create_container(BASE, "true", name="warned"))


def test_a_started_container_is_running(kit, api, record):
    record(inspected(api, kit.sleeper(name="runs"))["State"])


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 255])
def test_wait_tells_the_exit_code(kit, api, record, code):
    record(api.wait(kit.shell(f"exit {code}")))


def test_wait_for_the_next_exit_returns_after_a_later_start(kit, api, record):
    container = kit.finished("exit 3")
    record(api.wait(container, condition="not-running"))
    api.start(container)
    record(api.wait(container))


def test_wait_until_removed_returns_when_an_auto_removed_container_ends(kit, api, record):
    container = kit.create(["sh", "-c", "sleep 0.3; exit 7"], auto_remove=True)
    api.start(container)
    record(api.wait(container, condition="removed"))


def test_a_wait_that_is_held_ends_with_the_container(kit, api, record):
    container = kit.shell("sleep 1; exit 9")
    begun = time.monotonic()
    record(api.wait(container))
    assert time.monotonic() - begun < 15


def test_a_client_that_gives_up_waiting_gets_its_own_timeout(kit, api, record):
    container = kit.sleeper()
    with pytest.raises(Exception) as error:
        api.wait(container, timeout=1)
    record(type(error.value).__name__)


def test_stop_ends_a_container_that_listens(kit, api, record):
    container = kit.sleeper()
    wait_for(lambda: b"ready" in api.logs(container))
    api.stop(container, timeout=10)
    record(inspected(api, container)["State"])


def test_stop_kills_a_container_that_does_not_listen(kit, api, record):
    container = kit.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")
    wait_for(lambda: b"ready" in api.logs(container))
    api.stop(container, timeout=1)
    record(inspected(api, container)["State"])


def test_stop_of_a_stopped_container_is_not_modified(kit, api, record):
    api.stop(kit.finished("true"))
    record("304 is no error")


def test_start_of_a_running_container_is_not_modified(kit, api, record):
    api.start(kit.sleeper())
    record("304 is no error")


def test_kill_tells_137(kit, api, record):
    container = kit.sleeper()
    api.kill(container)
    record(api.wait(container))


@pytest.mark.parametrize("signal", ["SIGTERM", "USR1", "9", "15"])
def test_kill_sends_a_signal(kit, api, record, signal):
    container = kit.shell(
        "trap 'echo got; exit 4' TERM USR1; echo ready; while :; do sleep 0.05; done"
    )
    wait_for(lambda: b"ready" in api.logs(container))
    api.kill(container, signal=signal)
    record(api.wait(container))
    record(api.logs(container))


def test_kill_with_an_unknown_signal_is_refused(kit, api):
    assert kit.refused(api.kill, kit.sleeper(), signal="SIGNOPE")[0] in (400, 500)


def test_restart_runs_it_again(kit, api, record):
    container = kit.shell("echo once; trap 'exit 0' TERM; while :; do sleep 0.05; done")
    wait_for(lambda: b"once" in api.logs(container))
    api.restart(container, timeout=5)
    wait_for(lambda: api.logs(container).count(b"once") == 2)
    record(inspected(api, container)["State"])


def test_restart_starts_a_stopped_container(kit, api, record):
    container = kit.finished("echo x")
    api.restart(container)
    api.wait(container)
    record(api.logs(container))


def test_pause_and_unpause(kit, api, record):
    container = kit.sleeper()
    api.pause(container)
    record(inspected(api, container)["State"])
    api.unpause(container)
    record(inspected(api, container)["State"])


def test_pause_twice_is_a_conflict(kit, api):
    container = kit.sleeper()
    api.pause(container)
    kit.refused(api.pause, container)
    api.unpause(container)


def test_unpause_of_a_running_container_is_refused(kit, api):
    kit.refused(api.unpause, kit.sleeper())


def test_rename_takes_effect(kit, api, record):
    container = kit.create(name="before")
    api.rename(container, "after")
    record(api.inspect_container("after")["Name"])
    kit.refused(api.inspect_container, "before")


def test_rename_to_a_name_in_use_is_a_conflict(kit, api):
    kit.create(name="taken")
    kit.refused(api.rename, kit.create(name="other"), "taken")


def test_rename_to_an_empty_name_is_refused(kit, api):
    kit.refused(api.rename, kit.create(), "")


def test_a_second_container_of_the_same_name_is_a_conflict(kit, api):
    kit.create(name="single")
    assert kit.refused(kit.create, name="single")[0] == 409


def test_a_name_with_odd_characters_is_refused(kit, api):
    assert kit.refused(kit.create, name="a b/c")[0] == 400


def test_update_changes_the_limits(kit, api, record):
    container = kit.sleeper(mem_limit="64m", memswap_limit="128m")
    record(api.update_container(container, mem_limit="96m", cpu_shares=512))
    host = api.inspect_container(container)["HostConfig"]
    record([host["Memory"], host["CpuShares"]])


def test_update_with_a_restart_policy(kit, api, record):
    container = kit.create()
    record(api.update_container(container, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2}))
    record(api.inspect_container(container)["HostConfig"]["RestartPolicy"])


def test_update_with_too_little_memory_is_refused(kit, api):
    kit.refused(api.update_container, kit.sleeper(), mem_limit=1024)


def test_a_failing_container_is_restarted_by_its_policy(kit, api, record):
    container = kit.shell("exit 5", restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    wait_for(lambda: api.inspect_container(container)["RestartCount"] == 2 and not api.inspect_container(container)["State"]["Running"])
    record(inspected(api, container)["State"])


def test_remove_a_stopped_container(kit, api, record):
    container = kit.finished("true")
    api.remove_container(container)
    kit.refused(api.inspect_container, container)


def test_remove_a_running_container_is_a_conflict(kit, api):
    assert kit.refused(api.remove_container, kit.sleeper(name="busy"))[0] == 409


def test_remove_by_force(kit, api, record):
    container = kit.sleeper()
    api.remove_container(container, force=True)
    record([each["Id"] for each in api.containers(all=True)])


def test_remove_with_its_volumes(kit, api, record):
    container = kit.create(volumes=["/data"])
    record(len(api.volumes()["Volumes"]))
    api.remove_container(container, v=True)
    record(api.volumes()["Volumes"])


def test_an_auto_removed_container_goes_away(kit, api, record):
    container = kit.create("true", auto_remove=True)
    api.start(container)
    wait_for(lambda: not api.containers(all=True))
    kit.refused(api.inspect_container, container)


def test_prune_removes_stopped_containers(kit, api, record):
    kit.finished("true", name="one")
    kit.create(name="two")
    keep = kit.sleeper(name="three")
    told = api.prune_containers()
    record([len(told["ContainersDeleted"]), [each["Id"] == keep for each in api.containers(all=True)]])


def test_prune_by_label(kit, api, record):
    kit.create(name="with", labels={"prune": "yes"})
    kit.create(name="without")
    api.prune_containers(filters={"label": ["prune=yes"]})
    record([each["Names"] for each in api.containers(all=True)])


def test_top_lists_processes(kit, api, record):
    container = kit.run(["sleep", "100"])
    told = api.top(container)
    record([told["Titles"], [process[-1] for process in told["Processes"]]])


def test_top_with_arguments_of_ps(kit, api, record):
    container = kit.run(["sleep", "100"])
    told = api.top(container, "-o pid,comm")
    record([told["Titles"], [process[-1] for process in told["Processes"]]])


def test_top_of_a_stopped_container_is_a_conflict(kit, api):
    kit.refused(api.top, kit.finished("true"))


def test_stats_of_one_moment(kit, api, record):
    told = api.stats(kit.sleeper(), stream=False)
    record(sorted(told))
    record(shape(told["memory_stats"].get("limit")))


def test_stats_as_a_stream(kit, api, record):
    container = kit.sleeper(name="measured")
    stream = api.stats(container, decode=True, stream=True)
    seen = [next(stream) for _ in range(2)]
    record([sorted(each) for each in seen])
    record(seen[1]["name"])


def test_stats_of_a_stopped_container_have_no_figures(kit, api, record):
    record(api.stats(kit.finished("true", name="still"), stream=False))


def test_diff_tells_changed_files(kit, api, record):
    told = api.diff(kit.finished("echo a > /tmp/new; rm /etc/group; echo >> /etc/passwd"))
    record(sorted(told, key=lambda change: change["Path"]))


def test_export_is_the_whole_root(kit, api, record):
    container = kit.finished("echo exported > /tmp/here")
    files = unpack(b"".join(api.export(container)))
    record([files["tmp/here"], "bin/busybox" in files, sorted(files)[:10]])


def test_export_in_small_chunks(kit, api, record):
    container = kit.create()
    record(len(b"".join(api.export(container, chunk_size=1000))) > 500_000)


def test_resize_of_a_terminal(kit, api, record):
    container = kit.shell("echo ready; while read line; do stty size; done", tty=True, stdin_open=True)
    wait_for(lambda: b"ready" in api.logs(container))
    api.resize(container, height=33, width=111)
    sock = raw(api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stream": 1}))
    sock.sendall(b"x\n")
    record(b"33 111" in read_until(sock, b"111"))
    sock.close()


def test_resize_of_a_stopped_container_is_refused(kit, api):
    kit.refused(api.resize, kit.finished("true"), height=10, width=10)


def test_list_shows_running_ones_only(kit, api, record):
    kit.sleeper(name="up")
    kit.finished("true", name="down")
    record([each["Names"] for each in api.containers()])


def test_list_of_all_with_sizes_and_members(kit, api, record):
    kit.finished("true", name="down", labels={"x": "y"})
    told = api.containers(all=True, size=True)
    record([sorted(each) for each in told])
    record([[each["Names"], each["Image"], each["Command"], each["State"], each["Labels"]] for each in told])


@pytest.mark.parametrize(
    "filters",
    [
        {"status": "exited"},
        {"status": "running"},
        {"label": "k"},
        {"label": "k=v"},
        {"name": "two"},
        {"exited": 3},
        {"ancestor": BASE},
        {"since": "one"},
        {"before": "three"},
        {"network": "bridge"},
        {"volume": "nothing"},
        {"health": "none"},
        {"is-task": "false"},
    ],
    ids=lambda filters: "-".join(f"{key} {value}" for key, value in filters.items()),
)
def test_list_with_a_filter(kit, api, record, filters):
    kit.finished("exit 3", name="one", labels={"k": "v"})
    kit.create(name="two", labels={"k": "w"})
    kit.sleeper(name="three")
    record([each["Names"] for each in api.containers(all=True, filters=filters)])


def test_list_with_an_unknown_filter_is_refused(kit, api):
    assert kit.refused(api.containers, filters={"nonsense": "x"})[0] == 400


def test_list_with_a_limit(kit, api, record):
    for name in ("one", "two", "three"):
        kit.create(name=name)
    record([each["Names"] for each in api.containers(limit=2)])


def test_environment_user_directory_and_hostname_arrive(kit, api, record):
    container = kit.finished(
        "id -u; pwd; hostname; echo $GREETING", user="1000", working_dir="/tmp", hostname="box", environment=["GREETING=hé"]
    )
    record(api.logs(container))


def test_an_entrypoint_replaces_the_program(kit, api, record):
    container = kit.run(["b", "c"], entrypoint=["echo", "a"])
    api.wait(container)
    record(api.logs(container))


def test_a_read_only_root_refuses_writing(kit, api, record):
    record(api.logs(kit.finished("echo x > /file", read_only=True)))


def test_a_tmpfs_is_mounted_with_its_options(kit, api, record):
    record(api.logs(kit.finished("mount | grep ' /scratch '", tmpfs={"/scratch": "size=1m,noexec"})).split(b"(")[0])


def test_a_memory_limit_is_told_and_kept(kit, api, record):
    container = kit.create(mem_limit="32m")
    record(api.inspect_container(container)["HostConfig"]["Memory"])


def test_ulimits_are_kept(kit, api, record):
    limit = docker.types.Ulimit(name="nofile", soft=100, hard=200)
    record(api.logs(kit.finished("ulimit -n; ulimit -Hn", ulimits=[limit])))


def test_capabilities_can_be_dropped(kit, api, record):
    record(api.logs(kit.finished("grep CapEff /proc/1/status", cap_drop=["ALL"])))


def test_extra_hosts_are_written(kit, api, record):
    record(api.logs(kit.finished("grep other /etc/hosts", extra_hosts={"other": "10.1.2.3"})))


def test_an_init_process_reaps(kit, api, record):
    record(api.logs(kit.finished("cat /proc/1/comm", init=True)))


def test_a_program_that_is_not_there_fails_the_start(kit, api):
    assert kit.refused(api.start, kit.create("no-such-program", name="empty"))[0] == 400


def test_a_health_check_becomes_healthy(kit, api, record):
    check = docker.types.Healthcheck(test=["CMD", "true"], interval=200_000_000, retries=3)
    container = kit.sleeper(healthcheck=check)
    wait_for(lambda: api.inspect_container(container)["State"]["Health"]["Status"] == "healthy")
    record(api.inspect_container(container)["State"]["Health"]["Log"][0]["ExitCode"])


def test_a_health_check_becomes_unhealthy(kit, api, record):
    check = docker.types.Healthcheck(test=["CMD-SHELL", "echo no; exit 1"], interval=100_000_000, retries=2)
    container = kit.sleeper(healthcheck=check)
    wait_for(lambda: api.inspect_container(container)["State"]["Health"]["Status"] == "unhealthy")
    health = api.inspect_container(container)["State"]["Health"]["Log"][0]
    record([health["ExitCode"], health["Output"]])


def test_a_published_port_is_told_by_list_and_inspection(kit, api, record):
    container = kit.create(["sleep", "100"], ports=[80], port_bindings={80: ("127.0.0.1", 18080)})
    api.start(container)
    record(api.port(container, 80))
    record(api.containers()[0]["Ports"])


def test_a_random_port_is_a_number(kit, api, record):
    container = kit.create(["sleep", "100"], ports=[80], port_bindings={80: None})
    api.start(container)
    ports = api.port(container, 80)
    record(sorted({each["HostIp"] for each in ports}))
    assert all(int(each["HostPort"]) > 1024 for each in ports)


def test_a_short_id_names_a_container(kit, api, record):
    container = kit.create(name="long")
    record(api.inspect_container(container[:12])["Name"])
