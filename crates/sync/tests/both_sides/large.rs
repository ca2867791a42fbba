//! Large files, and many of them: what travels, and that it arrives.

use super::*;

#[test]
fn of_a_large_file_that_has_changed_only_what_is_new_travels_either_way() {
    let mut content = noise(0, 64 << 20);
    let pair = Pair::new(Kind::Directory, |root| fs_err::write(root.join("disk"), &content).unwrap());
    pair.settle();
    let mut seed = 0;
    for (here, there) in [(pair.laptop("disk"), pair.far("disk")), (pair.far("disk"), pair.laptop("disk"))] {
        // Overwritten, inserted, taken out.
        for quarter in 1..4 {
            seed += 1;
            let at = quarter * (16 << 20);
            let replaced = [1000, 0, 5000][quarter - 1];
            content.splice(at..at + replaced, noise(seed, [1000, 5000, 0][quarter - 1]));
        }
        let before = pair.carried.load(Ordering::Relaxed);
        // At once: a file that is written anew is short for a while.
        let new = pair.directory.path().join("new");
        fs_err::write(&new, &content).unwrap();
        fs::rename(&new, &here).unwrap();
        pair.settle();
        assert!(fs_err::read(&there).unwrap() == content);
        let carried = pair.carried.load(Ordering::Relaxed) - before;
        assert!(carried < 700 << 10, "{carried} bytes");

        let end = noise(100 + seed, 50_000);
        content.extend(&end);
        let before = pair.carried.load(Ordering::Relaxed);
        std::io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(&here).unwrap(), &end).unwrap();
        pair.settle();
        assert!(fs_err::read(&there).unwrap() == content);
        let carried = pair.carried.load(Ordering::Relaxed) - before;
        assert!(carried < 250 << 10, "{carried} bytes for what was appended");
    }
}

#[test]
fn many_files_that_are_asked_for_at_once_arrive() {
    let pair = Pair::new(Kind::Directory, |root| {
        let far = root.ancestors().nth(2).unwrap().join("far/roots/deep/root");
        for number in 0..1500 {
            let directory = far.join((number / 100).to_string());
            if number % 100 == 0 {
                fs_err::create_dir_all(&directory).unwrap();
            }
            write(&directory.join(number.to_string()), &number.to_string());
        }
    });
    pair.settle();
    for number in 0..1500 {
        assert_eq!(text(&pair.laptop(&format!("{}/{number}", number / 100))), number.to_string());
    }
}

#[test]
fn of_a_large_file_that_was_changed_in_its_midst_only_those_blocks_travel_either_way() {
    let mut content = noise(0, 64 << 20);
    let pair = Pair::new(Kind::Directory, |root| fs_err::write(root.join("disk"), &content).unwrap());
    pair.settle();
    let ways = [(pair.laptop("disk"), pair.far("disk")), (pair.far("disk"), pair.laptop("disk"))];
    for (seed, (here, there)) in (0..).zip(ways.iter().cycle().take(4)) {
        let mut file = fs::OpenOptions::new().write(true).open(here).unwrap();
        let before = pair.carried.load(Ordering::Relaxed);
        for quarter in 1..4_usize {
            let (at, new) = (quarter * (16 << 20) + 100, noise(seed * 3 + quarter as u8, 1000));
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at as u64)).unwrap();
            std::io::Write::write_all(&mut file, &new).unwrap();
            content[at..at + new.len()].copy_from_slice(&new);
        }
        drop(file);
        while pair.flush() != Flushed::Done {}
        assert!(fs_err::read(there).unwrap() == content);
        let carried = pair.carried.load(Ordering::Relaxed) - before;
        // Three blocks of 32 KiB, and no list of what the file consists of.
        assert!(carried < 104 << 10, "{carried} bytes");
    }
}

#[test]
fn a_large_file_that_changes_while_it_travels_arrives_as_it_is_at_last() {
    let pair = Pair::new(Kind::Directory, |root| fs_err::write(root.join("disk"), noise(0, 4 << 20)).unwrap());
    pair.settle();
    for seed in 1..20 {
        let mut file = fs::OpenOptions::new().write(true).open(pair.laptop("disk")).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(u64::from(seed) * 100_000)).unwrap();
        std::io::Write::write_all(&mut file, &noise(seed, 1000)).unwrap();
        if seed % 3 == 0 {
            file.set_len((4 << 20) - u64::from(seed) * 10_000).unwrap();
            std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
            std::io::Write::write_all(&mut file, &noise(seed, 20_000)).unwrap();
        }
    }
    while pair.flush() != Flushed::Done {}
    assert!(fs_err::read(pair.far("disk")).unwrap() == fs_err::read(pair.laptop("disk")).unwrap());
}
