//! The codec alone: nanoseconds for one message, table or frame.
//!
//! `cargo bench -p leveret-protocol`; decode works on what one read of a busy
//! socket returns, encode fills an outbound buffer that has grown already.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret_protocol::method::{BasicDeliver, BasicPublish};
use leveret_protocol::{
    ContentHeader, FieldTable, FieldValue, FrameKind, Limits, Method, Properties, PropertyScan,
    content, frame, table,
};

const BODY_SIZES: [usize; 2] = [16, 1024];
const READ_BYTES: usize = 256 * 1024;

fn decode(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("decode");
    for body_bytes in BODY_SIZES {
        let (wire, messages) = read_buffer(body_bytes);
        group.throughput(Throughput::Elements(messages));
        group.bench_function(format!("publishes of {body_bytes} B"), |bencher| {
            bencher.iter(|| {
                read_publishes(black_box(&wire), &limits, |payload| {
                    black_box(content::scan_publish(payload).expect("a publish"));
                })
            });
        });
        group.bench_function(
            format!("publishes of {body_bytes} B, as methods"),
            |bencher| {
                bencher.iter(|| {
                    read_publishes(black_box(&wire), &limits, |payload| {
                        black_box(Method::decode(payload, &limits).expect("a method"));
                    })
                });
            },
        );
        group.bench_function(format!("frames only, {body_bytes} B"), |bencher| {
            bencher.iter(|| count_frames(black_box(&wire), &limits));
        });
        group.bench_function(format!("owned frames, {body_bytes} B"), |bencher| {
            bencher.iter_batched(
                || BytesMut::from(&wire[..]),
                |buffer| count_owned_frames(buffer, &limits),
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("decode one");
    let mut publish = Vec::new();
    frame::encode_method(&mut publish, 1, &publish_method());
    let (publish, _) = frame::decode(&publish, limits.frame_max)
        .expect("a frame")
        .expect("a whole one");
    group.bench_function("basic.publish", |bencher| {
        bencher.iter(|| Method::decode(black_box(publish.payload), &limits).expect("a method"));
    });
    group.bench_function("basic.publish, in place", |bencher| {
        bencher.iter(|| content::scan_publish(black_box(publish.payload)).expect("a publish"));
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    for body_bytes in BODY_SIZES {
        let body = vec![7; body_bytes];
        let properties = properties(None);
        let (mut envelope, mut header) = (Vec::new(), Vec::new());
        content::encode_envelope(&mut envelope, "amq.direct", "orders.created");
        ContentHeader {
            class_id: 60,
            body_bytes: body_bytes as u64,
            properties: &properties,
        }
        .encode(&mut header);
        let mut out = Vec::with_capacity(READ_BYTES);
        group.bench_function(format!("deliver of {body_bytes} B"), |bencher| {
            bencher.iter(|| {
                if out.len() + 2048 > READ_BYTES {
                    out.clear();
                }
                content::encode_deliver(
                    &mut out,
                    1,
                    black_box("amq.ctag-0123456789"),
                    black_box(77),
                    false,
                    black_box(&envelope),
                    black_box(&header),
                    black_box(&body),
                    131_072,
                );
            });
        });
        group.bench_function(
            format!("deliver of {body_bytes} B, from fields"),
            |bencher| {
                bencher.iter(|| {
                    if out.len() + 2048 > READ_BYTES {
                        out.clear();
                    }
                    let method = BasicDeliver {
                        consumer_tag: black_box("amq.ctag-0123456789"),
                        delivery_tag: black_box(77),
                        redelivered: false,
                        exchange: black_box("amq.direct"),
                        routing_key: black_box("orders.created"),
                    };
                    content::encode(&mut out, 1, &method, black_box(&properties), &body, 131_072);
                });
            },
        );
    }
    group.finish();
}

fn properties_and_tables(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("properties");
    let table = headers();
    for (name, octets) in [
        ("delivery mode", minimal_properties()),
        ("a few", properties(None)),
        ("a few and headers", properties(Some(table.clone()))),
    ] {
        group.bench_function(format!("scan, {name}"), |bencher| {
            bencher.iter(|| PropertyScan::new(black_box(&octets)).expect("properties"));
        });
        group.bench_function(format!("decode, {name}"), |bencher| {
            bencher.iter(|| Properties::decode(black_box(&octets), &limits).expect("properties"));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("table of 6");
    let mut octets = Vec::new();
    table::encode(&mut octets, &table);
    let entries = &octets[4..];
    group.bench_function("decode", |bencher| {
        bencher.iter(|| table::decode(black_box(entries), &limits).expect("a table"));
    });
    group.bench_function("validate", |bencher| {
        bencher.iter(|| table::validate(black_box(entries), &limits).expect("a table"));
    });
    group.bench_function("find the last", |bencher| {
        bencher.iter(|| table::find(black_box(entries), "retries", &limits).expect("a table"));
    });
    group.bench_function("encode", |bencher| {
        let mut out = Vec::with_capacity(1024);
        bencher.iter(|| {
            out.clear();
            table::encode(&mut out, black_box(&table));
        });
    });
    group.finish();
}

#[inline]
fn read_publishes(mut wire: &[u8], limits: &Limits, method: impl Fn(&[u8])) -> (usize, usize) {
    let (mut persistent, mut body_bytes) = (0, 0);
    while let Some((frame, size)) = frame::decode(wire, limits.frame_max).expect("frames") {
        match frame.kind {
            FrameKind::Method => method(frame.payload),
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload).expect("a header");
                let scan = PropertyScan::new(header.properties).expect("properties");
                persistent += usize::from(scan.persistent());
            }
            FrameKind::Body => body_bytes += frame.payload.len(),
            FrameKind::Heartbeat => {}
        }
        wire = &wire[size..];
    }
    (persistent, body_bytes)
}

fn count_frames(mut wire: &[u8], limits: &Limits) -> usize {
    let mut payload_bytes = 0;
    while let Some((frame, size)) = frame::decode(wire, limits.frame_max).expect("frames") {
        payload_bytes += frame.payload.len();
        wire = &wire[size..];
    }
    payload_bytes
}

fn count_owned_frames(mut buffer: BytesMut, limits: &Limits) -> usize {
    let mut payload_bytes = 0;
    while let Some(frame) = frame::take(&mut buffer, limits.frame_max).expect("frames") {
        payload_bytes += frame.payload.len();
    }
    payload_bytes
}

fn read_buffer(body_bytes: usize) -> (Vec<u8>, u64) {
    let (mut wire, mut messages) = (Vec::new(), 0);
    let (properties, body) = (properties(None), vec![7; body_bytes]);
    while wire.len() < READ_BYTES {
        content::encode(&mut wire, 1, &publish_method(), &properties, &body, 131_072);
        messages += 1;
    }
    (wire, messages)
}

fn publish_method() -> BasicPublish<'static> {
    BasicPublish {
        exchange: "amq.direct",
        routing_key: "orders.created",
        ..BasicPublish::default()
    }
}

fn minimal_properties() -> Vec<u8> {
    let mut octets = Vec::new();
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
    .encode(&mut octets);
    octets
}

fn properties(headers: Option<FieldTable>) -> Vec<u8> {
    let mut octets = Vec::new();
    Properties {
        content_type: Some("application/json".into()),
        headers,
        delivery_mode: Some(2),
        correlation_id: Some("2b9cb5d2-7f0e-4f42".into()),
        timestamp: Some(1_700_000_000),
        ..Properties::default()
    }
    .encode(&mut octets);
    octets
}

fn headers() -> FieldTable {
    FieldTable::from_iter([
        (
            "trace-id",
            FieldValue::from("4bf92f3577b34da6a3ce929d0e0e4736"),
        ),
        ("span-id", FieldValue::from("00f067aa0ba902b7")),
        ("region", FieldValue::from("eu")),
        ("urgent", FieldValue::Bool(true)),
        ("sent", FieldValue::Timestamp(1_700_000_000)),
        ("retries", FieldValue::I32(3)),
    ])
}

criterion_group!(benches, decode, encode, properties_and_tables);
criterion_main!(benches);
