//! The queue state machine without a host: nanoseconds per message, for batches
//! of 100 messages of 16 octets.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::model::{
    BlockBuilder, Body, ConnectionId, ConsumerKey, Message, Now, QueueRules, QueueSettings, Traits,
};
use leveret::queue::{ChannelCredit, ConsumerSpec, Delivery, Outcome, Queue, UnsettledSlot};

const BATCH: usize = 100;
const NOW: Now = Now(Duration::ZERO);

/// A queue with its consumers, and what a host keeps for reuse.
struct Bench {
    queue: Queue,
    /// The batch, as one read brings it: in one block.
    published: Vec<Message>,
    messages: Vec<Message>,
    deliveries: Vec<Delivery>,
    slots: Vec<UnsettledSlot>,
}

impl Bench {
    fn new(consumers: u32, no_ack: bool, prefetch: Option<u32>) -> Self {
        Self::with_rules(QueueRules::default(), consumers, no_ack, prefetch)
    }

    /// Messages cycle over three priorities.
    fn with_rules(rules: QueueRules, consumers: u32, no_ack: bool, prefetch: Option<u32>) -> Self {
        let settings = QueueSettings {
            rules,
            ..QueueSettings::default()
        };
        let mut queue = Queue::new(settings, NOW);
        for serial in 0..consumers {
            let spec = ConsumerSpec {
                key: ConsumerKey {
                    connection: ConnectionId(1),
                    serial,
                },
                no_ack,
                exclusive: false,
                priority: 0,
                prefetch,
                channel_credit: Some(Arc::new(ChannelCredit::default())),
                arguments: Arc::default(),
            };
            queue.consume(spec, NOW).expect("nobody is exclusive");
        }
        let mut builder = BlockBuilder::default();
        for number in 0..BATCH {
            let mut header = [0; 15];
            // The flag of the priority.
            header[12] = 0b0000_1000;
            header[14] = (number % 3) as u8;
            builder.push(
                b"\0\x01q",
                &header,
                Body::Slice(&[0; 16]),
                Traits::default(),
            );
        }
        let block = Arc::new(builder.finish());
        let message = |index| Message::new(Arc::clone(&block), index);
        Self {
            queue,
            published: (0..BATCH as u32).map(message).collect(),
            messages: Vec::new(),
            deliveries: Vec::new(),
            slots: Vec::new(),
        }
    }

    fn publish(&mut self) {
        self.messages.extend(self.published.iter().cloned());
        self.queue.publish(black_box(&mut self.messages), NOW);
    }

    fn deliver(&mut self) {
        while self
            .queue
            .deliver(64 * 1024, NOW, black_box(&mut self.deliveries))
        {}
    }

    /// Settles what was delivered, as one `multiple` does.
    fn settle(&mut self) {
        let slots = self.deliveries.drain(..).filter_map(|one| one.unsettled);
        self.slots.extend(slots);
        self.queue.settle(&self.slots, Outcome::Ack, NOW);
        self.slots.clear();
    }
}

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (shows, consumers, no_ack, prefetch) in [
        ("no ack", 1, true, None),
        ("ack, prefetch 100", 1, false, Some(100)),
        ("ack, 10 consumers", 10, false, Some(100)),
    ] {
        let mut bench = Bench::new(consumers, no_ack, prefetch);
        group.bench_function(BenchmarkId::new("publish, deliver", shows), |run| {
            run.iter(|| {
                bench.publish();
                bench.deliver();
                bench.settle();
            });
        });
    }

    let priorities = QueueRules {
        max_priority: Some(2),
        ..QueueRules::default()
    };
    for (shows, no_ack) in [("no ack, 3 priorities", true), ("ack, 3 priorities", false)] {
        let mut bench = Bench::with_rules(priorities.clone(), 1, no_ack, Some(100));
        group.bench_function(BenchmarkId::new("publish, deliver", shows), |run| {
            run.iter(|| {
                bench.publish();
                bench.deliver();
                bench.settle();
            });
        });
    }

    let mut bench = Bench::new(0, false, None);
    (0..1_000).for_each(|_| bench.publish());
    group.bench_function("publish, get, requeue at a backlog", |run| {
        run.iter(|| {
            bench.publish();
            for _ in 0..BATCH {
                let got = bench.queue.get(false, NOW).message();
                bench.slots.extend(got.and_then(|got| got.unsettled));
            }
            let requeue = Outcome::Requeue {
                redelivered: true,
                refused: true,
            };
            bench.queue.settle(&bench.slots, requeue, NOW);
            bench.slots.clear();
            for _ in 0..BATCH {
                black_box(bench.queue.get(true, NOW));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, queue);
criterion_main!(benches);
