//! Streams stay streams: nothing is held back, cut short, or left open.

use std::time::Duration;

use anyhow::Result;
use overside_e2e::{Comparison, container, docker, load};
use overside_testkit::{
    Blob, Daemon, IMAGE, LIMIT, Running, TempHome, clients, on_terminal, run, run_fed, signal_process,
};
use rustix::process::Signal;

#[test]
fn a_shell_on_a_terminal_takes_what_is_typed_and_gives_back_its_exit_status() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    for cli in clients()? {
        for arguments in [&["exec", "-it", "box", "sh"][..], &["run", "--rm", "-it", IMAGE, "sh"]] {
            let mut shell = Running::spawn(&mut on_terminal(&home.docker(&cli, arguments)?))?;
            shell.wait_for("# ", LIMIT)?;
            shell.write("test -t 0 && test -t 1 && echo $((40 + 2)) lights\n")?;
            shell.wait_for("42 lights", LIMIT)?;
            shell.write("exit 9\n")?;
            let outcome = shell.finish(LIMIT)?;
            assert_eq!(outcome.code(), 9, "docker {}: {outcome:?}", cli.version);
        }
    }
    Ok(())
}

#[test]
fn a_terminal_in_a_container_has_the_size_of_the_one_outside() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    for cli in clients()? {
        // The client sets the size after the start, so that the container asks until it knows.
        let ask = "until stty size | grep -v '^0 0$'; do sleep 0.05; done";
        let mut command = on_terminal(&home.docker(&cli, &["run", "--rm", "-it", IMAGE, "sh", "-c", ask])?);
        let outcome = run(&mut command, LIMIT)?;
        assert!(outcome.out().contains("24 80"), "docker {}: {outcome:?}", cli.version);
    }
    Ok(())
}

#[test]
fn the_end_of_the_input_is_no_end_of_the_output() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    let script = "cat > /dev/null; echo the input has ended; sleep 1; echo and the output goes on; exit 5";
    let outcome = compare.same_with(&["run", "--rm", "-i", IMAGE, "sh", "-c", script], b"something\n")?;
    assert_eq!((outcome.out().as_str(), outcome.code()), ("the input has ended\nand the output goes on\n", 5));
    container(&home, "box")?;
    for cli in clients()? {
        let mut exec = home.docker(&cli, &["exec", "-i", "box", "sh", "-c", script])?;
        let outcome = run_fed(&mut exec, LIMIT, |input| Ok(std::io::Write::write_all(input, b"something\n")?))?;
        assert_eq!((outcome.out().as_str(), outcome.code()), ("the input has ended\nand the output goes on\n", 5));
    }
    Ok(())
}

#[test]
fn much_output_on_both_streams_and_much_input_arrive_whole() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    let blob = Blob { size: 64 << 20 };
    for cli in clients()? {
        let mut sum = home.docker(&cli, &["run", "--rm", "-i", IMAGE, "sha256sum"])?;
        let outcome = run_fed(&mut sum, LIMIT, move |input| Ok(std::io::copy(&mut blob.reader(), input).map(drop)?))?;
        assert_eq!(outcome.success()?.out(), format!("{}  -\n", blob.sha256()?));
        let script = "yes out | head -n 4000000 & yes err | head -n 1000000 >&2; wait";
        let outcome = run(&mut home.docker(&cli, &["run", "--rm", IMAGE, "sh", "-c", script])?, LIMIT)?.success()?;
        assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (16_000_000, 4_000_000), "docker {}", cli.version);
    }
    Ok(())
}

#[test]
fn followed_logs_come_as_they_are_written_and_end_with_the_container() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    for cli in clients()? {
        let script = "echo first; until test -e /go; do sleep 0.05; done; echo last; exit 1";
        docker(&home, &["run", "--detach", "--name", "box", IMAGE, "sh", "-c", script])?.success()?;
        let logs = Running::spawn(&mut home.docker(&cli, &["logs", "--follow", "box"])?)?;
        assert_eq!(logs.wait_for("first\n", LIMIT)?, "first\n");
        docker(&home, &["exec", "box", "touch", "/go"])?.success()?;
        let outcome = logs.finish(LIMIT)?.success()?;
        assert_eq!(outcome.out(), "first\nlast\n", "docker {}", cli.version);
        docker(&home, &["rm", "box"])?.success()?;
    }
    Ok(())
}

#[test]
fn events_come_as_they_happen() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    for cli in clients()? {
        let arguments = ["events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}"];
        let events = Running::spawn(&mut home.docker(&cli, &arguments)?)?;
        // Nothing tells when the client listens; containers are made until it has seen one.
        let mut number = 0;
        loop {
            number += 1;
            let name = format!("box{number}");
            docker(&home, &["run", "--rm", "--name", &name, IMAGE, "true"])?.success()?;
            match events.wait_for(&format!("destroy {name}\n"), Duration::from_secs(5)) {
                Ok(seen) => {
                    for action in ["create", "attach", "start", "die"] {
                        assert!(seen.contains(&format!("{action} {name}\n")), "docker {}: {seen}", cli.version);
                    }
                    break;
                }
                Err(error) if number == 3 => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

#[test]
fn a_client_that_goes_away_ends_its_stream_on_the_engine() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let cli = &clients()?[0];
    // The engine tells of each attached client only by what the container notices: its standard input ends.
    let script = "cat > /dev/null; echo gone > /told";
    let mut exec = Running::spawn(&mut home.docker(cli, &["exec", "-i", "box", "sh", "-c", script])?)?;
    exec.write("hello\n")?;
    let listening = "until ps | grep -v grep | grep -q 'cat$'; do sleep 0.05; done";
    docker(&home, &["exec", "box", "sh", "-c", listening])?.success()?;
    drop(exec);
    docker(&home, &["exec", "box", "sh", "-c", "until test -e /told; do sleep 0.05; done"])?.success()?;
    Ok(())
}

#[test]
fn an_attached_container_is_left_and_found_again() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    load(&home)?;
    for cli in clients()? {
        let mut run =
            Running::spawn(&mut on_terminal(&home.docker(&cli, &["run", "-it", "--name", "box", IMAGE, "sh"])?))?;
        run.wait_for("# ", LIMIT)?;
        // Docker's detach keys: Ctrl-P, Ctrl-Q.
        run.write("\u{10}\u{11}")?;
        assert_eq!(run.finish(LIMIT)?.code(), 0);
        let mut attach = Running::spawn(&mut on_terminal(&home.docker(&cli, &["attach", "box"])?))?;
        attach.write("echo still $((1 + 1))\n")?;
        attach.wait_for("still 2", LIMIT)?;
        attach.write("exit 3\n")?;
        assert_eq!(attach.finish(LIMIT)?.code(), 3, "docker {}", cli.version);
        docker(&home, &["rm", "box"])?.success()?;
    }
    Ok(())
}

#[test]
fn builds_and_output_that_lose_their_engine_end_at_once_and_say_why() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    container(&home, "box")?;
    let context = home.scratch().join("context");
    fs_err::create_dir(&context)?;
    // The shell joins the word, so that only its output has it whole.
    fs_err::write(context.join("Dockerfile"), format!("FROM {IMAGE}\nARG WHO\nRUN echo be''gun; sleep 100000\n"))?;
    let build = ["build", "--no-cache", &context.to_string_lossy()];
    let exec = ["exec", "box", "sh", "-c", "echo be''gun; sleep 100000"];
    let mut running = Vec::new();
    for cli in clients()? {
        for builder in ["0", "1"] {
            let mut command = home.docker(&cli, &build)?;
            // Of two builds that are the same the engine makes only one.
            command.args(["--build-arg", &format!("WHO={}-{builder}", cli.version)]);
            command.env("DOCKER_BUILDKIT", builder).env("BUILDKIT_PROGRESS", "plain");
            let client = Running::spawn(&mut command)?;
            // BuildKit's progress is on standard error.
            if builder == "1" {
                client.wait_for_error("begun\n", LIMIT)?
            } else {
                client.wait_for("begun\n", LIMIT)?
            };
            running.push(client);
        }
        let client = Running::spawn(&mut home.docker(&cli, &exec)?)?;
        client.wait_for("begun\n", LIMIT)?;
        running.push(client);
    }
    for agent in home.traces().agents() {
        signal_process(agent, Signal::KILL)?;
    }
    for client in running {
        let outcome = client.finish(LIMIT)?;
        assert_ne!(outcome.code(), 0, "{outcome:?}");
        let said = outcome.err();
        assert!(said.contains("Overside lost the connection to the environment's engine"), "{outcome:?}");
        assert!(said.contains("overside status"), "the next step is named: {outcome:?}");
    }
    Ok(())
}
