//! The database under stress, and every row there and back.

mod disk;
mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tables::{FORMAT_VERSION, for_tests};
use super::{Change, Definitions, Health, Metadata, MetadataError, Verdict};
use crate::model::{
    Destination, ExchangeKind, ExchangeSettings, FieldTable, QueueId, QueueSettings, Ticket,
};
use crate::routing::Binding;
use disk::Disk;

fn open(disk: &Disk) -> (Metadata, Definitions) {
    Metadata::open(disk.clone()).expect("nothing is wrong with it")
}

/// What is there, read with nobody writing.
fn stored(disk: &Disk) -> Definitions {
    open(disk).1
}

fn durable_queue() -> QueueSettings {
    QueueSettings {
        durable: true,
        ..QueueSettings::default()
    }
}

fn queue(name: &str, id: u64) -> Vec<Change> {
    vec![
        Change::PutVhost("/".into()),
        Change::PutQueue("/".into(), name.into(), QueueId(id), durable_queue()),
    ]
}

fn binding(source: &str, queue: &str, key: &str) -> Binding {
    Binding {
        source: source.into(),
        destination: Destination::Queue(queue.into()),
        routing_key: key.into(),
        arguments: Arc::default(),
    }
}

#[test]
fn what_is_submitted_is_found_again() {
    let disk = Disk::default();
    let (metadata, before) = open(&disk);
    assert_eq!(before, Definitions::default());
    let settings = ExchangeSettings {
        auto_delete: true,
        internal: true,
        arguments: Arc::new(FieldTable::from_iter([("alternate-exchange", "other")])),
        ..ExchangeSettings::new(ExchangeKind::Topic)
    };
    let mut changes = queue("q", 7);
    changes.push(Change::PutExchange(
        "/".into(),
        "x".into(),
        settings.clone(),
    ));
    // Listed in the order of coming, which is not that of the keys.
    for key in ["b", "a", "c"] {
        changes.push(Change::Bind("/".into(), binding("x", "q", key)));
    }
    let ticket = metadata.submit(changes);
    assert_eq!(metadata.wait(ticket), Verdict::Durable);
    metadata.submit(vec![Change::Unbind("/".into(), binding("x", "q", "a"))]);
    drop(metadata);

    let definitions = stored(&disk);
    assert_eq!(definitions.next_queue_id, QueueId(8));
    let [vhost] = &definitions.vhosts[..] else {
        panic!("{definitions:?}");
    };
    assert_eq!(vhost.name, "/".into());
    assert_eq!(vhost.exchanges, [("x".into(), settings)]);
    assert_eq!(vhost.queues, [("q".into(), QueueId(7), durable_queue())]);
    let keys: Vec<_> = vhost.bindings.iter().map(|one| &*one.routing_key).collect();
    assert_eq!(keys, ["b", "c"]);
}

#[test]
fn an_id_is_never_given_again() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    metadata.submit(queue("a", 4));
    metadata.submit(queue("b", 2));
    metadata.submit(vec![Change::DeleteQueue("/".into(), "a".into())]);
    metadata.close();
    assert_eq!(stored(&disk).next_queue_id, QueueId(5));
    let (metadata, _) = open(&disk);
    metadata.submit(vec![Change::ReserveQueueIds(QueueId(100))]);
    metadata.submit(vec![Change::ReserveQueueIds(QueueId(50))]);
    metadata.close();
    assert_eq!(stored(&disk).next_queue_id, QueueId(100));
}

/// A thousand declares while one sync takes its time cost one more commit.
#[test]
fn what_waits_goes_into_one_commit() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    let observed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&observed);
    metadata.subscribe(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let before = disk.syncs();
    let held = disk.hold_syncs();
    let first = metadata.submit(queue("first", 1));
    held.wait_until_one_is_held();
    let mut last = first;
    for id in 2..1002 {
        last = metadata.submit(queue(&format!("q{id}"), id));
    }
    assert_eq!(metadata.durable(), Ticket(0));
    assert_eq!(metadata.verdict(first), Verdict::Pending);
    assert_eq!(metadata.waiting(), 2000);
    drop(held);
    assert_eq!(metadata.wait(last), Verdict::Durable);
    let syncs = disk.syncs() - before;
    assert!(
        syncs <= 4,
        "{syncs} for two commits, the first after an open"
    );
    metadata.close();
    assert_eq!(observed.load(Ordering::SeqCst), 3, "two commits, one close");
    assert_eq!(stored(&disk).vhosts[0].queues.len(), 1001);
}

#[test]
fn after_a_failed_sync_nothing_is_durable() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    let metadata = Arc::new(metadata);
    let (sender, told) = std::sync::mpsc::channel();
    let weak = Arc::downgrade(&metadata);
    metadata.subscribe(move || {
        if let Some(metadata) = weak.upgrade() {
            let _ = sender.send(metadata.health());
        }
    });
    let good = metadata.submit(queue("good", 1));
    assert_eq!(metadata.wait(good), Verdict::Durable);
    assert_eq!(told.recv(), Ok(Health::Sound));

    disk.fail_syncs(true);
    let bad = metadata.submit(queue("bad", 2));
    assert_eq!(metadata.wait(bad), Verdict::Failed);
    disk.fail_syncs(false);
    let later = metadata.submit(queue("later", 3));
    assert_eq!(metadata.wait(later), Verdict::Failed);
    assert_eq!(metadata.verdict(good), Verdict::Durable);
    assert_eq!(metadata.durable(), good);
    let cause = metadata.failed().expect("it has failed");
    assert!(cause.contains("the sync failed"), "{cause}");
    assert_eq!(told.recv(), Ok(Health::Failed(cause)));
    assert_eq!(metadata.waiting(), 0, "nothing piles up");
    drop(metadata);
    let queues = &stored(&disk).vhosts[0].queues;
    assert!(queues.iter().any(|(name, ..)| name.as_str() == "good"));
    assert!(!queues.iter().any(|(name, ..)| name.as_str() == "later"));
}

#[test]
fn after_a_kill_all_that_was_durable_is_there() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    for id in 1..50 {
        let ticket = metadata.submit(queue(&format!("q{id}"), id));
        assert_eq!(metadata.wait(ticket), Verdict::Durable);
        let killed = Disk::default();
        killed.set_octets(disk.octets());
        let definitions = stored(&killed);
        assert_eq!(definitions.vhosts[0].queues.len() as u64, id);
        assert_eq!(definitions.next_queue_id, QueueId(id + 1));
    }
}

#[test]
fn a_panic_fails_and_leaves_nobody_waiting() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    disk.panic_at_syncs();
    let ticket = metadata.submit(queue("q", 1));
    assert_eq!(metadata.wait(ticket), Verdict::Failed);
    let cause = "the thread that writes them has panicked";
    assert_eq!(metadata.failed().as_deref(), Some(cause));
}

#[test]
fn a_full_disk_is_waited_for() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    disk.fill(true);
    let first = metadata.submit(queue("first", 1));
    while !matches!(metadata.health(), Health::Stalled(_)) {
        std::thread::yield_now();
    }
    let second = metadata.submit(queue("second", 2));
    assert_eq!(metadata.verdict(first), Verdict::Pending);
    assert_eq!(metadata.failed(), None);
    disk.fill(false);
    assert_eq!(metadata.wait(second), Verdict::Durable);
    assert_eq!(metadata.health(), Health::Sound);
    drop(metadata);
    assert_eq!(stored(&disk).vhosts[0].queues.len(), 2);
}

#[test]
fn a_disk_that_stays_full_fails_the_close() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    disk.fill(true);
    let ticket = metadata.submit(queue("q", 1));
    while !matches!(metadata.health(), Health::Stalled(_)) {
        std::thread::yield_now();
    }
    metadata.close();
    assert_eq!(metadata.verdict(ticket), Verdict::Failed);
    disk.fill(false);
    assert_eq!(stored(&disk).vhosts, []);
}

#[test]
fn once_closed_it_takes_nothing() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    let before = metadata.submit(queue("q", 1));
    metadata.close();
    metadata.close();
    assert_eq!(metadata.verdict(before), Verdict::Durable);
    assert_eq!(metadata.submit(Vec::new()), before);
    let after = metadata.submit(queue("r", 2));
    assert_eq!(metadata.wait(after), Verdict::Failed);
    assert_eq!(metadata.health(), Health::Closed);
    assert_eq!(metadata.failed(), None);
}

#[test]
fn a_newer_format_is_refused() {
    let disk = Disk::default();
    open(&disk);
    for_tests::set_format(&disk, FORMAT_VERSION + 1);
    let error = Metadata::open(disk.clone()).expect_err("nobody knows what is in it");
    assert_eq!(
        error.to_string(),
        "the definitions have format 2, this version of Leveret knows formats up to 1: a newer \
         version wrote them"
    );
    for_tests::set_format(&disk, 0);
    let error = Metadata::open(disk.clone()).expect_err("there is no such format");
    assert!(matches!(error, MetadataError::Damaged { .. }), "{error}");
    for_tests::set_format(&disk, FORMAT_VERSION);
    open(&disk);
}

#[test]
fn damaged_rows_are_named() {
    let v1 = |rest: &[u8]| [&[1], rest].concat();
    let id = |id: u64| id.to_be_bytes();
    let empty = [0; 4];
    for (table, key, value, expected) in [
        (
            "vhosts",
            &b"\x01/"[..],
            vec![2],
            "table 'vhosts', key '\\x01/': its version is 2, and only 1 is known",
        ),
        (
            "exchanges",
            b"\x01/\x01x",
            v1(b"\x00\x05bogus\0\0\0\0"),
            "table 'exchanges', key '\\x01/\\x01x': unknown exchange type 'bogus'",
        ),
        (
            "exchanges",
            b"\x01/\x01x",
            v1(b"\x08\x05topic\0\0\0\0"),
            "table 'exchanges', key '\\x01/\\x01x': unknown flags 0x08",
        ),
        (
            "exchanges",
            b"\x01z\x01x",
            v1(b"\x00\x05topic\0\0\0\0"),
            "table 'exchanges', key '\\x01z\\x01x': there is no vhost 'z'",
        ),
        (
            "queues",
            b"\x01/\x01r",
            v1(&[&[0][..], &id(1), &empty].concat()),
            "table 'queues', key '\\x01/\\x01r': its id 1 is not its own",
        ),
        (
            "queues",
            b"\x01/\x01r",
            v1(&[&[0][..], &id(2), &empty].concat()),
            "table 'queues', key '\\x01/\\x01r': its id 2 is not its own",
        ),
        (
            "queues",
            b"\x01/\x02r",
            vec![],
            "table 'queues', key '\\x01/\\x02r': it is cut off",
        ),
        (
            "bindings",
            b"\x01/\x01xq\x01q\x00\0\0\0\x04\x01at\x01",
            v1(&[&id(1)[..], &empty].concat()),
            "table 'bindings', key '\\x01/\\x01xq\\x01q\\x00\\x00\\x00\\x00\\x04\\x01at\\x01': \
             key and value have different arguments",
        ),
    ] {
        let disk = Disk::default();
        let (metadata, _) = open(&disk);
        metadata.submit(queue("q", 1));
        drop(metadata);
        for_tests::put(&disk, table, key, &value);
        let error = Metadata::open(disk).expect_err(expected);
        assert_eq!(
            error.to_string(),
            format!("the definitions are damaged: {expected}")
        );
    }
}

/// Whatever else has been done to the file, there is an answer.
#[test]
fn a_changed_file_is_refused_or_read() {
    let disk = Disk::default();
    let (metadata, _) = open(&disk);
    for id in 1..100 {
        let mut changes = queue(&format!("q{id}"), id);
        let key = format!("{id}");
        changes.push(Change::Bind("/".into(), binding("amq.topic", "q1", &key)));
        metadata.wait(metadata.submit(changes));
    }
    drop(metadata);
    let whole = disk.octets();
    let mut refused = 0;
    for step in 0..400 {
        let changed = Disk::default();
        let mut octets = whole.clone();
        let at = step * 7919 % octets.len();
        octets[at] ^= 0x5a;
        changed.set_octets(octets);
        refused += usize::from(Metadata::open(changed).is_err());
    }
    assert!(refused > 0, "checksums notice");
    let cut = Disk::default();
    cut.set_octets(whole[..whole.len() / 2].to_vec());
    Metadata::open(cut).expect_err("half of it is missing");
    let other = Disk::default();
    other.set_octets(b"this is no database".to_vec());
    Metadata::open(other).expect_err("it is none");
}

#[test]
fn a_file_is_made_and_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |files: &crate::store::Disk| {
        let backend = crate::store::definitions_file(files).expect("there is room");
        Metadata::open(backend)
    };
    let files = crate::store::Disk::open(folder.path()).expect("it is ours");
    let (metadata, _) = open(&files).expect("it is made");
    metadata.submit(queue("q", 1));
    let error = crate::store::Disk::open(folder.path()).expect_err("one at a time");
    assert!(error.to_string().contains("has it open"), "{error}");
    drop(metadata);
    let (_metadata, definitions) = open(&files).expect("it is there");
    assert_eq!(definitions.vhosts[0].queues.len(), 1);
}
