use super::*;
use crate::broker::{
    Access, ConnectionLimits, InMemory, Node, Outbox, QueueRequest, Requester, Wakes,
};
use crate::config::Users;
use crate::model::{ConnectionId, ConsumerKey, FieldTable, FieldValue};
use crate::queue::ConsumerSpec;

#[test]
fn a_message_reaches_its_queue_when_it_came_in_however_long_that_takes() {
    let limits = ConnectionLimits::default();
    let access = Access::new(Users::default());
    let node = Node::new(access, limits, ["/".into()], Arc::new(InMemory::default()));
    let vhost = node.vhost(&"/".into()).expect("it is always there");
    let requester = Requester {
        connection: ConnectionId(1),
        user: "guest".into(),
        connection_name: "here -> there".into(),
    };
    let mut arguments = FieldTable::new();
    arguments.insert("x-message-ttl", FieldValue::I32(0));
    let request = QueueRequest {
        name: "q",
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments,
    };
    let declared = vhost.declare_queue(request, &requester);
    declared.expect("nothing stands against it");
    let host = vhost.find_queue("q").expect("it was declared");
    let mut wakes = Wakes::default();
    let outbox = Outbox::new(ConnectionId(1), 1 << 20);
    let spec = ConsumerSpec {
        key: ConsumerKey {
            connection: ConnectionId(1),
            serial: 1,
        },
        no_ack: true,
        exclusive: false,
        priority: 0,
        prefetch: None,
        channel_credit: None,
        arguments: Arc::default(),
    };
    host.consume(spec, &outbox, node.now(), &mut wakes)
        .expect("nobody has it");

    let replies = Arc::clone(node.reply_targets());
    let mut publisher = Publisher::new(node.clock(), vhost, replies, requester);
    let incoming = Incoming {
        channel: 1,
        envelope: b"\0\x01q",
        header: &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        body: Body::Slice(b"x"),
        persistent: false,
        notable: false,
    };
    assert_eq!(publisher.publish(&incoming, &mut wakes), Ok(true));
    let published = node.now().millis();
    while node.now().millis() <= published + 1 {
        std::thread::yield_now();
    }
    publisher.flush(&[], &mut wakes);
    let (mut events, mut deliveries) = (Vec::new(), Vec::new());
    outbox.take(&mut events, &mut deliveries);
    assert_eq!(deliveries.len(), 1, "the consumer was ready: {events:?}");
}
