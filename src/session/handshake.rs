//! From the first octet to `connection.open-ok` (AMQP 0-9-1 §2.2.4, §4.2.2).

use leveret_protocol::frame::{FRAME_MIN_SIZE, PROTOCOL_HEADER};
use leveret_protocol::method::{
    ConnectionOpen, ConnectionOpenOk, ConnectionStart, ConnectionStartOk, ConnectionTune,
    ConnectionTuneOk,
};
use leveret_protocol::{FieldTable, FieldValue, Limits, Method, ReplyCode, table};

use crate::model::{BrokerError, UserName, VhostName};

use super::close::Cause;
use super::{Phase, Request, Session};

/// What a client says of itself in `connection.start-ok`.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// `connection_name`, or empty.
    pub name: String,
    /// `product` and `version`, or empty.
    pub product: String,
    /// It understands a `basic.cancel` from the server.
    pub consumer_cancel_notify: bool,
    /// It understands `connection.blocked`.
    pub connection_blocked: bool,
    /// It expects a failed login to be answered before the socket closes.
    pub authentication_failure_close: bool,
}

/// A login to be checked. Its `Debug` form hides the password.
pub struct Login {
    /// The mechanism, for texts and logs.
    pub mechanism: &'static str,
    /// Who.
    pub user: UserName,
    /// The password as sent.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Reads the eight octets that a client begins with. Both spellings of the
    /// version are out there: 0-0-9-1 and 1-1-0-9.
    pub(super) fn protocol_header(&mut self, input: &[u8], offset: &mut usize) {
        let rest = input.get(*offset..).unwrap_or_default();
        let matches = |header: &[u8]| rest.iter().zip(header).all(|(a, b)| a == b);
        if !matches(&PROTOCOL_HEADER) && !matches(b"AMQP\x01\x01\x00\x09") {
            self.end = Some(describe_stranger(rest));
            self.output.extend(&PROTOCOL_HEADER);
            self.phase = Phase::Closed;
            return;
        }
        if rest.len() < PROTOCOL_HEADER.len() {
            return;
        }
        *offset += PROTOCOL_HEADER.len();
        let start = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: self.settings.server_properties.clone(),
            mechanisms: b"AMQPLAIN PLAIN",
            locales: b"en_US",
        };
        self.output.method(0, &start);
        self.phase = Phase::Start;
    }

    /// A method on channel 0 before the connection runs.
    pub(super) fn handshake_method(&mut self, method: Method<'_>) -> Option<Request<'static>> {
        match (self.phase, method) {
            (Phase::Start, Method::ConnectionStartOk(start_ok)) => self.start_ok(&start_ok),
            (Phase::Tune, Method::ConnectionTuneOk(tune_ok)) => {
                self.tune_ok(&tune_ok);
                None
            }
            (Phase::Open, Method::ConnectionOpen(ConnectionOpen { virtual_host, .. })) => {
                self.phase = Phase::OpeningVhost;
                Some(Request::OpenVhost(VhostName::from(virtual_host)))
            }
            (_, Method::ConnectionClose(close)) => {
                self.client_closes(&close);
                None
            }
            (_, method) => {
                let text = format!("{} is not due during the handshake", method.name());
                self.fail(Cause::new(ReplyCode::CommandInvalid, text, method.ids()));
                None
            }
        }
    }

    /// The login was right: limits are proposed.
    pub fn logged_in(&mut self) {
        debug_assert_eq!(self.phase, Phase::LoggingIn, "nobody asked");
        self.output.method(
            0,
            &ConnectionTune {
                channel_max: self.settings.channel_max,
                frame_max: self.settings.limits.frame_max,
                heartbeat: self.settings.heartbeat_seconds,
            },
        );
        self.phase = Phase::Tune;
    }

    /// The login was wrong. A client that cannot take the answer just loses
    /// its connection.
    pub fn login_failed(&mut self, mechanism: &str) {
        debug_assert_eq!(self.phase, Phase::LoggingIn, "nobody asked");
        let text = format!(
            "Login was refused using authentication mechanism {mechanism}. For details see the \
             broker logfile."
        );
        if self.client.authentication_failure_close {
            self.fail(Cause::new(ReplyCode::AccessRefused, text, (0, 0)));
        } else {
            self.end = Some(text);
            self.phase = Phase::Closed;
        }
    }

    /// The virtual host is open and the connection runs.
    pub fn vhost_opened(&mut self) {
        debug_assert_eq!(self.phase, Phase::OpeningVhost, "nobody asked");
        self.output.method(0, &ConnectionOpenOk { known_hosts: "" });
        self.phase = Phase::Running;
    }

    /// The virtual host is missing, forbidden or full.
    pub fn vhost_refused(&mut self, error: &BrokerError) {
        let cause = Cause::new(error.reply_code(), error.to_string(), OPEN_IDS);
        self.fail(cause);
    }

    fn start_ok(&mut self, start_ok: &ConnectionStartOk<'_>) -> Option<Request<'static>> {
        self.client = Client::new(&start_ok.client_properties);
        let (mechanism, credentials) = match start_ok.mechanism {
            "PLAIN" => ("PLAIN", plain(start_ok.response)),
            "AMQPLAIN" => ("AMQPLAIN", amqplain(start_ok.response)),
            unknown => {
                let text = format!("unknown authentication mechanism '{unknown}'");
                self.fail(Cause::new(ReplyCode::CommandInvalid, text, START_OK_IDS));
                return None;
            }
        };
        self.phase = Phase::LoggingIn;
        let Some((user, password)) = credentials else {
            self.login_failed(mechanism);
            return None;
        };
        Some(Request::Login(Login {
            mechanism,
            user,
            password,
        }))
    }

    fn tune_ok(&mut self, tune_ok: &ConnectionTuneOk) {
        let frame_max = self.settings.limits.frame_max;
        let refusal = check_tuned("frame_max", tune_ok.frame_max, FRAME_MIN_SIZE, frame_max)
            .or_else(|| {
                let channel_max = self.settings.channel_max.into();
                check_tuned("channel_max", tune_ok.channel_max.into(), 1, channel_max)
            });
        if let Some(text) = refusal {
            self.fail(Cause::new(ReplyCode::NotAllowed, text, TUNE_OK_IDS));
            return;
        }
        self.frame_max = tune_ok.frame_max;
        self.limits = Limits {
            frame_max: tune_ok.frame_max,
            ..self.settings.limits
        };
        self.channel_max = tune_ok.channel_max;
        self.heartbeat_seconds = tune_ok.heartbeat;
        self.phase = Phase::Open;
    }
}

impl Client {
    fn new(properties: &FieldTable) -> Self {
        let text = |name| {
            properties
                .get(name)
                .and_then(FieldValue::as_str)
                .unwrap_or_default()
        };
        let capability = |name| match properties.get("capabilities") {
            Some(FieldValue::Table(capabilities)) => {
                capabilities.get(name) == Some(&FieldValue::Bool(true))
            }
            _ => false,
        };
        Self {
            name: text("connection_name").to_owned(),
            product: format!("{} {}", text("product"), text("version"))
                .trim()
                .to_owned(),
            consumer_cancel_notify: capability("consumer_cancel_notify"),
            connection_blocked: capability("connection.blocked"),
            authentication_failure_close: capability("authentication_failure_close"),
        }
    }
}

/// Refuses a negotiated value as RabbitMQ does; 0 asks for no limit, and every
/// listener has one.
fn check_tuned(field: &str, value: u32, minimum: u32, maximum: u32) -> Option<String> {
    if value == 0 || value > maximum {
        let detail = if field == "channel_max" && value == 0 {
            " (no limit)"
        } else {
            ""
        };
        return Some(format!(
            "negotiated {field} = {value}{detail} is higher than the maximum allowed value ({maximum})"
        ));
    }
    (value < minimum).then(|| {
        format!("negotiated {field} = {value} is lower than the minimum allowed value ({minimum})")
    })
}

/// RFC 4616: authorization id, NUL, user, NUL, password.
fn plain(response: &[u8]) -> Option<(UserName, Vec<u8>)> {
    let mut parts = response.splitn(3, |octet| *octet == 0);
    let (_authorization, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((
        UserName::from(std::str::from_utf8(user).ok()?),
        password.to_vec(),
    ))
}

/// A field table's entries without their length: LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<(UserName, Vec<u8>)> {
    let entries = table::decode(response, &Limits::default()).ok()?;
    match (entries.get("LOGIN")?.as_str(), entries.get("PASSWORD")?) {
        (Some(user), FieldValue::LongStr(password)) => {
            Some((UserName::from(user), password.clone()))
        }
        _ => None,
    }
}

/// What seems to be at the other end, if it is not an AMQP 0-9-1 client.
fn describe_stranger(input: &[u8]) -> String {
    let guess = if input.starts_with(b"GET ") || input.starts_with(b"POST") {
        "an HTTP request: this port speaks AMQP 0-9-1"
    } else if input.starts_with(&[0x16, 0x03]) {
        "a TLS handshake: this port speaks plain AMQP 0-9-1"
    } else if input.starts_with(b"AMQP") {
        "an AMQP version other than 0-9-1"
    } else {
        "no AMQP protocol header"
    };
    format!("the client began with {guess}")
}

const START_OK_IDS: (u16, u16) = (ConnectionStartOk::CLASS_ID, ConnectionStartOk::METHOD_ID);
const TUNE_OK_IDS: (u16, u16) = (ConnectionTuneOk::CLASS_ID, ConnectionTuneOk::METHOD_ID);
const OPEN_IDS: (u16, u16) = (ConnectionOpen::CLASS_ID, ConnectionOpen::METHOD_ID);
