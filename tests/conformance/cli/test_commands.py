"""What people type most."""

from kit import BASE


def told(result):
    return [result.returncode, result.stdout]


def test_version_is_the_engines(any_cli, record):
    record(told(any_cli("version", "--format", "{{.Server.Version}} {{.Server.APIVersion}} {{.Client.APIVersion}}")))


def test_run_attached_with_input_and_exit_code(any_cli, record):
    result = any_cli("run", "-i", "--rm", BASE, "sh", "-c", "cat; echo err >&2; exit 5", data=b"through\n")
    record([result.returncode, result.stdout, result.stderr])


def test_run_detached_logs_and_remove(any_cli, record):
    record(told(any_cli("run", "-d", "--name", "detached", BASE, "seq", "3")))
    record(told(any_cli("wait", "detached")))
    record(told(any_cli("logs", "detached")))
    record(told(any_cli("rm", "detached")))


def test_copy_both_ways(any_cli, record):
    any_cli.write("page", "hello page\n")
    any_cli("create", "--name", "copied", BASE, "true")
    record(told(any_cli("cp", "page", "copied:/tmp/page")))
    record(told(any_cli("cp", "copied:/tmp/page", "back")))
    record((any_cli.place / "back").read_text())


def test_save_and_load_through_pipes(any_cli, record):
    saved = any_cli("save", BASE)
    record([saved.returncode, len(saved.stdout) > 500_000])
    record(told(any_cli("load", data=saved.stdout)))


def test_an_error_has_the_engines_words(any_cli, record):
    result = any_cli("inspect", "nobody")
    record([result.returncode, result.stdout, result.stderr])
    result = any_cli("run", "--rm", "--pull", "never", "nothing:1")
    record([result.returncode, result.stderr])


def test_contexts_are_listed_and_inspected(any_cli, record):
    record(told(any_cli("context", "create", "elsewhere", "--docker", "host=tcp://127.0.0.1:9")))
    record(told(any_cli("context", "ls", "--format", "{{.Name}}")))
    record(told(any_cli("context", "rm", "elsewhere")))


def test_a_container_is_followed_until_it_ends(any_cli, record):
    any_cli("run", "-d", "--name", "followed", BASE, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done; exit 6")
    record(told(any_cli("logs", "-f", "followed")))
    record(told(any_cli("wait", "followed")))
    record(told(any_cli("inspect", "-f", "{{.State.ExitCode}} {{.State.Status}}", "followed")))


def test_networks_and_volumes_by_name(any_cli, record):
    record(told(any_cli("volume", "create", "--label", "a=b", "things")))
    record(told(any_cli("run", "--rm", "-v", "things:/t", BASE, "sh", "-c", "echo kept > /t/f")))
    record(told(any_cli("run", "--rm", "--mount", "type=volume,src=things,dst=/t,readonly", BASE, "cat", "/t/f")))
    record(told(any_cli("volume", "ls", "-q", "--filter", "label=a=b")))
    record(any_cli("network", "create", "--label", "c=d", "lane").returncode)
    record(told(any_cli("network", "ls", "--filter", "label=c=d", "--format", "{{.Name}} {{.Driver}}")))
    record(told(any_cli("network", "inspect", "-f", "{{.Internal}} {{.Labels}}", "lane")))
