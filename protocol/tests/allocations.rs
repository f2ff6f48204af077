//! What input can make the codec allocate, counted by the allocator itself.

#![allow(unsafe_code, reason = "an allocator that counts has to be one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use leveret_protocol::{
    ContentHeader, FieldTable, FieldValue, Limits, Method, Properties, PropertyScan, Writer,
    content, frame, header, table,
};

/// Passes on to the system's allocator and adds up what this thread asks for.
struct Counting;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // During a thread's end there is nothing left to count into.
    let _ = ALLOCATED_BYTES.try_with(|allocated| allocated.set(allocated.get() + bytes));
}

// SAFETY: every call goes to `System` as it came; counting touches no memory
// but a thread-local cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Octets asked for while `work` ran; what was given back does not count less.
fn allocated<T>(work: impl FnOnce() -> T) -> usize {
    let before = ALLOCATED_BYTES.get();
    let result = work();
    let bytes = ALLOCATED_BYTES.get() - before;
    drop(result);
    bytes
}

/// A value is at least one octet of input and 32 in memory; an entry is two and
/// 56. Nothing is asked for twice.
const FACTOR: usize = 32;

#[test]
fn the_counter_counts() {
    assert!(allocated(|| vec![0u8; 1000]) >= 1000);
    assert_eq!(allocated(|| ()), 0);
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    let limits = Limits::default();
    for length in [4u32, 1 << 16, 1 << 31, u32::MAX] {
        let claim = length.to_be_bytes();
        let longstr = [&[0, 10, 0, 20][..], &claim, b"abc"].concat();
        let table_of_method = [&[0, 50, 0, 10, 0, 0, 0, 0][..], &claim, b"abc"].concat();
        for payload in [&longstr, &table_of_method] {
            assert_eq!(
                allocated(|| Method::decode(payload, &limits)),
                0,
                "{length}"
            );
        }
        for letter in *b"SxAF" {
            // A whole entry in front: not even its place is taken.
            let entries = [&[0, b'V', 1, b'n', letter][..], &claim, b"abc"].concat();
            assert!(table::decode(&entries, &limits).is_err());
            assert_eq!(allocated(|| table::decode(&entries, &limits)), 0);
        }
        let mut buffer = BytesMut::from(&[&[3, 0, 1][..], &claim, b"abc"].concat()[..]);
        assert_eq!(allocated(|| frame::take(&mut buffer, 131_072)), 0);
        assert_eq!(allocated(|| frame::take(&mut buffer, u32::MAX)), 0);
    }
}

#[test]
fn decoding_takes_a_small_multiple_of_the_input() {
    let limits = Limits {
        table_entries_max: u32::MAX,
        ..Limits::default()
    };
    let array_of = |values: &[u8]| {
        let mut entries = vec![0, b'A'];
        Writer::new(&mut entries).longstr(values);
        entries
    };
    for (shows, entries) in [
        (
            "voids, the smallest values",
            array_of(&b"V".repeat(100_000)),
        ),
        ("entries without name", b"\x00V".repeat(50_000)),
        ("empty arrays", array_of(&b"A\0\0\0\0".repeat(20_000))),
        ("arrays of one", array_of(&b"A\0\0\0\x01V".repeat(20_000))),
        ("tables of one", array_of(&b"F\0\0\0\x02\0V".repeat(20_000))),
        (
            "strings of one octet",
            array_of(&b"S\0\0\0\x01x".repeat(20_000)),
        ),
        (
            "long names",
            [&[200][..], &[b'x'; 200], b"V"].concat().repeat(500),
        ),
        (
            "one long string",
            [&b"\x00S\0\x01\0\0"[..], &[0; 65_536]].concat(),
        ),
    ] {
        assert!(table::decode(&entries, &limits).is_ok(), "{shows}");
        let bytes = allocated(|| table::decode(&entries, &limits));
        assert!(
            bytes <= FACTOR * entries.len(),
            "{shows}: {bytes} for {}",
            entries.len()
        );
    }
}

#[test]
fn too_many_entries_allocate_nothing() {
    let limits = Limits::default();
    let entries = b"\x00V".repeat(100_000);
    assert!(table::decode(&entries, &limits).is_err());
    assert_eq!(allocated(|| table::decode(&entries, &limits)), 0);
}

#[test]
fn what_reads_in_place_allocates_nothing() {
    let limits = Limits::default();
    let headers = FieldTable::from_iter([
        ("CC", FieldValue::Array(vec!["a".into(), "b".into()])),
        ("nested", FieldTable::from_iter([("x", "y")]).into()),
        ("count", FieldValue::I64(7)),
    ]);
    let (mut properties, mut entries) = (Vec::new(), Vec::new());
    table::encode(&mut entries, &headers);
    let entries = entries.split_off(4);
    let list = Properties {
        content_type: Some("text/plain".into()),
        headers: Some(headers),
        reply_to: Some("amq.rabbitmq.reply-to".into()),
        ..Properties::default()
    };
    list.encode(&mut properties);

    assert_eq!(allocated(|| PropertyScan::new(&properties)), 0);
    assert_eq!(allocated(|| table::validate(&entries, &limits)), 0);
    assert_eq!(allocated(|| table::find(&entries, "count", &limits)), 0);
    assert_eq!(allocated(|| table::entries(&entries).count()), 0);

    let mut out = Vec::with_capacity(4096);
    assert_eq!(
        allocated(|| header::replace_reply_to(&properties, "new", &mut out)),
        0
    );
    assert_eq!(
        allocated(|| header::without_header(&properties, "CC", &mut out)),
        0
    );
}

#[test]
fn encoding_into_a_grown_buffer_allocates_nothing() {
    let (mut envelope, mut header, body) = (Vec::new(), Vec::new(), [7; 5_000]);
    content::encode_envelope(&mut envelope, "x", "key");
    ContentHeader {
        class_id: 60,
        body_bytes: 5_000,
        properties: &[0, 0],
    }
    .encode(&mut header);
    let mut out = Vec::with_capacity(8192);
    let deliver = |out: &mut Vec<u8>| {
        content::encode_deliver(out, 1, "tag", 1, false, &envelope, &header, &body, 4096);
    };
    assert_eq!(allocated(|| deliver(&mut out)), 0);
    // And into an empty one it grows once, to what it needs.
    let mut out = Vec::new();
    let bytes = allocated(|| deliver(&mut out));
    assert_eq!(bytes, out.capacity());
    assert_eq!(bytes, out.len());
}

#[test]
fn a_frame_shares_its_buffer() {
    let mut buffer = BytesMut::new();
    for _ in 0..8 {
        buffer.extend_from_slice(&[3, 0, 1, 0, 0, 0x10, 0]);
        buffer.extend_from_slice(&[7; 4096]);
        buffer.extend_from_slice(&[frame::FRAME_END]);
    }
    let mut frames = Vec::with_capacity(8);
    let bytes = allocated(|| {
        while let Ok(Some(frame)) = frame::take(&mut buffer, 4096) {
            frames.push(frame);
        }
    });
    // A shared buffer's count of owners is all that is new.
    assert!(bytes < 256, "{bytes}");
    assert!(frames.len() == 8 && frames.iter().all(|frame| frame.payload[..] == [7; 4096]));
}
