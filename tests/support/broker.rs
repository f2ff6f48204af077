//! The broker under test: the one at `LEVERET_TEST_ADDR`, or one started in
//! this process.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use leveret::Broker;
use leveret::broker::Node;
use leveret::topology::BrokerFile;
use tokio::sync::oneshot;

/// Where the broker under test listens; the same for all tests of a binary.
pub fn broker() -> SocketAddr {
    static BROKER: OnceLock<SocketAddr> = OnceLock::new();
    *BROKER.get_or_init(|| match std::env::var("LEVERET_TEST_ADDR") {
        Ok(address) => address
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .unwrap_or_else(|| panic!("LEVERET_TEST_ADDR is no address: {address:?}")),
        Err(_) => leveret_with(""),
    })
}

/// A Leveret in this process that a test can reach into.
pub struct Embedded {
    pub address: SocketAddr,
    pub node: Arc<Node>,
    stop: oneshot::Sender<()>,
}

impl Embedded {
    /// Has it close its connections and end, and does not wait for that.
    pub fn shut_down(self) {
        self.stop.send(()).expect("it runs");
    }
}

/// Starts a Leveret in this process with the given TOML on an ephemeral port.
/// It lives as long as the process.
pub fn leveret_with(toml: &str) -> SocketAddr {
    embedded(toml).address
}

/// The same, to be reached into and stopped.
pub fn embedded(toml: &str) -> Embedded {
    let mut file = BrokerFile::parse("test.toml", toml).expect("the test's file is right");
    file.config.amqp.addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let broker = Broker::start_in_memory(&file.config, &file.topology)
                .await
                .expect("the broker starts");
            let (stop, stopped) = oneshot::channel();
            let embedded = Embedded {
                address: broker.addresses()[0],
                node: Arc::clone(broker.node()),
                stop,
            };
            assert!(tell.send(embedded).is_ok(), "the test waits");
            match stopped.await {
                Ok(()) => broker.shutdown().await,
                // Nobody will stop it.
                Err(_) => std::future::pending().await,
            }
        });
    });
    told.recv().expect("the broker listens")
}

/// A runtime for a broker in a thread of its own.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A name that no other test and no other run uses. Leaked, so that it fits
/// into any method without ceremony.
pub fn unique(name: &str) -> &'static str {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let since_1970 = std::time::UNIX_EPOCH
        .elapsed()
        .expect("the clock is past 1970");
    let process = std::process::id();
    leak(format!(
        "{name}-{}-{process}-{count}",
        since_1970.as_micros()
    ))
}

/// A text that lives as long as the process.
pub fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}
