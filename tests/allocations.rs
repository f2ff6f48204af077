//! How often the broker allocates for the messages that pass through it.
//!
//! Every allocation of the process is counted while a client that allocates
//! nothing itself sends one batch after the other. What a batch costs must not
//! depend on how many messages are in it.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use dhat::{HeapStats, Profiler};
use leveret_protocol::Properties;
use leveret_protocol::method::{
    BasicAck, BasicConsume, BasicDeliver, BasicPublish, BasicQos, BasicQosOk, QueueDeclare,
};
use leveret_protocol::{content, frame};
use support::broker::leveret_with;
use support::client::Client;
use support::handshake::Login;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A producer and a consumer that keep up with one another over one queue.
struct Pair {
    producer: TcpStream,
    consumer: TcpStream,
    inbox: Vec<u8>,
    queue: &'static str,
    /// The last message's, if they are acknowledged.
    acked: Option<u64>,
    acks: Vec<u8>,
}

const FRAME_MAX: u32 = 131_072;
const BODY: &[u8; 16] = b"sixteen octets !";

impl Pair {
    fn new(queue: &'static str, acks: bool) -> Self {
        let address = leveret_with("");
        let [mut producer, mut consumer] = [(); 2].map(|()| {
            let mut client = Client::connect_at(address, &Login::default());
            client.open_channel(1);
            client
        });
        let declare = QueueDeclare {
            queue,
            ..QueueDeclare::default()
        };
        producer.declare(1, &declare);
        let consume = BasicConsume {
            queue,
            consumer_tag: "c",
            no_ack: !acks,
            ..BasicConsume::default()
        };
        consumer.ok(1, &consume);
        Self {
            producer: producer.second_handle(),
            consumer: consumer.second_handle(),
            inbox: vec![0; 1 << 20],
            queue,
            acked: acks.then_some(0),
            acks: Vec::new(),
        }
    }

    /// Sends batches of so many messages, each once the one before has come, and
    /// returns how many allocations each cost.
    fn allocations_per_batch(&mut self, messages: usize, batches: usize) -> f64 {
        let publish = BasicPublish {
            routing_key: self.queue,
            ..BasicPublish::default()
        };
        let deliver = BasicDeliver {
            consumer_tag: "c",
            routing_key: self.queue,
            ..BasicDeliver::default()
        };
        let mut properties = Vec::new();
        Properties::default().encode(&mut properties);
        let (mut sent, mut came) = (Vec::new(), Vec::new());
        for _ in 0..messages {
            content::encode(&mut sent, 1, &publish, &properties, BODY, FRAME_MAX);
            content::encode(&mut came, 1, &deliver, &properties, BODY, FRAME_MAX);
        }
        let mut before = HeapStats::get().total_blocks;
        for batch in 0..2 * batches {
            if batch == batches {
                before = HeapStats::get().total_blocks;
            }
            self.producer.write_all(&sent).expect("the broker reads");
            let inbox = self.inbox.get_mut(..came.len()).expect("it fits");
            self.consumer
                .read_exact(inbox)
                .expect("the broker delivers");
            self.acknowledge(messages);
        }
        (HeapStats::get().total_blocks - before) as f64 / batches as f64
    }

    /// Acknowledges the last so many messages one by one, if that is done here,
    /// and waits until the broker has seen it: on a busy machine it would see some
    /// of it together with the next batch, for less.
    fn acknowledge(&mut self, messages: usize) {
        let Some(acked) = &mut self.acked else {
            return;
        };
        self.acks.clear();
        for _ in 0..messages {
            *acked += 1;
            let ack = BasicAck {
                delivery_tag: *acked,
                multiple: false,
            };
            frame::encode_method(&mut self.acks, 1, &ack);
        }
        frame::encode_method(&mut self.acks, 1, &BasicQos::default());
        self.consumer
            .write_all(&self.acks)
            .expect("the broker reads");
        self.acks.clear();
        frame::encode_method(&mut self.acks, 1, &BasicQosOk {});
        let inbox = self.inbox.get_mut(..self.acks.len()).expect("it fits");
        self.consumer.read_exact(inbox).expect("the broker answers");
        assert_eq!(inbox, self.acks, "it has seen all");
    }
}

#[test]
fn a_batch_costs_as_many_allocations_however_many_messages_it_has() {
    let _profiler = Profiler::builder().testing().build();
    for (queue, acks) in [("auto-ack", false), ("acked", true)] {
        let mut pair = Pair::new(queue, acks);
        let few = pair.allocations_per_batch(8, 500);
        let many = pair.allocations_per_batch(256, 500);
        println!("{queue}: {few} allocations for 8 messages, {many} for 256");
        assert!(few <= 12.0, "{queue}: {few} for each batch");
        assert!((many - few) / 248.0 < 0.01, "{queue}: {few} and {many}");
    }
}
