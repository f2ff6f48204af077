//! The way from a TCP connection to an open AMQP connection, whole or by steps.

use std::net::SocketAddr;
use std::sync::OnceLock;

use leveret_protocol::frame::PROTOCOL_HEADER;
use leveret_protocol::method::*;
use leveret_protocol::{FieldTable, FieldValue, Method};

use super::broker::broker;
use super::client::Client;
use super::matched;

/// What a client says about itself at login.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: &'static str,
    pub password: &'static str,
    pub vhost: &'static str,
    /// Capabilities announced as true.
    pub capabilities: &'static [&'static str],
    /// Answers to the server's proposals; `None` takes the proposal.
    pub channel_max: Option<u16>,
    pub frame_max: Option<u32>,
    /// Seconds; 0 is off.
    pub heartbeat: u16,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            user: "guest",
            password: "guest",
            vhost: "/",
            capabilities: &[
                "authentication_failure_close",
                "basic.nack",
                "connection.blocked",
                "consumer_cancel_notify",
                "exchange_exchange_bindings",
                "publisher_confirms",
            ],
            channel_max: None,
            frame_max: None,
            heartbeat: 0,
        }
    }
}

impl Login {
    /// The response of mechanism PLAIN.
    pub fn plain(&self) -> Vec<u8> {
        format!("\0{}\0{}", self.user, self.password).into_bytes()
    }

    /// The response of mechanism AMQPLAIN: a field table without its length.
    pub fn amqplain(&self) -> Vec<u8> {
        let table: FieldTable = [
            ("LOGIN", FieldValue::from(self.user)),
            ("PASSWORD", FieldValue::from(self.password)),
        ]
        .into_iter()
        .collect();
        let mut wire = Vec::new();
        leveret_protocol::Writer::new(&mut wire).table(&table);
        wire.split_off(4)
    }

    /// The client's properties, capabilities among them.
    pub fn client_properties(&self) -> FieldTable {
        let capabilities: FieldTable = self.capabilities.iter().map(|name| (*name, true)).collect();
        [
            ("product", FieldValue::from("leveret-spec")),
            ("capabilities", capabilities.into()),
        ]
        .into_iter()
        .collect()
    }
}

impl Client {
    /// An open connection to `/` as guest, without a channel.
    #[track_caller]
    pub fn connect() -> Self {
        Self::connect_with(&Login::default())
    }

    /// An open connection to `/` as guest with channel 1 open.
    #[track_caller]
    pub fn with_channel() -> Self {
        let mut client = Self::connect();
        client.open_channel(1);
        client
    }

    /// An open connection to the broker under test.
    #[track_caller]
    pub fn connect_with(login: &Login) -> Self {
        Self::connect_at(broker(), login)
    }

    /// An open connection to any broker.
    #[track_caller]
    pub fn connect_at(address: SocketAddr, login: &Login) -> Self {
        let mut client = Self::dial_at(address);
        client.greet();
        let tune = client.log_in(login);
        client.tune_ok(
            login.channel_max.unwrap_or(tune.channel_max),
            login.frame_max.unwrap_or(tune.frame_max),
            login.heartbeat,
        );
        let reply = client.open(login.vhost);
        matched!(reply, Method::ConnectionOpenOk(_) => client)
    }

    /// Sends the protocol header and takes `connection.start`.
    #[track_caller]
    pub fn greet(&mut self) -> ConnectionStart<'static> {
        self.send_bytes(&PROTOCOL_HEADER);
        matched!(self.next_method(0), Method::ConnectionStart(start) => start)
    }

    /// Sends `connection.start-ok` with PLAIN and takes `connection.tune`.
    #[track_caller]
    pub fn log_in(&mut self, login: &Login) -> ConnectionTune {
        self.start_ok(login, "PLAIN", &login.plain());
        matched!(self.next_method(0), Method::ConnectionTune(tune) => tune)
    }

    /// Sends `connection.start-ok`.
    pub fn start_ok(&mut self, login: &Login, mechanism: &str, response: &[u8]) {
        self.send(
            0,
            &ConnectionStartOk {
                client_properties: login.client_properties(),
                mechanism,
                response,
                locale: "en_US",
            },
        );
    }

    /// Sends `connection.tune-ok` and cuts bodies to the agreed frame size.
    pub fn tune_ok(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) {
        if frame_max != 0 {
            self.frame_max = frame_max;
        }
        self.send(
            0,
            &ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat,
            },
        );
    }

    /// Sends `connection.open` and returns the answer.
    #[track_caller]
    pub fn open(&mut self, virtual_host: &str) -> Method<'static> {
        self.call(
            0,
            &ConnectionOpen {
                virtual_host,
                ..ConnectionOpen::default()
            },
        )
    }

    /// Opens a channel.
    #[track_caller]
    pub fn open_channel(&mut self, channel: u16) {
        let reply = self.call(channel, &ChannelOpen::default());
        matched!(reply, Method::ChannelOpenOk(_) => ());
    }

    /// Closes a channel; what comes before the answer is dropped.
    #[track_caller]
    pub fn close_channel(&mut self, channel: u16) {
        self.send(
            channel,
            &ChannelClose {
                reply_code: 200,
                reply_text: "done",
                ..ChannelClose::default()
            },
        );
        while !matches!(self.next_method(channel), Method::ChannelCloseOk(_)) {}
    }

    /// Closes the connection; what comes before the answer is dropped.
    #[track_caller]
    pub fn close(mut self) {
        self.send(
            0,
            &ConnectionClose {
                reply_code: 200,
                reply_text: "done",
                ..ConnectionClose::default()
            },
        );
        while !matches!(self.next_method(0), Method::ConnectionCloseOk(_)) {}
    }
}

/// Whether the broker under test calls itself RabbitMQ.
pub fn on_rabbitmq() -> bool {
    static RABBITMQ: OnceLock<bool> = OnceLock::new();
    *RABBITMQ.get_or_init(|| {
        let start = Client::dial().greet();
        start
            .server_properties
            .get("product")
            .and_then(FieldValue::as_str)
            == Some("RabbitMQ")
    })
}
