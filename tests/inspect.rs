//! `leveret inspect` on a directory with known content.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, mpsc};

use assert_cmd::Command;
use leveret::model::{
    BlockBuilder, Body, Message, QueueId, QueueSettings, Sequence, SequenceRange, Verdict,
};
use leveret::store::metadata::{self, Change, Metadata};
use leveret::store::{
    Disk, Opened, PageOutJob, Run, Settled, Store, StoreSettings, definitions_file,
};

const QUEUE: QueueId = QueueId(7);

/// Twenty messages, of which the first three are settled, the next eight in a
/// page and the others in the log.
fn fill(directory: &Path) {
    let files = Arc::new(Disk::open(directory).expect("a directory"));
    let backend = definitions_file(&*files).expect("a new file");
    let (metadata, _) = Metadata::open(backend).expect("it is new");
    let settings = QueueSettings {
        durable: true,
        ..QueueSettings::default()
    };
    let ticket = metadata.submit(vec![
        Change::PutVhost("/".into()),
        Change::PutQueue("/".into(), "tasks".into(), QUEUE, settings),
    ]);
    assert_eq!(metadata.wait(ticket), metadata::Verdict::Durable);
    drop(metadata);
    let store = open(files).store;
    store.register(QUEUE);
    let messages: Vec<Message> = (0..20).map(message).collect();
    let run = Run {
        queue: QUEUE,
        first: Sequence(0),
        message: 0,
        count: 20,
    };
    let ticket = store.append(&[], &[run], &messages);
    while store.progress().verdict(ticket) == Verdict::Pending {
        std::thread::yield_now();
    }
    let range = SequenceRange::new(Sequence(0), 3);
    let queue = QUEUE;
    store.settle(&[Settled { queue, range }], &[]);
    let (done, written) = mpsc::channel();
    let paged: Vec<_> = (3..11)
        .map(|place| (Sequence(place), message(place)))
        .collect();
    store.page_out(PageOutJob {
        queue: QUEUE,
        durable: true,
        first: Sequence(3),
        messages: Box::new(paged),
        done: Box::new(move |page| done.send(page).expect("it is waited for")),
    });
    assert!(written.recv().expect("the pager is alive").is_some());
    store.close();
}

fn open(files: Arc<Disk>) -> Opened {
    let settings = StoreSettings::default();
    Store::open(files, &settings, &[QUEUE], Box::new(|| {})).expect("it opens")
}

fn message(number: u64) -> Message {
    let mut builder = BlockBuilder::default();
    let body = format!("this is message {number}.");
    builder.push(
        b"\0\x05tasks",
        b"header",
        Body::Slice(body.as_bytes()),
        true,
    );
    Message::new(Arc::new(builder.finish()), 0)
}

fn inspect(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("inspect").args(arguments);
    command.output().expect("the binary runs")
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).expect("text")
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("ASCII");
            (name, fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

/// Flips one bit of that text, wherever a file has it, and says in which.
fn damage(directory: &Path, found: &str, in_file: &str) -> String {
    for (name, mut octets) in contents(directory) {
        let at = octets
            .windows(found.len())
            .position(|octets| octets == found.as_bytes());
        if let Some(at) = at.filter(|_| name.starts_with(in_file)) {
            octets[at] ^= 1;
            fs::write(directory.join(&name), octets).expect("it is writable");
            return name;
        }
    }
    panic!("{found} is not there")
}

#[test]
fn what_is_there_is_listed_and_nothing_is_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path());
    let path = directory.path().to_str().expect("UTF-8");
    let before = contents(directory.path());
    let listed = inspect(&[path]);
    assert!(listed.status.success(), "{}", text(&listed));
    let listed = text(&listed);
    assert!(listed.contains("\"tasks\" in vhost \"/\""), "{listed}");
    assert!(listed.contains("metadata.redb"), "{listed}");
    assert!(listed.contains("the broker ended as it should"), "{listed}");
    let json = text(&inspect(&[path, "--json", "--verify"]));
    let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let queue = &read["queues"][0];
    let expected = [
        ("messages", 17),
        ("in_log", 9),
        ("in_segments", 8),
        ("oldest", 3),
        ("next", 20),
    ];
    for (field, value) in expected {
        assert_eq!(queue[field], value, "{field}: {json}");
    }
    assert_eq!(read["damages"].as_array().map(Vec::len), Some(0), "{json}");
    let verified = inspect(&[path, "--verify"]);
    assert!(verified.status.success());
    assert!(text(&verified).contains("every message is whole"));
    assert!(
        contents(directory.path()) == before,
        "something was changed"
    );
}

#[test]
fn damage_is_named_and_the_rest_can_be_saved() {
    for (shows, in_file, whole) in [("in a page", "queue-", 16), ("in the log", "log-", 8)] {
        let directory = tempfile::tempdir().expect("a directory");
        fill(directory.path());
        let path = directory.path().to_str().expect("UTF-8");
        let name = damage(directory.path(), "this is message 5.", in_file);
        let verified = inspect(&[path, "--verify"]);
        assert_eq!(verified.status.code(), Some(1), "{shows}");
        assert!(text(&verified).contains(&name), "{}", text(&verified));

        let before = contents(directory.path());
        let target = tempfile::tempdir().expect("a directory");
        let saved_to = target.path().join("saved");
        let saved = inspect(&[path, "--repair", saved_to.to_str().expect("UTF-8")]);
        assert!(saved.status.success(), "{}", text(&saved));
        let said = format!("{whole} messages saved");
        assert!(text(&saved).contains(&said), "{shows}: {}", text(&saved));
        assert!(contents(directory.path()) == before, "{shows}");
        let files = Arc::new(Disk::open(&saved_to).expect("a directory"));
        let opened = open(files);
        assert_eq!(opened.report.messages, whole, "{shows}");
        assert_eq!(opened.queues[0].next, Sequence(20), "{shows}");
        drop(opened);
        let again = inspect(&[path, "--repair", saved_to.to_str().expect("UTF-8")]);
        assert!(text(&again).contains("is not empty"), "{}", text(&again));
    }
}

#[test]
fn without_definitions_messages_are_saved_under_other_names() {
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path());
    let path = directory.path().to_str().expect("UTF-8");
    fs::write(directory.path().join("metadata.redb"), "nothing").expect("it is writable");
    let listed = inspect(&[path, "--verify"]);
    assert_eq!(listed.status.code(), Some(1));
    assert!(text(&listed).contains("definitions cannot be read"));
    let target = tempfile::tempdir().expect("a directory");
    let saved_to = target.path().join("saved");
    let saved_to = saved_to.to_str().expect("UTF-8");
    let saved = inspect(&[path, "--repair", saved_to]);
    assert!(
        text(&saved).contains("17 messages saved"),
        "{}",
        text(&saved)
    );
    let listed = text(&inspect(&[saved_to]));
    assert!(
        listed.contains("\"recovered-7\" in vhost \"/\""),
        "{listed}"
    );
}

#[test]
fn a_directory_in_use_and_one_that_is_none_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let held = Disk::open(directory.path()).expect("a directory");
    let refused = inspect(&[path]);
    assert!(!refused.status.success());
    let said = format!("process {}", std::process::id());
    assert!(text(&refused).contains(&said), "{}", text(&refused));
    drop(held);
    let missing = inspect(&["nowhere-at-all"]);
    assert!(!missing.status.success());
    assert!(
        text(&missing).contains("nowhere-at-all"),
        "{}",
        text(&missing)
    );
}
