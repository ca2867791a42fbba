"""Volumes."""

import pytest


def test_create_tells_everything(api, record):
    record(api.create_volume("made", labels={"a": "b"}))
    record(api.inspect_volume("made"))


def test_without_a_name_it_gets_one(api, record):
    record(len(api.create_volume()["Name"]))


def test_create_twice_is_the_same(api, record):
    api.create_volume("same")
    record(api.create_volume("same"))


def test_create_with_options_of_a_tmpfs(kit, api, record):
    api.create_volume("memory", driver="local", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    record(api.inspect_volume("memory")["Options"])
    record(api.logs(kit.finished("mount | grep /m | cut -d' ' -f1-5", binds=["memory:/m"])))


def test_a_bad_name_is_refused(kit, api):
    assert kit.refused(api.create_volume, "no spaces allowed")[0] == 400


def test_list(api, record):
    api.create_volume("one")
    api.create_volume("two", labels={"k": "v"})
    told = api.volumes()
    record([sorted(told), sorted(each["Name"] for each in told["Volumes"])])


@pytest.mark.parametrize(
    "filters", [{"name": "on"}, {"label": "k"}, {"label": "k=v"}, {"driver": "local"}, {"dangling": True}, {"dangling": False}],
    ids=str,
)
def test_list_with_a_filter(api, record, filters):
    api.create_volume("one")
    api.create_volume("two", labels={"k": "v"})
    record(sorted(each["Name"] for each in api.volumes(filters=filters)["Volumes"] or []))


def test_content_outlives_the_container(kit, api, record):
    api.create_volume("kept")
    api.remove_container(kit.finished("echo kept > /v/file", binds=["kept:/v"]))
    record(api.logs(kit.finished("cat /v/file", binds=["kept:/v:ro"])))


def test_read_only_refuses_writing(kit, api, record):
    record(api.logs(kit.finished("echo x > /v/file", binds=["fixed:/v:ro"])))


def test_as_a_mount_with_options(kit, api, record):
    import docker

    mount = docker.types.Mount("/v", "mounted", type="volume", labels={"from": "mount"}, no_copy=True)
    container = kit.finished("ls -d /v", mounts=[mount])
    record(api.logs(container))
    record([[each["Type"], each["Name"], each["Destination"], each["RW"]] for each in api.inspect_container(container)["Mounts"]])
    record(api.inspect_volume("mounted")["Labels"])


def test_an_images_content_is_copied_into_a_new_volume(kit, api, record):
    record(api.logs(kit.finished("ls /etc", binds=["copied:/etc"])))


def test_volumes_from_another_container(kit, api, record):
    kit.finished("echo shared > /v/file", binds=["lent:/v"], name="lender")
    record(api.logs(kit.finished("cat /v/file", volumes_from=["lender"])))


def test_remove_of_a_volume_in_use_is_a_conflict(kit, api):
    kit.create(binds=["used:/v"])
    assert kit.refused(api.remove_volume, "used")[0] == 409


def test_remove_of_an_unknown_volume_is_not_found(kit, api, record):
    assert kit.refused(api.remove_volume, "nothing")[0] == 404
    assert kit.refused(api.inspect_volume, "nothing")[0] == 404
    kit.told(api.remove_volume, "nothing", force=True)


def test_removed_it_is_gone(kit, api):
    api.create_volume("short")
    api.remove_volume("short")
    kit.refused(api.inspect_volume, "short")


def test_prune(kit, api, record):
    api.create_volume("unused")
    kit.create(binds=["needed:/v"])
    record(api.prune_volumes())
    record([each["Name"] for each in api.volumes()["Volumes"]])
