//! Strategies for whatever the codec can carry.

#![allow(dead_code, reason = "each test binary uses its part")]

use leveret_protocol::method::{Domain, MethodSpec};
use leveret_protocol::{FieldTable, FieldValue, Method, Properties, table};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A field value of any type, nested up to four deep. No NaN: it would not be
/// equal to itself.
pub fn value() -> impl Strategy<Value = FieldValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i8>().prop_map(FieldValue::I8),
        any::<u8>().prop_map(FieldValue::U8),
        any::<i16>().prop_map(FieldValue::I16),
        any::<u16>().prop_map(FieldValue::U16),
        any::<i32>().prop_map(FieldValue::I32),
        any::<u32>().prop_map(FieldValue::U32),
        any::<i64>().prop_map(FieldValue::I64),
        any::<f32>()
            .prop_filter("equal to itself", |value| !value.is_nan())
            .prop_map(FieldValue::F32),
        any::<f64>()
            .prop_filter("equal to itself", |value| !value.is_nan())
            .prop_map(FieldValue::F64),
        any::<(u8, u32)>().prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        vec(any::<u8>(), 0..40).prop_map(FieldValue::LongStr),
        vec(any::<u8>(), 0..40).prop_map(FieldValue::Bytes),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(FieldValue::Array),
            vec((name(), inner), 0..6)
                .prop_map(|entries| FieldValue::Table(FieldTable::from_iter(entries))),
        ]
    })
}

/// A field table; names may be double, as they may on the wire.
pub fn field_table() -> impl Strategy<Value = FieldTable> {
    vec((name(), value()), 0..6).prop_map(FieldTable::from_iter)
}

/// A short string of 0 to 255 octets, with characters of more than one.
pub fn short_string() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z.#*]{0,12}",
        2 => "\\PC{0,60}",
        1 => "x{250,255}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("x-match".to_owned()), "[a-c]{0,2}", short_string()]
}

pub fn properties() -> impl Strategy<Value = Properties> {
    let text = || option::of(short_string());
    (
        (
            text(),
            text(),
            option::of(field_table()),
            any::<Option<u8>>(),
            any::<Option<u8>>(),
        ),
        (text(), text(), text(), text(), any::<Option<u64>>()),
        (text(), text(), text(), text()),
    )
        .prop_map(|(first, second, third)| Properties {
            content_type: first.0,
            content_encoding: first.1,
            headers: first.2,
            delivery_mode: first.3,
            priority: first.4,
            correlation_id: second.0,
            reply_to: second.1,
            expiration: second.2,
            message_id: second.3,
            timestamp: second.4,
            kind: third.0,
            user_id: third.1,
            app_id: third.2,
            cluster_id: third.3,
        })
}

/// The payload of any method's frame, written from its row of the table and
/// not by its encoder. A new row is covered without a line here.
pub fn method_payload() -> impl Strategy<Value = (&'static MethodSpec, Vec<u8>)> {
    let rows: Vec<_> = Method::TABLE.iter().map(payload_of).collect();
    proptest::strategy::Union::new(rows)
}

pub fn payload_of(spec: &'static MethodSpec) -> BoxedStrategy<(&'static MethodSpec, Vec<u8>)> {
    let fields: Vec<_> = spec
        .fields
        .iter()
        .map(|(_, domain)| field(*domain))
        .collect();
    fields
        .prop_map(move |fields| {
            let mut payload = spec.class_id.to_be_bytes().to_vec();
            payload.extend_from_slice(&spec.method_id.to_be_bytes());
            let mut bits = 0;
            for ((_, domain), octets) in spec.fields.iter().zip(fields) {
                if *domain != Domain::Bit {
                    bits = 0;
                    payload.extend_from_slice(&octets);
                } else if bits % 8 == 0 {
                    bits = 1;
                    payload.extend_from_slice(&octets);
                } else {
                    *payload.last_mut().expect("the octet of the bit before") |= octets[0] << bits;
                    bits += 1;
                }
            }
            (spec, payload)
        })
        .boxed()
}

fn field(domain: Domain) -> BoxedStrategy<Vec<u8>> {
    match domain {
        Domain::Octet => any::<u8>().prop_map(|value| vec![value]).boxed(),
        Domain::Short => any::<[u8; 2]>().prop_map(Vec::from).boxed(),
        Domain::Long => any::<[u8; 4]>().prop_map(Vec::from).boxed(),
        Domain::Longlong => any::<[u8; 8]>().prop_map(Vec::from).boxed(),
        Domain::Bit => any::<bool>()
            .prop_map(|value| vec![u8::from(value)])
            .boxed(),
        Domain::Shortstr => short_string()
            .prop_map(|text| [&[text.len() as u8], text.as_bytes()].concat())
            .boxed(),
        Domain::Longstr => vec(any::<u8>(), 0..300)
            .prop_map(|octets| [&(octets.len() as u32).to_be_bytes(), &octets[..]].concat())
            .boxed(),
        Domain::Table => field_table()
            .prop_map(|value| {
                let mut octets = Vec::new();
                table::encode(&mut octets, &value);
                octets
            })
            .boxed(),
    }
}

/// Damage to octets: some changed, the end cut off, some put in.
#[derive(Clone, Debug)]
pub enum Damage {
    Change(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
}

pub fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let at = || any::<prop::sample::Index>();
    vec(
        prop_oneof![
            6 => (at(), any::<u8>()).prop_map(|(at, octet)| Damage::Change(at, octet)),
            1 => at().prop_map(Damage::Cut),
            1 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, octets)| Damage::Insert(at, octets)),
        ],
        0..4,
    )
}

pub fn damaged(mut octets: Vec<u8>, damage: Vec<Damage>) -> Vec<u8> {
    for damage in damage {
        match damage {
            Damage::Change(at, octet) if !octets.is_empty() => {
                let at = at.index(octets.len());
                octets[at] = octet;
            }
            Damage::Change(..) => {}
            Damage::Cut(at) => octets.truncate(at.index(octets.len() + 1)),
            Damage::Insert(at, more) => {
                let at = at.index(octets.len() + 1);
                octets.splice(at..at, more);
            }
        }
    }
    octets
}
