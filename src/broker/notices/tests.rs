use std::sync::Arc;

use super::super::{
    Access, BindRequest, ConnectionLimits, InMemory, Incoming, Node, Publisher, QueueRequest,
    Requester, Vhost, Wakes,
};
use super::*;
use crate::config::Users;
use crate::model::{Body, ConnectionId, Destination, FieldTable};
use crate::routing::{EVENT_EXCHANGE, TRACE_EXCHANGE};

/// A broker with a queue, and somebody who publishes to it. Nobody announces.
struct World {
    node: Arc<Node>,
    vhost: Arc<Vhost>,
    publisher: Publisher,
    wakes: Wakes,
}

fn requester() -> Requester {
    Requester {
        connection: ConnectionId(1),
        user: "guest".into(),
        connection_name: "here -> there".into(),
    }
}

impl World {
    fn new() -> Self {
        let limits = ConnectionLimits::default();
        let access = Access::new(Users::default());
        let node = Node::new(access, limits, ["/".into()], Arc::new(InMemory::default()));
        let vhost = node.vhost(&"/".into()).expect("it is always there");
        let request = QueueRequest {
            name: "q",
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
        };
        let declared = vhost.declare_queue(request, &requester());
        declared.expect("nothing stands against it");
        let reply_targets = Arc::clone(node.reply_targets());
        let publisher =
            Publisher::new(node.clock(), Arc::clone(&vhost), reply_targets, requester());
        Self {
            node,
            vhost,
            publisher,
            wakes: Wakes::default(),
        }
    }

    fn binding(source: &'static str) -> BindRequest<'static> {
        BindRequest {
            source,
            destination: Destination::Queue("q".into()),
            routing_key: "#",
            arguments: FieldTable::new(),
        }
    }

    fn bind(&mut self, exchange: &'static str) {
        let (now, request) = (self.node.now(), Self::binding(exchange));
        let bound = self.vhost.bind(request, &requester(), now, &mut self.wakes);
        bound.expect("both are there");
    }

    fn unbind(&mut self, exchange: &'static str) {
        let unbound = self.vhost.unbind(Self::binding(exchange), &requester());
        unbound.expect("nothing stands against it");
    }

    /// Publishes to the queue, gets it, and says which copies that made.
    fn pass_through(&mut self) -> Vec<String> {
        let incoming = Incoming {
            channel: 1,
            envelope: b"\0\x01q",
            header: &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
            body: Body::Slice(b"x"),
            persistent: false,
            notable: false,
        };
        let published = self.publisher.publish(&incoming, &mut self.wakes);
        assert_eq!(published, Ok(true));
        self.publisher.flush(&[], &mut self.wakes);
        let now = self.node.now();
        let host = self.vhost.find_queue("q").expect("it was declared");
        let got = host.get(true, now, &mut self.wakes).expect("it is there");
        self.vhost
            .trace_delivery(&requester(), 1, host.name(), false, &got.message);
        let mut traces = Vec::new();
        self.node.notices().traces.take(&mut traces);
        traces.iter().map(Trace::routing_key).collect()
    }
}

#[test]
fn messages_are_copied_while_something_is_bound_and_not_before_or_after() {
    let mut world = World::new();
    assert_eq!(world.pass_through(), [""; 0]);
    for _ in 0..2 {
        world.bind(TRACE_EXCHANGE);
        assert_eq!(world.pass_through(), ["publish.", "deliver.q"]);
        world.unbind(TRACE_EXCHANGE);
        assert_eq!(world.pass_through(), [""; 0]);
    }
}

#[test]
fn an_event_that_nobody_wants_is_not_even_made() {
    let mut world = World::new();
    let notices = Arc::clone(world.node.notices());
    notices.tell(|_| panic!("nobody wants to know"));
    world.bind(EVENT_EXCHANGE);
    world.bind(TRACE_EXCHANGE);
    world.unbind(TRACE_EXCHANGE);
    let expected = ["binding.created", "binding.created", "binding.deleted"];
    assert_eq!(notices.take_event_keys(), expected);
    world.unbind(EVENT_EXCHANGE);
    notices.take_event_keys();
    notices.tell(|_| panic!("nobody wants to know"));
}

#[test]
fn whoever_does_not_take_his_traces_costs_nobody_else() {
    let mut world = World::new();
    world.bind(TRACE_EXCHANGE);
    let notices = Arc::clone(world.node.notices());
    let body = vec![0; 1 << 20];
    let message = crate::model::Message::single("x", "k", &[], &body);
    for _ in 0..100 {
        let queue = "q".into();
        world
            .vhost
            .trace_delivery(&requester(), 1, &queue, false, &message);
    }
    assert_eq!(notices.traces.take_dropped(), 84, "16 MiB wait");
}
