//! Docker's own clients see no difference between Overside and an engine of their own.

use std::io::Read as _;

use anyhow::Result;
use overside_e2e::Comparison;
use overside_testkit::{Blob, Daemon, IMAGE, LIMIT, TempHome, run, run_fed, write_archive};

#[test]
fn a_container_runs_as_on_the_engine_itself() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    let hello = compare.same(&["run", "--rm", IMAGE, "echo", "hello"])?;
    assert_eq!((hello.out().as_str(), hello.code()), ("hello\n", 0));
    let cat = compare.same_with(&["run", "--rm", "-i", IMAGE, "cat"], b"x\n")?;
    assert_eq!((cat.out().as_str(), cat.code()), ("x\n", 0));
    compare.same(&["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; echo out again"])?;
    compare.same(&[
        "run",
        "--rm",
        "--env",
        "NAME=a b\tc",
        "--workdir",
        "/tmp",
        IMAGE,
        "sh",
        "-c",
        "pwd; echo \"$NAME\"",
    ])?;
    compare.same(&[
        "run",
        "--rm",
        "--hostname",
        "box",
        "--user",
        "7:8",
        IMAGE,
        "sh",
        "-c",
        "hostname; id -u; id -g",
    ])?;
    Ok(())
}

#[test]
fn every_exit_status_is_the_containers_own() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    for (arguments, code) in [
        (&["run", "--rm", IMAGE, "sh", "-c", "exit 42"][..], 42),
        (&["run", "--rm", IMAGE, "no-such-program"], 127),
        (&["run", "--rm", IMAGE, "/etc/passwd"], 126),
        (&["run", "--rm", "--no-such-flag", IMAGE], 125),
        (&["run", "--rm", "--memory", "1k", IMAGE, "true"], 125),
        (&["run", "--rm", "--init", IMAGE, "sh", "-c", "kill -9 $$"], 137),
        (&["inspect", "no-such-container"], 1),
        (&["rm", "no-such-container"], 1),
        (&["logs", "no-such-container"], 1),
        (&["no-such-command"], 1),
    ] {
        assert_eq!(compare.same(arguments)?.code(), code, "{arguments:?}");
    }
    Ok(())
}

#[test]
fn questions_about_containers_images_volumes_and_networks_have_the_same_answers() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    let questions = [
        &[
            "create",
            "--name",
            "box",
            "--label",
            "a=b",
            "--volume",
            "data:/data",
            IMAGE,
            "sh",
            "-c",
            "echo made; exit 3",
        ][..],
        &["ps", "--all", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.Status}}"],
        &["start", "--attach", "box"],
        &["wait", "box"],
        &["logs", "box"],
        &["inspect", "--format", "{{.State.ExitCode}} {{json .Config.Labels}} {{json .Config.Cmd}}", "box"],
        &["image", "inspect", "--format", "{{.Id}} {{json .RepoTags}} {{json .Config.Cmd}}", IMAGE],
        &["image", "history", "--format", "{{.CreatedBy}} {{.Size}}", IMAGE],
        &["volume", "ls", "--format", "{{.Name}} {{.Driver}}"],
        &["network", "create", "--internal", "--label", "x", "n"],
        &["network", "ls", "--filter", "label=x", "--format", "{{.Name}} {{.Driver}}"],
        &["network", "rm", "n"],
        &["tag", IMAGE, "other:2"],
        &["rmi", "other:2"],
        &["diff", "box"],
        &["rename", "box", "box2"],
        &["rm", "--volumes", "box2"],
        &["volume", "rm", "data"],
        &["volume", "rm", "data"],
    ];
    for cli in compare.clients() {
        for arguments in questions {
            let mut said = Vec::new();
            for mut command in compare.both(cli, arguments)? {
                let outcome = run(&mut command, LIMIT)?;
                said.push((outcome.code(), shape(&outcome.out()), outcome.err()));
            }
            assert_eq!(said[0], said[1], "docker {}: {arguments:?}", cli.version);
        }
    }
    Ok(())
}

/// Output without identifiers, which differ from engine to engine.
fn shape(text: &str) -> String {
    let is_id = |line: &str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.lines().map(|line| if is_id(line) { "ID" } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn files_are_copied_into_a_container_and_out_of_it() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    let files = home.scratch().join("files");
    fs_err::create_dir_all(files.join("deep/er"))?;
    let mut bytes = Vec::new();
    Blob { size: 3_000_001 }.reader().read_to_end(&mut bytes)?;
    fs_err::write(files.join("deep/er/blob"), &bytes)?;
    fs_err::write(files.join("empty"), "")?;
    let source = files.display().to_string();
    for cli in compare.clients() {
        for (side, mut create) in ["ours", "theirs"].iter().zip(compare.both(cli, &["create", "--name", "box", IMAGE])?)
        {
            run(&mut create, LIMIT)?.success()?;
            let place = home.scratch().join(format!("{side}-{}", cli.version));
            let docker = |arguments: &[&str]| -> Result<_> {
                let [ours, theirs] = compare.both(cli, arguments)?;
                run(&mut if *side == "ours" { ours } else { theirs }, LIMIT)?.success()
            };
            docker(&["cp", &source, "box:/tmp/copied"])?;
            docker(&["cp", "box:/tmp/copied", &place.display().to_string()])?;
            assert_eq!(fs_err::read(place.join("deep/er/blob"))?, bytes, "{side}, docker {}", cli.version);
            assert_eq!(fs_err::read(place.join("empty"))?, b"");
            let archive = docker(&["cp", "box:/tmp/copied/deep", "-"])?;
            assert!(archive.stdout.len() > bytes.len(), "an archive holds the file");
            docker(&["rm", "box"])?;
        }
    }
    assert_eq!(compare.same(&["cp", "no-such-container:/x", "."])?.code(), 1);
    Ok(())
}

#[test]
fn images_are_built_by_both_builders() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    let context = home.scratch().join("context");
    fs_err::create_dir(&context)?;
    fs_err::write(context.join("greeting"), "hello from a build\n")?;
    let mut large = Vec::new();
    Blob { size: 5_000_000 }.reader().read_to_end(&mut large)?;
    fs_err::write(context.join("large"), &large)?;
    fs_err::write(
        context.join("Dockerfile"),
        format!("FROM {IMAGE}\nCOPY greeting large /\nRUN wc -c < /large > /size\nCMD cat /greeting /size\n"),
    )?;
    fs_err::write(context.join("Dockerfile.bad"), format!("FROM {IMAGE}\nRUN echo going wrong; exit 9\n"))?;
    let path = context.display().to_string();
    let bad = context.join("Dockerfile.bad").display().to_string();
    for cli in compare.clients() {
        for builder in ["0", "1"] {
            let mut codes = Vec::new();
            for (arguments, good) in
                [(&["build", "--tag", "built:1", &path][..], true), (&["build", "--file", &bad, &path], false)]
            {
                for mut command in compare.both(cli, arguments)? {
                    let outcome = run(command.env("DOCKER_BUILDKIT", builder), LIMIT)?;
                    assert_eq!(
                        outcome.status.success(),
                        good,
                        "docker {}, BuildKit {builder}: {outcome:?}",
                        cli.version
                    );
                    codes.push(outcome.code());
                }
                assert_eq!(codes[0], codes[1], "docker {}, BuildKit {builder}", cli.version);
                codes.clear();
            }
            let built = compare.same(&["run", "--rm", "built:1"])?;
            assert_eq!(built.out(), "hello from a build\n5000000\n");
            for mut remove in compare.both(cli, &["rmi", "--force", "built:1"])? {
                run(&mut remove, LIMIT)?.success()?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_build_reads_a_secret_that_stays_on_the_laptop() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    let context = home.scratch().join("context");
    fs_err::create_dir(&context)?;
    fs_err::write(home.scratch().join("token"), "open sesame")?;
    fs_err::write(
        context.join("Dockerfile"),
        format!(
            "FROM {IMAGE}\nRUN --mount=type=secret,id=token wc -c < /run/secrets/token > /length\nCMD cat /length\n"
        ),
    )?;
    let secret = format!("id=token,src={}", home.scratch().join("token").display());
    let path = context.display().to_string();
    for cli in compare.clients() {
        for mut build in compare.both(cli, &["build", "--secret", &secret, "--tag", "secret:1", &path])? {
            run(build.env("DOCKER_BUILDKIT", "1"), LIMIT)?.success()?;
        }
        assert_eq!(compare.same(&["run", "--rm", "secret:1"])?.out(), "11\n");
    }
    Ok(())
}

#[test]
fn an_image_of_400_megabytes_is_loaded_whole() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    let blob = Blob { size: 400_000_000 };
    let digest = blob.sha256()?;
    for cli in compare.clients() {
        let mut said = Vec::new();
        for mut load in compare.both(cli, &["load"])? {
            let outcome =
                run_fed(&mut load, LIMIT, move |input| write_archive(input, "large:1", Some(blob)))?.success()?;
            said.push(outcome.out());
        }
        assert_eq!(said[0], said[1]);
        assert!(said[0].contains("Loaded image: large:1"), "{said:?}");
        let sum = compare.same(&["run", "--rm", "large:1", "sha256sum", "/blob"])?;
        assert_eq!(sum.out(), format!("{digest}  /blob\n"));
        for mut remove in compare.both(cli, &["rmi", "large:1"])? {
            run(&mut remove, LIMIT)?.success()?;
        }
    }
    Ok(())
}

#[test]
fn an_image_survives_being_saved_and_loaded() -> Result<()> {
    let home = TempHome::new()?;
    let _daemon = Daemon::enabled(&home)?;
    let compare = Comparison::start(&home)?;
    for cli in compare.clients() {
        let [mut save, _] = compare.both(cli, &["save", IMAGE])?;
        let archive = run(&mut save, LIMIT)?.success()?.stdout;
        let [mut remove, _] = compare.both(cli, &["rmi", IMAGE])?;
        run(&mut remove, LIMIT)?.success()?;
        let [mut load, _] = compare.both(cli, &["load"])?;
        run_fed(&mut load, LIMIT, move |input| Ok(std::io::Write::write_all(input, &archive)?))?.success()?;
        compare.same(&["run", "--rm", IMAGE, "echo", "again"])?;
    }
    Ok(())
}
