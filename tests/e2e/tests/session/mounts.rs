//! Bind mounts, as a daily user of docker expects them: the laptop's files are there when a container starts, and what it wrote
//! is on the laptop when the command returns.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use overside_e2e::{docker, load};
use overside_model::MountState;
use overside_testkit::{Daemon, IMAGE, LIMIT, Running, TempHome, clients, signal_process};
use rustix::process::Signal;

/// A directory of the laptop with a file in it.
fn project(home: &TempHome) -> Result<String> {
    let directory = home.scratch().join("project");
    fs_err::create_dir_all(directory.join("src"))?;
    fs_err::write(directory.join("src/in"), "in")?;
    Ok(directory.to_str().context("the path is text")?.to_owned())
}

fn read(project: &str, file: &str) -> Result<String> {
    Ok(fs_err::read_to_string(Path::new(project).join(file))?)
}

fn begin(home: &TempHome) -> Result<(Daemon<'_>, String)> {
    let daemon = Daemon::enabled(home)?;
    load(home)?;
    Ok((daemon, project(home)?))
}

/// `docker` with the shell of the test image, and what it says.
fn shell(home: &TempHome, options: &[&str], script: &str) -> Result<String> {
    let arguments = [&["run", "--rm"], options, &[IMAGE, "sh", "-c", script]].concat();
    Ok(docker(home, &arguments)?.success()?.out())
}

#[test]
fn what_a_container_wrote_is_on_the_laptop_when_run_returns_every_time() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let bind = format!("{project}:/app");
    for round in 0..100 {
        let script =
            format!("cat /app/src/in; mkdir -p /app/out; echo {round} > /app/out/{round}; echo {round} > /app/last");
        ensure!(shell(&home, &["-v", &bind], &script)? == "in");
        ensure!(read(&project, "last")? == format!("{round}\n"), "round {round}");
        ensure!(read(&project, &format!("out/{round}"))? == format!("{round}\n"), "round {round}");
    }
    Ok(())
}

#[test]
fn every_way_in_which_a_command_ends_brings_its_files() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let bind = format!("{project}:/app");
    let wait = ["run", "--detach", "--init", "--name", "web", "-v", &bind, IMAGE, "sh", "-c"];
    docker(
        &home,
        &[&wait[..], &["trap 'echo stopped > /app/stopped; exit' TERM; echo up; while :; do sleep 1; done"]].concat(),
    )?
    .success()?;
    docker(&home, &["exec", "web", "sh", "-c", "echo exec > /app/exec"])?.success()?;
    ensure!(read(&project, "exec")? == "exec\n");
    docker(&home, &["exec", "web", "sh", "-c", "echo again > /app/exec; exit 3"])?;
    ensure!(read(&project, "exec")? == "again\n");
    docker(&home, &["stop", "web"])?.success()?;
    ensure!(read(&project, "stopped")? == "stopped\n");
    fs_err::write(Path::new(&project).join("src/in"), "new")?;
    docker(&home, &["start", "web"])?.success()?;
    ensure!(docker(&home, &["exec", "web", "cat", "/app/src/in"])?.success()?.out() == "new");
    docker(&home, &["exec", "--detach", "web", "sh", "-c", "echo late > /app/late"])?.success()?;
    docker(&home, &["exec", "web", "sh", "-c", "until test -f /app/late; do sleep 0.1; done"])?.success()?;
    docker(&home, &["rm", "--force", "web"])?.success()?;
    ensure!(read(&project, "late")? == "late\n");

    docker(&home, &[&wait[..], &["echo ended > /app/ended; exit 7"]].concat())?.success()?;
    ensure!(docker(&home, &["wait", "web"])?.success()?.out() == "7\n");
    ensure!(read(&project, "ended")? == "ended\n");
    docker(&home, &["rm", "web"])?.success()?;
    Ok(())
}

#[test]
fn the_users_own_paths_are_all_that_clients_see() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let bind = format!("{project}:/app:ro");
    let mount = format!("type=bind,source={project}/src,target=/src");
    docker(&home, &["create", "--name", "web", "-v", &bind, "--mount", &mount, IMAGE, "true"])?.success()?;
    let said = docker(&home, &["inspect", "web"])?.success()?.out();
    ensure!(
        said.contains(&format!("\"{bind}\"")) && said.contains(&format!("\"Source\": \"{project}/src\"")),
        "{said}"
    );
    ensure!(!said.contains(".overside/laptop"), "{said}");
    let said = docker(&home, &["ps", "--all", "--no-trunc", "--format", "{{.Mounts}}"])?.success()?.out();
    ensure!(said.contains(&project) && !said.contains(".overside/laptop"), "{said}");
    let filter = format!("volume={project}/src");
    let said = docker(&home, &["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])?.success()?.out();
    ensure!(said == "web\n", "{said}");
    let filter = format!("volume={project}/other");
    let said = docker(&home, &["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])?.success()?.out();
    ensure!(said.is_empty(), "{said}");
    let device = format!("device={project}");
    let volume = ["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, "data"];
    docker(&home, &volume)?.success()?;
    let said = docker(&home, &["volume", "inspect", "data"])?.success()?.out();
    ensure!(said.contains(&format!("\"device\": \"{project}\"")), "{said}");
    Ok(())
}

#[test]
fn a_missing_source_is_made_for_a_volume_option_and_refused_for_a_mount() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let mount = format!("type=bind,source={project}/none,target=/app");
    let refused = docker(&home, &["run", "--rm", "--mount", &mount, IMAGE, "true"])?;
    let expected = format!("invalid mount config for type \"bind\": bind source path does not exist: {project}/none");
    ensure!(refused.code() == 125 && refused.err().contains(&expected), "{refused:?}");
    ensure!(!Path::new(&project).join("none").exists());
    shell(&home, &["-v", &format!("{project}/a/b:/app")], "echo x > /app/file")?;
    ensure!(read(&project, "a/b/file")? == "x\n");
    let made = fs_err::metadata(Path::new(&project).join("a/b"))?;
    ensure!(made.uid() == fs_err::metadata(&project)?.uid(), "it is the user's");
    Ok(())
}

#[test]
fn a_bind_that_is_read_only_is_that() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let bind = format!("{project}:/app:ro");
    let said = shell(&home, &["-v", &bind], "cat /app/src/in; echo x > /app/x || echo refused")?;
    ensure!(said == "inrefused\n", "{said}");
    ensure!(!Path::new(&project).join("x").exists());
    Ok(())
}

#[test]
fn a_single_file_is_bound_as_compose_does_with_configs_and_secrets() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let mount = format!("type=bind,source={project}/src/in,target=/run/secrets/password,readonly");
    ensure!(shell(&home, &["--mount", &mount], "cat /run/secrets/password")? == "in");
    // As editors save: another file of the same name.
    fs_err::write(Path::new(&project).join("src/new"), "changed")?;
    fs_err::rename(Path::new(&project).join("src/new"), Path::new(&project).join("src/in"))?;
    ensure!(shell(&home, &["--mount", &mount], "cat /run/secrets/password")? == "changed");
    Ok(())
}

#[test]
fn a_file_of_a_mounted_directory_that_is_bound_by_itself_too_follows_edits() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let (whole, file) = (format!("{project}:/app"), format!("{project}/src/in:/etc/in"));
    let options = ["run", "--detach", "--init", "--name", "web", "-v", &whole, "-v", &file, IMAGE, "sleep", "600"];
    docker(&home, &options)?.success()?;
    for (round, replaces) in [false, true, true, false].into_iter().enumerate() {
        let (text, path) = (format!("edit {round}"), Path::new(&project).join("src/in"));
        if replaces {
            fs_err::write(path.with_extension("new"), &text)?;
            fs_err::rename(path.with_extension("new"), &path)?;
        } else {
            fs_err::write(&path, &text)?;
        }
        let script = "until test \"$(cat /app/src/in)\" = \"$0\"; do sleep 0.05; done; cat /etc/in";
        let said = docker(&home, &["exec", "web", "sh", "-c", script, &text])?.success()?.out();
        ensure!(said == text, "{said} is not {text}");
    }
    docker(&home, &["exec", "web", "sh", "-c", "echo theirs > /etc/in"])?.success()?;
    ensure!(read(&project, "src/in")? == "theirs\n");
    docker(&home, &["rm", "--force", "web"])?.success()?;
    Ok(())
}

#[test]
fn a_link_to_a_file_is_bound_as_the_file_that_it_leads_to() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    // As /etc/localtime is one, and what managers of dotfiles make.
    let link = home.scratch().join("link");
    fs_err::os::unix::fs::symlink("project/src/in", &link)?;
    let bind = format!("{}:/etc/in", link.display());
    let said = shell(&home, &["-v", &bind], "cat /etc/in; echo x >> /etc/in; cat /etc/in")?;
    ensure!(said == "ininx\n", "{said}");
    ensure!(read(&project, "src/in")? == "inx\n", "what is written goes where the link leads");
    ensure!(link.is_symlink());
    Ok(())
}

#[test]
fn files_are_copied_into_and_out_of_a_bind_of_a_container_that_does_not_run() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let bind = format!("{project}:/app");
    docker(&home, &["create", "--name", "web", "-v", &bind, IMAGE, "true"])?.success()?;
    let out = home.scratch().join("out");
    docker(&home, &["cp", "web:/app/src/in", out.to_str().context("the path is text")?])?.success()?;
    ensure!(fs_err::read_to_string(&out)? == "in");
    docker(&home, &["cp", out.to_str().context("the path is text")?, "web:/app/copied"])?.success()?;
    ensure!(read(&project, "copied")? == "in");
    Ok(())
}

#[test]
fn a_volume_that_binds_a_directory_is_a_bind_mount() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let device = format!("device={project}");
    let volume = ["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, "data"];
    docker(&home, &volume)?.success()?;
    let said = shell(&home, &["-v", "data:/data"], "cat /data/src/in; echo x > /data/out")?;
    ensure!(said == "in", "{said}");
    ensure!(read(&project, "out")? == "x\n");
    Ok(())
}

#[test]
fn files_belong_to_the_containers_own_user() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let bind = format!("{project}:/app");
    let options = ["-v", &bind, "--user", "1234:4321"];
    let said = shell(&home, &options, "stat -c %u:%g /app/src/in; echo x >> /app/src/in; cat /app/src/in")?;
    ensure!(said == "1234:4321\ninx\n", "{said}");
    ensure!(read(&project, "src/in")? == "inx\n");
    Ok(())
}

#[test]
fn users_are_known_also_where_the_images_list_of_them_is_a_link() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let root = home.scratch().join("root");
    fs_err::create_dir_all(root.join("etc"))?;
    fs_err::create_dir_all(root.join("usr/users"))?;
    fs_err::write(root.join("usr/users/passwd"), "app:x:1234:4321::/:/bin/sh\n")?;
    fs_err::os::unix::fs::symlink("../usr/users/linked", root.join("etc/passwd"))?;
    fs_err::os::unix::fs::symlink("/usr/users/passwd", root.join("usr/users/linked"))?;
    docker(&home, &["create", "--name", "base", IMAGE, "true"])?.success()?;
    docker(&home, &["cp", &format!("{}/.", root.display()), "base:/"])?.success()?;
    docker(&home, &["commit", "base", "linked:1"])?.success()?;
    let bind = format!("{project}:/app");
    let said = docker(
        &home,
        &["run", "--rm", "-v", &bind, "--user", "app", "linked:1", "stat", "-c", "%u:%g", "/app/src/in"],
    )?;
    ensure!(said.success()?.out() == "1234:4321\n");
    Ok(())
}

#[test]
fn an_edit_reaches_a_container_that_runs() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let clients = clients()?;
    let cli = clients.first().context("there is no client")?;
    let bind = format!("{project}:/app");
    let script = "echo up; until grep -q edited /app/src/in; do sleep 0.05; done; echo seen";
    let arguments = ["run", "--rm", "-v", &bind, IMAGE, "sh", "-c", script];
    let running = Running::spawn(&mut home.docker(cli, &arguments)?)?;
    running.wait_for("up", LIMIT)?;
    fs_err::write(Path::new(&project).join("src/in"), "edited")?;
    running.wait_for("seen", LIMIT)?;
    running.finish(LIMIT)?.success()?;
    Ok(())
}

#[test]
fn a_command_in_a_running_container_finds_what_was_written_right_before_it() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let bind = format!("{project}:/app");
    docker(&home, &["run", "--detach", "--init", "--name", "web", "-v", &bind, IMAGE, "sleep", "600"])?.success()?;
    for round in 0..10 {
        // So much that it would be under way still.
        fs_err::write(Path::new(&project).join("src/in"), format!("{round}").repeat(8 << 20))?;
        let said = docker(&home, &["exec", "web", "sh", "-c", "tail -c 1 /app/src/in"])?.success()?.out();
        ensure!(said == round.to_string(), "{said} in round {round}");
    }
    docker(&home, &["rm", "--force", "web"])?.success()?;
    Ok(())
}

#[test]
fn what_belongs_to_the_environment_is_not_the_laptops() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, _) = begin(&home)?;
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    shell(&home, &["-v", socket], "test -S /var/run/docker.sock")?;
    let said =
        shell(&home, &["-v", "/proc:/host/proc:ro", "-v", "/sys:/host/sys:ro"], "cat /host/proc/1/comm; ls /host/sys")?;
    ensure!(said.contains("kernel"), "{said}");
    ensure!(!said.contains("systemd\n"), "{said}");
    Ok(())
}

#[test]
fn a_container_that_races_links_writes_nothing_outside_of_the_mount() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    let outside = home.scratch().join("outside");
    fs_err::create_dir_all(&outside)?;
    fs_err::write(outside.join("file"), "mine")?;
    let bind = format!("{project}:/app");
    // A directory that is a link out of the mount every other moment, relative and by the laptop's own path.
    let script = format!(
        "cd /app; i=0; while test $i -lt 300; do i=$((i+1)); \
         mkdir d; echo theirs > d/file; echo theirs > d/new$i; rm -rf d; ln -s ../outside d; rm d; \
         mkdir d; echo theirs > d/file; mv d e; ln -s {outside} d; rm -rf d e; done; \
         ln -s {outside} d; ln -s ../outside/file f; echo theirs > g; rm g; ln -s ../outside/file g; echo done",
        outside = outside.display()
    );
    ensure!(shell(&home, &["-v", &bind], &script)? == "done\n");
    let found: Vec<_> = fs_err::read_dir(&outside)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(found == ["file"], "{found:?}");
    ensure!(fs_err::read_to_string(outside.join("file"))? == "mine");
    ensure!(fs_err::read_link(Path::new(&project).join("d"))? == outside, "a link is kept as one");
    // Nor is anything read through such a link.
    ensure!(shell(&home, &["-v", &bind], "cat /app/d/file /app/f 2>/dev/null; echo none")? == "none\n");
    Ok(())
}

#[test]
fn what_is_mounted_twice_is_one_and_what_an_anonymous_volume_hides_stays_where_it_is() -> Result<()> {
    let home = TempHome::new()?;
    let (_daemon, project) = begin(&home)?;
    fs_err::create_dir_all(Path::new(&project).join("node_modules"))?;
    fs_err::write(Path::new(&project).join("node_modules/laptops"), "")?;
    let (whole, part) = (format!("{project}:/app"), format!("{project}/src:/src"));
    let options = ["-v", &whole, "-v", &part, "-v", "/app/node_modules"];
    let script = "echo a > /app/src/a; cat /src/a; echo b > /src/b; cat /app/src/b; \
                  ls /app/node_modules; echo x > /app/node_modules/theirs";
    let said = shell(&home, &options, script)?;
    ensure!(said == "a\nb\n", "{said}");
    ensure!((read(&project, "src/a")?, read(&project, "src/b")?) == ("a\n".to_owned(), "b\n".to_owned()));
    ensure!(Path::new(&project).join("node_modules/laptops").exists());
    ensure!(!Path::new(&project).join("node_modules/theirs").exists());
    Ok(())
}

#[test]
fn more_than_the_limits_allow_is_refused_with_the_largest_directories_and_goes_on_once_they_are_ignored() -> Result<()>
{
    let home = TempHome::new()?;
    home.set(&[("mounts.max-files", "20")])?;
    let (daemon, project) = begin(&home)?;
    for directory in ["big", "small"] {
        fs_err::create_dir_all(Path::new(&project).join(directory))?;
    }
    for index in 0..30 {
        fs_err::write(Path::new(&project).join(format!("big/{index}")), "")?;
    }
    let bind = format!("{project}:/app");
    let arguments = ["run", "--rm", "-v", &bind, IMAGE, "ls", "/app"];
    let refused = docker(&home, &arguments)?;
    let said = refused.err();
    ensure!(said.contains("mounts.max-files") && said.contains("big (31 files"), "{said}");
    let asks = |status: &overside_model::Status| status.mounts.iter().any(|mount| mount.state == MountState::Halted);
    daemon.wait_for("the mount to wait for a decision", LIMIT, asks)?;
    let ignore = Path::new(&project).join(".oversideignore");
    fs_err::write(&ignore, "big\n")?;
    let said = docker(&home, &arguments)?.success()?.out();
    ensure!(said == "small\nsrc\n", "{said}");
    ensure!(!daemon.overside(&["mounts", "allow", &project])?.err().is_empty());
    let other = home.scratch().join("other");
    fs_err::rename(Path::new(&project).join("big"), &other)?;
    let (bind, other) = (format!("{}:/app", other.display()), other.to_string_lossy().into_owned());
    let arguments = ["run", "--rm", "-v", &bind, IMAGE, "ls", "/app"];
    ensure!(docker(&home, &arguments)?.err().contains(&format!("overside mounts allow {other}")));
    daemon.overside(&["mounts", "allow", &other])?.success()?;
    let said = docker(&home, &arguments)?.success()?.out();
    ensure!(said.lines().count() == 30, "{said}");
    Ok(())
}

#[test]
fn a_directory_that_is_emptied_asks_before_the_other_side_follows() -> Result<()> {
    let home = TempHome::new()?;
    let (daemon, project) = begin(&home)?;
    fs_err::write(Path::new(&project).join("other"), "")?;
    let bind = format!("{project}:/app");
    docker(&home, &["run", "--detach", "--init", "--name", "web", "-v", &bind, IMAGE, "sleep", "600"])?.success()?;
    // Nobody looks in between, when it is not empty yet.
    let empty = || -> Result<()> {
        signal_process(daemon.pid(), Signal::STOP)?;
        fs_err::remove_dir_all(Path::new(&project).join("src"))?;
        fs_err::remove_file(Path::new(&project).join("other"))?;
        signal_process(daemon.pid(), Signal::CONT)
    };
    empty()?;
    let halted = |state| move |status: &overside_model::Status| status.mounts.iter().any(|mount| mount.state == state);
    daemon.wait_for("the mount to halt", LIMIT, halted(MountState::Halted))?;
    ensure!(docker(&home, &["exec", "web", "cat", "/app/src/in"])?.success()?.out() == "in");
    daemon.overside(&["mounts", "restore", &project])?.success()?;
    daemon.wait_for("the mount to be in sync", LIMIT, halted(MountState::Synced))?;
    ensure!(read(&project, "src/in")? == "in");
    empty()?;
    daemon.wait_for("the mount to halt", LIMIT, halted(MountState::Halted))?;
    daemon.overside(&["mounts", "accept", &project])?.success()?;
    daemon.wait_for("the mount to be in sync", LIMIT, halted(MountState::Synced))?;
    ensure!(docker(&home, &["exec", "web", "ls", "/app"])?.success()?.out().is_empty());
    docker(&home, &["rm", "--force", "web"])?.success()?;
    Ok(())
}
