//! Data directories that cannot be used: the broker says which and why, in one
//! line, and ends with a failure.

use std::fs;
use std::path::Path;

use leveret_protocol::method::*;

use super::disk::Disk;
use super::process::Broker;
use super::wire::Wire;

/// Starts a broker that must end by itself; what it says.
#[track_caller]
fn refusal(data_dir: &Path) -> String {
    let mut broker = Broker::start(data_dir);
    let status = broker.await_exit();
    let log = broker.log().whole();
    assert!(!status.success(), "{status}: {log}");
    assert!(!log.contains("panicked"), "{log}");
    let last = log.lines().last().expect("a line").to_owned();
    assert!(last.starts_with("leveret: "), "{log}");
    last
}

#[track_caller]
fn says(line: &str, texts: &[&str]) {
    for text in texts {
        assert!(line.contains(text), "no {text:?} in {line:?}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "not ours").expect("it can be written");
    for data_dir in [
        &*file,
        &*file.join("below"),
        Path::new("/proc/leveret/data"),
    ] {
        let line = refusal(data_dir);
        says(
            &line,
            &["cannot use the data directory", &data_dir.to_string_lossy()],
        );
    }
    assert_eq!(fs::read_to_string(&file).expect("it is left"), "not ours");
}

#[test]
fn a_data_directory_on_a_read_only_disk_is_named() {
    let Some(disk) = Disk::of_size(64 << 20) else {
        return;
    };
    let data_dir = disk.path().join("data");
    Broker::listening(&data_dir).stop();
    disk.make_read_only();
    let line = refusal(&data_dir);
    says(
        &line,
        &[&data_dir.to_string_lossy(), "Read-only file system"],
    );
}

#[test]
fn files_of_a_newer_version_are_named_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let config = directory.path().join("leveret.toml");
    fs::write(&config, "[store]\nhot_size = \"1MiB\"\n").expect("it can be written");
    let broker = Broker::configured(&data_dir, &config);
    write_pages(&broker, &data_dir);
    broker.stop();
    for (kind, header_bytes) in [(".log", 24), (".seg", 32)] {
        let path = file_of(&data_dir, kind).expect("there is one");
        let before = fs::read(&path).expect("it can be read");
        let mut newer = before.clone();
        newer[8..10].copy_from_slice(&7u16.to_le_bytes());
        let checksum = crc32c::crc32c(&newer[..header_bytes]);
        newer[header_bytes..header_bytes + 4].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, &newer).expect("it can be written");
        let line = refusal(&data_dir);
        let name = path.file_name().expect("a name").to_string_lossy();
        let said = [&*name, "format version 7", "reads up to 2", "newer version"];
        says(&line, &[&data_dir.to_string_lossy()]);
        says(&line, &said);
        assert_eq!(fs::read(&path).expect("it can be read"), newer, "{name}");
        fs::write(&path, before).expect("it can be written");
    }
    Broker::configured(&data_dir, &config).stop();
}

/// Publishes until a segment has a page.
fn write_pages(broker: &Broker, data_dir: &Path) {
    let mut wire = Wire::open(broker.address()).expect("a connection");
    wire.ok(&ConfirmSelect::default()).expect("confirms");
    let declare = QueueDeclare {
        queue: "paged",
        durable: true,
        ..QueueDeclare::default()
    };
    wire.ok(&declare).expect("a queue");
    for _ in 0..200 {
        if file_of(data_dir, ".seg").is_some() {
            return;
        }
        (0..4).for_each(|_| wire.put_publish("", "paged", true, &[0; 100_000]));
        wire.await_next().expect("a confirm");
    }
    panic!("nothing is written out");
}

/// A log file in use, or a segment.
fn file_of(data_dir: &Path, kind: &str) -> Option<std::path::PathBuf> {
    let paths = fs::read_dir(data_dir).expect("it is there");
    paths
        .map(|entry| entry.expect("an entry").path())
        .find(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.ends_with(kind) && (name.starts_with("log-") || name.starts_with("queue-"))
        })
}
