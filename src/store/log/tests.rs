//! The document's example is what is written.

use std::fmt::Write;
use std::sync::Arc;

use crate::model::{BlockBuilder, Body, Message, QueueId, Sequence, Traits};
use crate::store::{Disk, Run, Store, StoreSettings};

const DOCUMENT: &str = include_str!("../../../docs/storage.md");
const QUEUE: QueueId = QueueId(7);

#[test]
fn the_documented_log_file_is_what_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = Arc::new(Disk::open(directory.path()).expect("the directory is ours"));
    let settings = StoreSettings::default();
    let opened = Store::open(files, &settings, &[], Box::new(|| {})).expect("it opens");
    opened.store.register(QUEUE);
    let run = Run {
        queue: QUEUE,
        first: Sequence(0),
        message: 0,
        count: 1,
    };
    let ticket = opened.store.append(&[], &[run], &[hello()]);
    while opened.store.progress().durable < ticket {
        std::thread::yield_now();
    }
    opened.store.abandon();
    let path = directory.path().join("log-0000000000000001.log");
    let octets = std::fs::read(path).expect("the log is there");
    let dump = dump(&octets[..272]);
    assert!(
        DOCUMENT.contains(&format!("```text\n{dump}```\n")),
        "docs/storage.md does not have it:\n{dump}"
    );
}

/// A persistent message with nothing but a body, of 2023-11-14, 22:13:20 UTC.
fn hello() -> Message {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&5_u64.to_be_bytes());
    // delivery-mode alone, which is 2.
    header.extend_from_slice(&[0x10, 0, 2]);
    let mut builder = BlockBuilder::default();
    builder.arrived(1_700_000_000_000);
    builder.push(
        b"\0\x05hares",
        &header,
        Body::Slice(b"hello"),
        Traits::new(true),
    );
    Message::new(Arc::new(builder.finish()), 0)
}

/// As `hexdump -C` has it.
fn dump(octets: &[u8]) -> String {
    let mut out = String::new();
    for (number, line) in octets.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|octet| format!("{octet:02x}")).collect();
        let (left, right) = hex.split_at(hex.len().min(8));
        let text: String = line
            .iter()
            .map(|octet| match octet {
                b' '..=b'~' => char::from(*octet),
                _ => '.',
            })
            .collect();
        let (at, left, right) = (number * 16, left.join(" "), right.join(" "));
        writeln!(out, "{at:08x}  {left}  {right}  |{text}|").expect("a string takes all");
    }
    out
}
