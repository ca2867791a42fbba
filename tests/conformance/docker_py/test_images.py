"""Images without a registry, and containers made into images."""

import io
import json

import pytest
from kit import BASE, archive, base_archive, unpack


@pytest.fixture
def image(plain):
    plain.import_image_from_data(archive({"only": b"file"}), repository="small", tag="1")
    return "small:1"


def test_import_tells_the_digest(api, record):
    record(api.import_image_from_data(archive({"a": b"1"}), repository="imported", tag="x"))


def test_import_with_changes(api, record):
    record(api.import_image_from_data(archive({"a": b"1"}), repository="changed", changes=["CMD [\"/a\"]", "ENV K=v"]))
    config = api.inspect_image("changed:latest")["Config"]
    record([config["Cmd"], config["Env"]])


def test_import_of_a_broken_archive_is_refused(api, record):
    try:
        record(api.import_image_from_data(b"nonsense" * 200, repository="broken"))
    except Exception as error:
        record(str(error))


def test_list_has_all_members(api, image, record):
    told = api.images()
    record([sorted(each) for each in told])
    record(sorted(tag for each in told for tag in each["RepoTags"]))


def test_list_of_one_name(api, image, record):
    record([each["RepoTags"] for each in api.images(name="small")])


@pytest.mark.parametrize(
    "filters", [{"dangling": True}, {"reference": "sm*"}, {"label": "none"}, {"before": BASE}, {"since": BASE}],
    ids=lambda filters: "-".join(filters),
)
def test_list_with_a_filter(api, image, record, filters):
    record([each["RepoTags"] for each in api.images(filters=filters)])


def test_list_of_ids(api, image, record):
    record(len(api.images(quiet=True, all=True)))


def test_an_inspection_has_all_members(api, image, record):
    told = api.inspect_image(image)
    told.pop("GraphDriver")
    record(told)


def test_history(api, image, record):
    record([[each["CreatedBy"], each["Tags"], each["Comment"]] for each in api.history(image)])


def test_tag_and_untag(api, image, record):
    record(api.tag(image, "registry.invalid:5000/a/b", "v2"))
    record(sorted(api.inspect_image("registry.invalid:5000/a/b:v2")["RepoTags"]))
    record(api.remove_image("registry.invalid:5000/a/b:v2"))


def test_tag_with_a_bad_name_is_refused(kit, api, image):
    assert kit.refused(api.tag, image, "UPPER/case")[0] in (400, 500)


def test_tag_of_an_unknown_image_is_not_found(kit, api):
    assert kit.refused(api.tag, "nothing", "new")[0] == 404


def test_remove_tells_what_was_untagged_and_deleted(api, image, record):
    record(api.remove_image(image))


def test_remove_of_an_image_in_use_is_a_conflict(kit, api, image):
    kit.create("true", image=image, name="user")
    assert kit.refused(api.remove_image, image)[0] == 409


def test_remove_without_pruning(api, image, record):
    record(api.remove_image(image, noprune=True))


def test_prune_of_dangling_images(api, image, record):
    api.import_image_from_data(archive({"other": b"file"}), repository="small", tag="1")
    told = api.prune_images()
    record([len(told["ImagesDeleted"]), told["SpaceReclaimed"] > 0])


def test_prune_of_all_that_are_unused(kit, api, image, record):
    kit.create()
    record(api.prune_images(filters={"dangling": False})["ImagesDeleted"])
    record([each["RepoTags"] for each in api.images()])


def test_saved_and_loaded_again(api, image, record):
    data = b"".join(api.get_image(image))
    manifest = json.loads(unpack(data)["manifest.json"])
    record([manifest[0]["RepoTags"], len(manifest[0]["Layers"])])
    api.remove_image(image)
    record(list(api.load_image(data)))
    record(api.inspect_image(image)["RepoTags"])


def test_two_images_are_saved_into_one_archive(api, image, record):
    answer = api._get(api._url("/images/get"), params={"names": [image, BASE]}, stream=True)
    record(sorted(tags["RepoTags"] for tags in json.loads(unpack(answer.content)["manifest.json"])))


def test_save_of_an_unknown_image_is_not_found(kit, api):
    assert kit.refused(lambda: list(api.get_image("nothing")))[0] in (404, 500)


def test_load_quietly(api, image, record):
    data = b"".join(api.get_image(image))
    record(list(api.load_image(data, quiet=True)))


def test_load_of_a_stream_without_a_length(api, image, record):
    data = b"".join(api.get_image(image))
    answer = api._post(api._url("/images/load"), data=iter([data[:100], data[100:]]), stream=True)
    record([answer.status_code, answer.text])


def test_load_of_nonsense_is_refused(api, record):
    try:
        record(list(api.load_image(b"nonsense" * 1000)))
    except Exception as error:
        record(str(error))


def test_an_unknown_image_is_not_found(kit, api):
    assert kit.refused(api.inspect_image, "nothing")[0] == 404
    assert kit.refused(api.history, "nothing")[0] == 404
    assert kit.refused(api.remove_image, "nothing")[0] == 404
    assert kit.refused(kit.create, image="nothing:1")[0] == 404


def test_a_pull_without_a_registry_fails_in_the_engines_words(kit, api):
    kit.refused(lambda: list(api.pull("127.0.0.1:1/nothing", tag="1", stream=True, decode=True)))


def test_a_push_without_a_registry_fails_in_its_stream(api, image, record):
    api.tag(image, "127.0.0.1:1/small", "1")
    lines = list(api.push("127.0.0.1:1/small", tag="1", stream=True, decode=True, auth_config={"username": "a", "password": "b"}))
    record([sorted(line) for line in lines if "error" in line])


def test_a_push_of_an_unknown_image_fails(api, record):
    lines = list(api.push("127.0.0.1:1/none", stream=True, decode=True, auth_config={"username": "a", "password": "b"}))
    record(lines)


def test_distribution_of_an_unreachable_registry(kit, api):
    kit.refused(api.inspect_distribution, "127.0.0.1:1/x:1")


def test_commit_keeps_changes(kit, api, record):
    container = kit.finished("echo kept > /tmp/file")
    told = api.commit(container, repository="committed", tag="1", message="why", author="who", changes=["ENV A=b"])
    record(told)
    image = api.inspect_image("committed:1")
    record([image["Author"], image["Comment"], image["Config"]["Env"]])
    record(api.logs(kit.finished("cat /tmp/file; echo $A", image="committed:1")))


def test_commit_of_an_unknown_container_is_not_found(kit, api):
    assert kit.refused(api.commit, "nobody")[0] == 404


def test_commit_of_a_running_container_pauses_it_meanwhile(kit, api, record):
    container = kit.sleeper()
    record(api.commit(container, repository="live"))
    record(api.inspect_container(container)["State"]["Paused"])


def test_commit_with_a_configuration(kit, api, record):
    container = kit.create()
    record(api.commit(container, repository="configured", conf={"Cmd": ["echo", "new"], "Labels": {"x": "y"}}))
    config = api.inspect_image("configured:latest")["Config"]
    record([config["Cmd"], config["Labels"]])


def test_a_large_image_is_imported_whole(api, record):
    api.import_image_from_data(archive({f"file{number}": bytes([number]) * (4 << 20) for number in range(8)}), repository="large")
    record(api.inspect_image("large:latest")["Size"] > 30 << 20)


def test_import_from_a_file_object(api, record, tmp_path):
    file = tmp_path / "root.tar"
    file.write_bytes(base_archive())
    record(api.import_image_from_file(str(file), repository="filed"))
