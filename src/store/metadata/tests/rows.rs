//! Every row there and back, and whatever else may stand in one.

use std::sync::Arc;

use leveret_protocol::{SmolStr, table};
use proptest::prelude::*;

use super::super::rows::*;
use crate::model::{
    Destination, ExchangeKind, ExchangeSettings, FieldTable, FieldValue, QueueId, QueueSettings,
    VhostName,
};
use crate::routing::Binding;

proptest! {
    #[test]
    fn exchanges_come_back(settings in exchange_settings()) {
        prop_assert_eq!(read_exchange(&exchange_value(&settings)), Ok(settings));
    }

    #[test]
    fn queues_come_back(id in any::<u64>(), settings in queue_settings()) {
        let value = queue_value(QueueId(id), &settings);
        prop_assert_eq!(read_queue(&value), Ok((QueueId(id), settings)));
    }

    #[test]
    fn bindings_come_back(vhost in name(), sequence in any::<u64>(), binding in binding()) {
        let vhost = VhostName::from(vhost.as_str());
        let key = binding_key(&vhost, &binding);
        let value = binding_value(sequence, &binding);
        let (read_vhost, read_sequence, read) = read_binding(&key, &value).expect("it was written");
        prop_assert_eq!((read_vhost, read_sequence), (vhost, sequence));
        prop_assert_eq!(&read, &binding);
        prop_assert_eq!(read.arguments, binding.arguments, "in the order of the declaration");
    }

    /// Two bindings have one key exactly if routing takes them for one.
    #[test]
    fn a_bindings_key_is_its_identity(one in binding(), other in binding(), turn in any::<bool>()) {
        let vhost = VhostName::from("/");
        let mut turned = one.clone();
        let reversed: Vec<_> = one.arguments.iter().collect();
        let reversed = reversed.into_iter().rev().map(|(k, v)| (k.clone(), v.clone()));
        turned.arguments = Arc::new(reversed.collect());
        let other = if turn { turned } else { other };
        let same_key = binding_key(&vhost, &one) == binding_key(&vhost, &other);
        prop_assert_eq!(same_key, one == other);
    }

    #[test]
    fn names_come_back(vhost in name(), name in name()) {
        let vhost = VhostName::from(vhost.as_str());
        prop_assert_eq!(read_vhost_key(&vhost_key(&vhost)), Ok(vhost.clone()));
        let key = named_key(&vhost, &name);
        prop_assert_eq!(read_named_key(&key), Ok((vhost, SmolStr::new(name))));
    }

    #[test]
    fn any_octets_have_an_answer(
        key in proptest::collection::vec(any::<u8>(), 0..64),
        mut value in proptest::collection::vec(any::<u8>(), 0..64),
        known_version in any::<bool>(),
    ) {
        if known_version && let Some(version) = value.first_mut() {
            *version = 1;
        }
        let _ = read_vhost_key(&key);
        let _ = read_named_key(&key);
        let _ = read_vhost(&value);
        let _ = read_exchange(&value);
        let _ = read_queue(&value);
        let _ = read_binding(&key, &value);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused(
        settings in queue_settings(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut value = queue_value(QueueId(1), &settings);
        prop_assert!(read_queue(&value[..at.index(value.len())]).is_err());
        value.push(0);
        prop_assert!(read_queue(&value).is_err());
    }
}

/// The octets of `docs/storage.md`: they must not change without a version.
#[test]
fn rows_are_written_as_documented() {
    let vhost = VhostName::from("/");
    let arguments = Arc::new(FieldTable::from_iter([
        ("b", FieldValue::Bool(true)),
        ("a", FieldValue::U8(7)),
    ]));
    assert_eq!(named_key(&vhost, "q"), b"\x01/\x01q");
    let settings = ExchangeSettings {
        internal: true,
        arguments: Arc::clone(&arguments),
        ..ExchangeSettings::new(ExchangeKind::Topic)
    };
    assert_eq!(
        exchange_value(&settings),
        b"\x01\x02\x05topic\0\0\0\x08\x01bt\x01\x01aB\x07"
    );
    let settings = ExchangeSettings {
        names_id: Some(QueueId(258)),
        ..ExchangeSettings::new(ExchangeKind::Topic)
    };
    assert_eq!(
        exchange_value(&settings),
        b"\x01\x04\0\0\0\0\0\0\x01\x02\x05topic\0\0\0\0"
    );
    let settings = QueueSettings {
        durable: true,
        auto_delete: true,
        ..QueueSettings::default()
    };
    assert_eq!(
        queue_value(QueueId(258), &settings),
        b"\x01\x01\0\0\0\0\0\0\x01\x02\0\0\0\0"
    );
    let binding = Binding {
        source: "x".into(),
        destination: Destination::Queue("q".into()),
        routing_key: "k".into(),
        arguments,
    };
    assert_eq!(
        binding_key(&vhost, &binding),
        b"\x01/\x01xq\x01q\x01k\0\0\0\x08\x01aB\x07\x01bt\x01"
    );
    assert_eq!(
        binding_value(3, &binding),
        b"\x01\0\0\0\0\0\0\0\x03\0\0\0\x08\x01bt\x01\x01aB\x07"
    );
}

/// What an older limit let in is read, however low today's is.
#[test]
fn deep_arguments_are_read() {
    let mut deep = FieldTable::new();
    for _ in 0..200 {
        deep = FieldTable::from_iter([("t", deep)]);
    }
    let settings = QueueSettings {
        durable: true,
        arguments: Arc::new(deep),
        ..QueueSettings::default()
    };
    let value = queue_value(QueueId(1), &settings);
    assert_eq!(read_queue(&value), Ok((QueueId(1), settings)));
    let mut octets = Vec::new();
    table::encode(&mut octets, &FieldTable::new());
    assert_eq!(octets, [0; 4]);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z.]{0,12}", "\\PC{0,60}", Just("ä".repeat(127))]
}

fn exchange_settings() -> impl Strategy<Value = ExchangeSettings> {
    let kind = prop::sample::select(&ExchangeKind::ALL[..]);
    let names_id = prop::option::of(any::<u64>().prop_map(QueueId));
    let all = (kind, any::<(bool, bool)>(), names_id, arguments());
    all.prop_map(|(kind, flags, names_id, arguments)| ExchangeSettings {
        auto_delete: flags.0,
        internal: flags.1,
        names_id,
        arguments,
        ..ExchangeSettings::new(kind)
    })
}

fn queue_settings() -> impl Strategy<Value = QueueSettings> {
    (any::<bool>(), arguments()).prop_map(|(auto_delete, arguments)| QueueSettings {
        durable: true,
        auto_delete,
        arguments,
        ..QueueSettings::default()
    })
}

fn binding() -> impl Strategy<Value = Binding> {
    let parts = (name(), any::<bool>(), name(), name(), arguments());
    parts.prop_map(|(source, to_queue, destination, key, arguments)| Binding {
        source: source.into(),
        destination: match to_queue {
            true => Destination::Queue(destination.into()),
            false => Destination::Exchange(destination.into()),
        },
        routing_key: key.into(),
        arguments,
    })
}

fn arguments() -> impl Strategy<Value = Arc<FieldTable>> {
    table_of(value()).prop_map(Arc::new)
}

fn table_of(value: impl Strategy<Value = FieldValue>) -> impl Strategy<Value = FieldTable> {
    let entries = proptest::collection::btree_map("[a-z-]{0,8}", value, 0..4);
    entries.prop_map(|entries| entries.into_iter().collect())
}

fn value() -> impl Strategy<Value = FieldValue> {
    let octets = || proptest::collection::vec(any::<u8>(), 0..20);
    let scalar = prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i8>().prop_map(FieldValue::I8),
        any::<u8>().prop_map(FieldValue::U8),
        any::<i16>().prop_map(FieldValue::I16),
        any::<u16>().prop_map(FieldValue::U16),
        any::<i32>().prop_map(FieldValue::I32),
        any::<u32>().prop_map(FieldValue::U32),
        any::<i64>().prop_map(FieldValue::I64),
        (-1e9f64..1e9).prop_map(FieldValue::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        octets().prop_map(FieldValue::LongStr),
        octets().prop_map(FieldValue::Bytes),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ];
    scalar.prop_recursive(3, 12, 3, |value| {
        prop_oneof![
            proptest::collection::vec(value.clone(), 0..3).prop_map(FieldValue::Array),
            table_of(value).prop_map(FieldValue::Table),
        ]
    })
}
