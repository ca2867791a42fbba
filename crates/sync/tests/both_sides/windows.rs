//! What is different where the laptop is a Windows machine. The other side is one here as well.

use std::os::windows::fs::symlink_file;

use super::*;

fn set_read_only(path: &Path, read_only: bool) {
    let mut permissions = fs::metadata(path).unwrap().permissions();
    permissions.set_readonly(read_only);
    fs::set_permissions(path, permissions).unwrap();
}

#[test]
fn everything_is_there_after_the_first_flush_with_its_times() {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_700);
    let pair = Pair::new(Kind::Directory, |root| {
        fs_err::create_dir_all(root.join("src/empty")).unwrap();
        write(&root.join("src/main.rs"), "fn main() {}");
        write(&root.join("grüße.txt"), "ß");
        let file = fs::OpenOptions::new().write(true).open(root.join("src/main.rs")).unwrap();
        file.set_modified(time).unwrap();
    });
    pair.settle();
    assert_eq!((text(&pair.far("src/main.rs")), text(&pair.far("grüße.txt"))), ("fn main() {}".into(), "ß".into()));
    assert!(pair.far("src/empty").is_dir());
    assert_eq!(fs::metadata(pair.far("src/main.rs")).unwrap().modified().unwrap(), time);
}

#[test]
fn a_file_that_nobody_may_write_is_replaced_and_removed_as_any_other() {
    let pair = Pair::new(Kind::Directory, |root| {
        write(&root.join("a"), "1");
        set_read_only(&root.join("a"), true);
    });
    pair.settle();
    write(&pair.far("a"), "2");
    pair.settle();
    assert_eq!(text(&pair.laptop("a")), "2");
    set_read_only(&pair.laptop("a"), true);
    fs_err::remove_file(pair.far("a")).unwrap();
    pair.settle();
    assert!(!pair.laptop("a").exists());
}

#[test]
fn a_file_that_somebody_has_open_is_replaced_once_it_is_closed() {
    use std::os::windows::fs::OpenOptionsExt;
    let pair = Pair::new(Kind::Directory, |root| write(&root.join("a"), "1"));
    pair.settle();
    // As an office program does it: nobody else may write, move or remove it.
    let open = fs::OpenOptions::new().read(true).share_mode(1).open(pair.laptop("a")).unwrap();
    write(&pair.far("a"), "2");
    assert!(matches!(pair.flush(), Flushed::Left(_)));
    assert_eq!(text(&pair.laptop("a")), "1");
    drop(open);
    pair.until_text(&pair.laptop("a"), "2");
    pair.settle();
}

#[test]
fn links_are_kept_where_the_user_may_make_them() {
    let pair = Pair::new(Kind::Directory, |root| {
        write(&root.join("a"), "1");
        // Not every user may.
        let _ = symlink_file("a", root.join("link"));
    });
    if fs::symlink_metadata(pair.laptop("link")).is_ok() {
        pair.settle();
        assert_eq!(fs::read_link(pair.far("link")).unwrap(), Path::new("a"));
        assert_eq!(text(&pair.far("link")), "1");
        fs_err::remove_file(pair.far("link")).unwrap();
        pair.settle();
        assert!(fs::symlink_metadata(pair.laptop("link")).is_err());
    }
}
