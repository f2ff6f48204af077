//! `leveret inspect` on a directory with known content.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use leveret::model::{
    BlockBuilder, Body, Message, PageTag, QueueId, QueueSettings, Sequence, SequenceRange, Traits,
    Verdict,
};
use leveret::store::metadata::{self, Change, Metadata};
use leveret::store::{
    Disk, Opened, PageOutJob, RecoveredContent, Returned, Run, Settled, Store, StoreSettings,
    definitions_file,
};

const QUEUE: QueueId = QueueId(7);
const RETURNED: Sequence = Sequence(15);
const DUE: u64 = 1_800_000_000_000;
/// When the first message arrived; one came each second.
const ARRIVED: u64 = 1_700_000_000_000;

/// Twenty messages in a record each, of which the first three are settled, the
/// next eight in a page and in the log, and the others in the log; one of these
/// came back twice.
fn fill(directory: &Path) {
    fill_and(directory, || ());
}

/// The same, and something else just before all is closed.
fn fill_and(directory: &Path, before_close: impl FnOnce()) {
    let files = Arc::new(disk(directory));
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
    let store = open(files).store;
    store.register(QUEUE);
    (0..19).for_each(|place| append(&store, place));
    let range = SequenceRange::new(Sequence(0), 3);
    let queue = QUEUE;
    let returned = Returned {
        queue,
        place: RETURNED,
        deliveries: 2,
        due: DUE,
    };
    store.settle(&[Settled { queue, range }], &[returned]);
    // Settlements are written with the next record at the latest.
    append(&store, 19);
    write_page(&store, 3..11);
    before_close();
    store.close();
    metadata.close();
}

/// A data directory. Processes that other tests of this binary start share its
/// lock for the moment between their fork and their exec.
fn disk(directory: &Path) -> Disk {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Disk::open(directory) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::yield_now();
            }
            other => return other.expect("a directory"),
        }
    }
}

fn append(store: &Store, place: u64) {
    let run = Run {
        queue: QUEUE,
        first: Sequence(place),
        message: 0,
        count: 1,
    };
    let ticket = store.append(&[], &[run], &[message(place)]);
    while store.progress().verdict(ticket) == Verdict::Pending {
        std::thread::yield_now();
    }
}

fn write_page(store: &Store, places: Range<u64>) {
    write_page_of(store, PageTag::default(), &places.collect::<Vec<u64>>());
}

fn write_page_of(store: &Store, tag: PageTag, places: &[u64]) {
    let (done, written) = mpsc::channel();
    let first = Sequence(places[0]);
    let paged: Vec<_> = places
        .iter()
        .map(|place| (Sequence(*place), message(*place)))
        .collect();
    store.page_out(PageOutJob {
        queue: QUEUE,
        durable: true,
        first,
        tag,
        messages: Box::new(paged),
        done: Box::new(move |page| done.send(page).expect("it is waited for")),
    });
    assert!(written.recv().expect("the pager is alive").is_some());
}

/// Two lists of a queue whose places take turns, each with a page, and some
/// that are in the log alone.
#[test]
fn lists_that_take_turns_are_saved_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let [high, low] = [1, 2].map(|class| PageTag { class, due: DUE });
    fill(directory.path());
    let store = open(Arc::new(disk(directory.path()))).store;
    write_page_of(&store, high, &[11, 13, 17]);
    write_page_of(&store, low, &[12, 14, 18]);
    store.close();
    drop(store);
    let beside = tempfile::tempdir().expect("a directory");
    let saved_to = beside.path().join("saved");
    let to = saved_to.to_str().expect("text");
    let saved = inspect(&[directory.path().to_str().expect("text"), "--repair", to]);
    assert!(saved.status.success(), "{}", text(&saved));
    let opened = open(Arc::new(disk(&saved_to)));
    let expected: Vec<u64> = (3..11)
        .chain([11, 13, 17, 12, 14, 18, 15, 16, 19])
        .collect();
    assert_eq!(places(&opened), expected);
    let runs = &opened.queues[0].runs;
    let tags: Vec<PageTag> = runs.iter().map(|run| run.tag).collect();
    let none = PageTag::default();
    assert_eq!(tags, [none, high, low, none]);
}

/// The same messages, of which all but the last are in pages and in no log file
/// any more.
fn fill_pages(directory: &Path) {
    fill(directory);
    let files = Arc::new(disk(directory));
    let store = open(files).store;
    write_page(&store, 11..20);
    store.close();
    drop(store);
    let files = Arc::new(disk(directory));
    // The first file of the log goes at the start, once a page has all of it.
    open(files).store.close();
    let names = contents(directory).into_keys();
    let logs: Vec<String> = names.filter(|name| name.starts_with("log-")).collect();
    assert!(
        !logs.contains(&"log-0000000000000001.log".to_owned()),
        "{logs:?}"
    );
}

/// The places that are there, with the bodies checked.
fn places(opened: &Opened) -> Vec<u64> {
    let mut places = Vec::new();
    for run in opened.queues.iter().flat_map(|queue| &queue.runs) {
        let messages: Vec<(Sequence, Message)> = match &run.content {
            RecoveredContent::Resident(messages) => messages.clone(),
            RecoveredContent::Paged(page) => {
                let content = opened.store.read_page(*page);
                let consecutive = || (run.first.0..).map(Sequence).take(content.messages.len());
                let places = content.places.unwrap_or_else(|| consecutive().collect());
                places.into_iter().zip(content.messages).collect()
            }
        };
        for (place, found) in messages {
            let Body::Slice(body) = found.body() else {
                panic!("it is small")
            };
            assert_eq!(body, format!("this is message {}.", place.0).as_bytes());
            assert_eq!(found.arrived(), ARRIVED + place.0 * 1_000);
            assert_eq!(found.routing_key(), "tasks");
            places.push(place.0);
        }
    }
    places
}

fn open(files: Arc<Disk>) -> Opened {
    // Small files, so that they are quickly read.
    let settings = StoreSettings {
        log_bytes: 4 * 1024 * 1024,
        ..StoreSettings::default()
    };
    Store::open(files, &settings, &[QUEUE], Box::new(|| {})).expect("it opens")
}

fn message(number: u64) -> Message {
    let mut builder = BlockBuilder::default();
    let body = format!("this is message {number}.");
    builder.arrived(ARRIVED + number * 1_000);
    builder.push(
        b"\0\x05tasks",
        b"header",
        Body::Slice(body.as_bytes()),
        Traits::new(true),
    );
    Message::new(Arc::new(builder.finish()), 0)
}

/// Waits as [`disk`] does for the lock of what was just filled.
fn inspect(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("inspect").args(arguments);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let output = command.output().expect("the binary runs");
        if !text(&output).contains("a broker has it open") || Instant::now() > deadline {
            return output;
        }
    }
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

/// Flips one bit of that text in a file of such a name; which, and where.
fn damage(directory: &Path, found: &str, in_file: &str) -> (String, u64) {
    for (name, mut octets) in contents(directory) {
        let at = octets
            .windows(found.len())
            .position(|octets| octets == found.as_bytes());
        if let Some(at) = at.filter(|_| name.starts_with(in_file)) {
            octets[at] ^= 1;
            fs::write(directory.join(&name), octets).expect("it is writable");
            return (name, at as u64);
        }
    }
    panic!("{found} is not there")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", text(output));
    })
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
    for line in [
        "20 with 20 messages, 1 with settlements, 2 checkpoints",
        "queue 7: 8 messages in 1 page, places 3 to 10",
        "definitions: 1 vhost, no exchanges, 1 queue, no bindings",
        "3 2023-11-14 22:13:23",
        "\"tasks\" in vhost \"/\"",
        "the broker ended as it should; no damage in what was read",
    ] {
        assert!(listed.contains(line), "{line} is not in {listed}");
    }
    let read = json(&inspect(&[path, "--json", "--verify"]));
    let queue = &read["queues"][0];
    for (field, value) in [
        ("messages", 17),
        ("in_log", 9),
        ("in_segments", 8),
        ("oldest", 3),
        ("oldest_arrived", ARRIVED + 3_000),
        ("next", 20),
        ("settled", 3),
        ("settled_ranges", 1),
        ("returned", 1),
        ("returned_due", 1),
        ("redelivered_below", 0),
        ("unaccounted", 0),
    ] {
        assert_eq!(queue[field], value, "{field}: {read}");
    }
    for nothing in ["damages", "warnings"] {
        assert_eq!(read[nothing].as_array().map(Vec::len), Some(0), "{read}");
    }
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
    type Fill = fn(&Path);
    let all = 3..20;
    for (shows, fill, number, in_file, lost, unaccounted) in [
        (
            "only in a page",
            fill_pages as Fill,
            5,
            "queue-",
            true,
            false,
        ),
        ("first in a page", fill_pages, 3, "queue-", true, false),
        ("last in a page", fill_pages, 19, "queue-", true, false),
        (
            "in a page and the log has it",
            fill,
            5,
            "queue-",
            false,
            false,
        ),
        (
            "in the log and a page has it",
            fill,
            5,
            "log-",
            false,
            false,
        ),
        ("only in the log", fill, 17, "log-", false, true),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        fill(directory.path());
        let path = directory.path().to_str().expect("UTF-8");
        let body = format!("this is message {number}.");
        let (name, at) = damage(directory.path(), &body, in_file);
        let verified = inspect(&[path, "--verify"]);
        assert_eq!(verified.status.code(), Some(1), "{shows}");
        assert!(text(&verified).contains(&name), "{}", text(&verified));
        let read = json(&inspect(&[path, "--verify", "--json"]));
        assert_eq!(read["damages"].as_array().map(Vec::len), Some(1), "{read}");
        let damage = &read["damages"][0];
        let offset = damage["offset"].as_u64().expect("a number");
        let bytes = damage["bytes"].as_u64().expect("a number");
        assert_eq!(damage["file"], name.as_str(), "{shows}");
        assert!((offset..offset + bytes).contains(&at), "{shows}: {damage}");
        assert!(bytes < 200, "{shows}: {damage}");

        let before = contents(directory.path());
        let target = tempfile::tempdir().expect("a directory");
        let saved_to = target.path().join("saved");
        let to = saved_to.to_str().expect("UTF-8");
        let saved = inspect(&[path, "--repair", to, "--json"]);
        assert!(saved.status.success(), "{}", text(&saved));
        let told = json(&saved);
        let gone = lost || unaccounted;
        assert_eq!(told["saved"], if gone { 16 } else { 17 }, "{shows}: {told}");
        assert_eq!(told["lost"], u64::from(lost), "{shows}: {told}");
        assert_eq!(
            told["unaccounted"],
            u64::from(unaccounted),
            "{shows}: {told}"
        );
        let places_of = |places: &str| told["queues"][0][places][0]["first"].clone();
        if lost {
            assert_eq!(places_of("lost_places"), number, "{told}");
        }
        if unaccounted {
            assert_eq!(places_of("unaccounted_places"), number, "{told}");
        }
        assert!(contents(directory.path()) == before, "{shows}");
        let again = inspect(&[path, "--repair", to]);
        assert!(!again.status.success());
        assert!(text(&again).contains("is not empty"), "{}", text(&again));

        let opened = open(Arc::new(disk(&saved_to)));
        let whole = all.clone().filter(|place| !gone || *place != number);
        assert_eq!(places(&opened), whole.collect::<Vec<u64>>(), "{shows}");
        let queue = &opened.queues[0];
        assert_eq!(queue.next, Sequence(20), "{shows}");
        assert_eq!(queue.deliveries, [(RETURNED, (2, DUE))].into(), "{shows}");
    }
}

#[test]
fn records_that_were_cut_off_are_counted_by_their_indexes() {
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path());
    // What comes next is in a second file.
    let store = open(Arc::new(disk(directory.path()))).store;
    append(&store, 20);
    store.close();
    drop(store);
    let first = directory.path().join("log-0000000000000001.log");
    let mut octets = fs::read(&first).expect("it is there");
    let text = b"this is message 17.";
    let at = octets.windows(text.len()).position(|one| one == text);
    octets[at.expect("it is there") - 60..].fill(0);
    fs::write(&first, octets).expect("it is writable");
    let path = directory.path().to_str().expect("UTF-8");
    let read = json(&inspect(&[path, "--verify", "--json"]));
    let damages = read["damages"].as_array().expect("a list");
    // Messages 17 to 19, the settlements, and the clean stop.
    let told = "5 records cut off the end of the file";
    let found = damages.iter().any(|damage| damage["cost"] == told);
    assert!(found, "{read}");
}

#[test]
fn a_clean_directory_is_saved_as_it_is_and_a_killed_one_with_its_flags() {
    let directory = tempfile::tempdir().expect("a directory");
    let killed = tempfile::tempdir().expect("a directory");
    fill_and(directory.path(), || {
        for (name, octets) in contents(directory.path()) {
            fs::write(killed.path().join(name), octets).expect("it is writable");
        }
    });
    for (shows, directory, flagged_below) in [("clean", &directory, 0), ("killed", &killed, 20)] {
        let path = directory.path().to_str().expect("UTF-8");
        let read = json(&inspect(&[path, "--json"]));
        assert_eq!(read["clean"], flagged_below == 0, "{shows}: {read}");
        assert_eq!(
            read["queues"][0]["redelivered_below"], flagged_below,
            "{shows}"
        );
        let warned = read["warnings"].to_string().contains("were not closed");
        assert_eq!(warned, flagged_below > 0, "{shows}: {read}");
        let target = tempfile::tempdir().expect("a directory");
        let to = target.path().to_str().expect("UTF-8");
        let saved = inspect(&[path, "--repair", to]);
        assert!(
            text(&saved).contains("17 messages saved"),
            "{}",
            text(&saved)
        );
        let read = json(&inspect(&[to, "--verify", "--json"]));
        assert_eq!(read["clean"], true, "{shows}: {read}");
        let queue = &read["queues"][0];
        assert_eq!(queue["name"], "tasks", "{shows}");
        assert_eq!(queue["redelivered_below"], flagged_below, "{shows}");
        let opened = open(Arc::new(disk(target.path())));
        assert_eq!(places(&opened), (3..20).collect::<Vec<u64>>(), "{shows}");
        assert_eq!(
            opened.queues[0].deliveries,
            [(RETURNED, (2, DUE))].into(),
            "{shows}"
        );
    }
}

#[test]
fn without_definitions_messages_are_saved_under_other_names() {
    for (shows, content) in [
        ("damaged", Some("nothing")),
        ("empty", Some("")),
        ("missing", None),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        fill(directory.path());
        let path = directory.path().to_str().expect("UTF-8");
        let file = directory.path().join("metadata.redb");
        match content {
            Some(content) => fs::write(file, content).expect("it is writable"),
            None => fs::remove_file(file).expect("it is there"),
        }
        let listed = inspect(&[path, "--verify"]);
        assert_eq!(listed.status.code(), Some(1), "{shows}");
        let listed = text(&listed);
        assert!(
            listed.contains("definitions cannot be read"),
            "{shows}: {listed}"
        );
        let target = tempfile::tempdir().expect("a directory");
        let saved_to = target.path().join("saved");
        let saved_to = saved_to.to_str().expect("UTF-8");
        let saved = text(&inspect(&[path, "--repair", saved_to]));
        assert!(saved.contains("17 messages saved"), "{shows}: {saved}");
        let listed = text(&inspect(&[saved_to]));
        let name = "\"recovered-7\" in vhost \"/\"";
        assert!(listed.contains(name), "{shows}: {listed}");
    }
}

#[test]
fn definitions_with_any_damage_are_told_and_do_not_stop_it() {
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path());
    let file = directory.path().join("metadata.redb");
    let whole = fs::read(&file).expect("it is there");
    let used = whole.iter().rposition(|octet| *octet != 0).unwrap_or(0);
    for at in (0..used).step_by(used / 40) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        fs::write(&file, flipped).expect("it is writable");
        let inspection = leveret::store::inspect(directory.path(), false);
        let inspection = inspection.unwrap_or_else(|error| panic!("octet {at}: {error}"));
        let messages: u64 = inspection.queues.iter().map(|one| one.messages).sum();
        assert_eq!(messages, 17, "octet {at}: {inspection:?}");
    }
}

#[test]
fn a_directory_in_use_and_those_that_are_none_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let held = disk(directory.path());
    let refused = inspect(&[path]);
    assert!(!refused.status.success());
    let said = format!("process {}", std::process::id());
    assert!(text(&refused).contains(&said), "{}", text(&refused));
    drop(held);
    let foreign = tempfile::tempdir().expect("a directory");
    fs::write(foreign.path().join("holiday.jpg"), "sea").expect("it is writable");
    let foreign = foreign.path().to_str().expect("UTF-8");
    for (path, said) in [
        ("nowhere-at-all", "nowhere-at-all: No such file"),
        (foreign, "is no data directory"),
    ] {
        let refused = inspect(&[path]);
        assert!(!refused.status.success(), "{path}");
        assert!(text(&refused).contains(said), "{}", text(&refused));
    }
}

#[test]
fn without_a_lock_file_it_goes_on_with_a_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path());
    fs::remove_file(directory.path().join("lock")).expect("it is there");
    let path = directory.path().to_str().expect("UTF-8");
    let listed = inspect(&[path]);
    assert!(listed.status.success());
    let listed = text(&listed);
    assert!(
        listed.contains("warning: there is no lock file"),
        "{listed}"
    );
    assert!(!directory.path().join("lock").exists());
}

#[test]
fn nothing_is_saved_into_the_directory_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    fill(directory.path());
    let path = directory.path().to_str().expect("UTF-8");
    let before = contents(directory.path());
    for target in ["saved", "not/yet/there", "there/../saved"] {
        let inside = directory.path().join(target);
        let refused = inspect(&[path, "--repair", inside.to_str().expect("UTF-8")]);
        assert!(!refused.status.success(), "{target}");
        let said = text(&refused);
        assert!(
            said.contains("nothing is to be changed"),
            "{target}: {said}"
        );
    }
    assert!(
        contents(directory.path()) == before,
        "something was changed"
    );
}
