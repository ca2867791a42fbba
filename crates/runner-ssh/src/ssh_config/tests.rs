use std::process::Command;

use super::*;

fn asker(home: &Path) -> Asker {
    Asker { home: home.to_owned(), local_user: "me".into(), user: None }
}

fn read(text: &str, host: &str) -> Result<Options, Problem> {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config");
    fs_err::write(&file, text).unwrap();
    Options::read(host, &asker(home.path()), &file, &home.path().join("system"))
}

#[test]
fn the_first_value_holds_and_keys_add_up() {
    let text = "
        # comment
        Host office
            User one   # another
            IdentityFile ~/.ssh/a
            User two
        Host off* !offside
            Port=2222
            User three
            IdentityFile = \"~/.ssh/b c\"
            IdentityFile ~/.ssh/a
        Host *
            user four
            HostName %h.example.org
    ";
    let options = read(text, "office").unwrap();
    assert_eq!(options.word("user"), Some("one"));
    assert_eq!(options.word("port"), Some("2222"));
    assert_eq!(options.word("hostname"), Some("%h.example.org"));
    assert_eq!(options.list("identityfile").collect::<Vec<_>>(), ["~/.ssh/a", "~/.ssh/b c"]);
    let options = read(text, "offside").unwrap();
    assert_eq!((options.word("user"), options.word("port")), (Some("four"), None));
}

#[test]
fn a_match_that_only_openssh_could_answer_applies_to_nobody() {
    let text = "
        Match exec true
            User root
            StrictHostKeyChecking no
        Match !final host office
            User root
        Match host office user me
            User matched
        Match originalhost elsewhere
            Port 1
        Match all
            Port 22
    ";
    let options = read(text, "office").unwrap();
    assert_eq!(options.word("user"), Some("matched"));
    assert_eq!(options.word("stricthostkeychecking"), None);
    assert_eq!(options.word("port"), Some("22"));
}

#[test]
fn included_files_belong_to_the_section_that_includes_them() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(home.path().join(name), text).unwrap();
    write("config", "Host farm\n  Include parts/*.conf\nHost *\n  User last\n");
    fs_err::create_dir(home.path().join("parts")).unwrap();
    write("parts/one.conf", "User one\nHost other\n  Port 1\n");
    let read = |host| Options::read(host, &asker(home.path()), &home.path().join("config"), Path::new("/nonexistent"));
    assert_eq!(read("farm").unwrap().word("user"), Some("one"));
    let other = read("other").unwrap();
    assert_eq!((other.word("user"), other.word("port")), (Some("last"), None));
    write("config", "Include config\n");
    assert!(read("farm").unwrap_err().message.contains("too deeply"));
}

#[test]
fn a_line_that_makes_no_sense_is_named() {
    for (text, reason) in [("User \"me\nPort 1", "quote"), ("\nHost", "no value")] {
        let problem = read(text, "office").unwrap_err();
        assert_eq!(problem.code, ErrorCode::InvalidSettings);
        assert!(problem.message.contains(reason) && problem.message.contains("config:"), "{problem}");
    }
}

#[test]
fn words_are_split_as_openssh_does() {
    let split = |text| words(text).unwrap();
    assert_eq!(
        split(r#"a "b c" 'd e' f\ g C:\Users\me "x\"y" # rest"#),
        ["a", "b c", "d e", "f g", r"C:\Users\me", "x\"y"]
    );
    assert_eq!(split("a#b"), ["a#b"]);
    assert_eq!(split(r#""""#), [""]);
}

/// What `ssh -G` says is what the user's own `ssh` would do.
#[test]
fn openssh_itself_reads_every_one_of_these_files_the_same_way() {
    if Command::new("ssh").arg("-V").output().is_err() {
        eprintln!("skipped: there is no ssh");
        return;
    }
    let files = [
        "Host a b\n User one\nHost *\n User two\n Port 23\n",
        "User=zero\nHost ?\n  Port = 24\nHost !b *\n  HostName 10.0.0.1\n",
        "Host \"a\"\n\tUser \"one\"\n\n#Host *\nMatch host b\nUser b-user\nMatch all\nUser rest\n",
        "Match originalhost a,c\n User one\nMatch user two\n Port 99\nHost b\n User two\nMatch user two\n Port 98\n",
        "Host a\nHostName target\nMatch host target\nPort 77\nHost target\nPort 78\n",
        "StrictHostKeyChecking accept-new\nHost a\nStrictHostKeyChecking no\nHostKeyAlias alias\nProxyJump x,y@z:3\n",
        "Host a b*\nConnectTimeout 7\nIdentitiesOnly yes\nHost *\nIdentitiesOnly no\nConnectTimeout 9\n",
        "Host a,b\nUser never\nHost a\nUser one # comment\nPort 5 #6\n",
        "host A\nUSER upper\nHOST a\nuser lower\n",
    ];
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config");
    for text in files {
        fs_err::write(&file, text).unwrap();
        for host in ["a", "b", "c", "target"] {
            let output = Command::new("ssh").arg("-F").arg(&file).args(["-G", host]).output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            let told = |keyword: &str| {
                told.lines()
                    .find_map(|line| line.split_once(' ').filter(|(name, _)| *name == keyword))
                    .map(|(_, v)| v.to_owned())
            };
            let local_user = Command::new("id").arg("-un").output().unwrap();
            let local_user = String::from_utf8_lossy(&local_user.stdout).trim().to_owned();
            let asker = Asker { home: home.path().to_owned(), local_user: local_user.clone(), user: None };
            let options = Options::read(host, &asker, &file, Path::new("/nonexistent")).unwrap();
            let ours = |keyword: &str, default: &str| Some(options.word(keyword).unwrap_or(default).to_owned());
            for (keyword, default) in
                [("user", &*local_user), ("port", "22"), ("hostname", host), ("identitiesonly", "no")]
            {
                assert_eq!(ours(keyword, default), told(keyword), "{keyword} of {host} in\n{text}");
            }
            for keyword in ["hostkeyalias", "proxyjump"] {
                assert_eq!(options.word(keyword).map(str::to_owned), told(keyword), "{keyword} of {host} in\n{text}");
            }
        }
    }
}

#[test]
fn the_hosts_that_have_sections_are_named_once_also_those_of_included_files() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config");
    fs_err::write(&file, "Include more\nHost office build-box\n  User a\nHost *.lab !x a?c office\nHost *\n").unwrap();
    fs_err::write(home.path().join("more"), "Host farm\n").unwrap();
    assert_eq!(hosts(&asker(home.path()), &file).unwrap(), ["farm", "office", "build-box"]);
    assert!(hosts(&asker(home.path()), &home.path().join("none")).unwrap().is_empty());
}
