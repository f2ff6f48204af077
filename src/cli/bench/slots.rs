//! Methods on many channels of one connection at once: each channel waits for its answer
//! before it asks again, as AMQP wants, and all that is asked after a read is written at once.

use std::io::Write;
use std::net::TcpStream;

use leveret_protocol::method::{ChannelOpen, EncodeMethod};
use leveret_protocol::{FrameKind, Limits, Method, frame};

use super::client::{self, ClientError, Connection};
use super::input::Input;
use super::repeat::Turn;
use super::scenario::Scenario;

/// What an operation asks on its channel, step by step.
pub trait Steps: Send {
    /// Asks what that step is about, from 0 on, and names the answer. `None` after the last
    /// step.
    fn ask(&mut self, to: &mut Ask<'_>, step: u8) -> Option<&'static str>;
}

/// The slot whose turn it is to ask.
#[derive(Debug)]
pub struct Ask<'a> {
    out: &'a mut Vec<u8>,
    /// Counted from 0.
    pub slot: u16,
}

impl Ask<'_> {
    /// Asks.
    pub fn ask(&mut self, method: &impl EncodeMethod) {
        frame::encode_method(self.out, FIRST_CHANNEL + self.slot, method);
    }
}

/// A connection with its slots, a channel each.
#[derive(Debug)]
pub struct Slots {
    wire: Wire,
    states: Vec<State>,
}

/// What a slot is at.
#[derive(Clone, Copy, Debug)]
struct State {
    awaits: Option<&'static str>,
    step: u8,
    began_ns: u64,
}

impl Slots {
    /// Connects. The slots' channels are not open yet.
    ///
    /// # Errors
    /// If the broker cannot be reached, or allows fewer channels.
    pub fn connect(scenario: &Scenario, name: &str, slots: u16) -> Result<Self, ClientError> {
        let connection = Connection::open(&scenario.uri, name)?;
        let channel_max = connection.channel_max();
        if slots > channel_max.saturating_sub(FIRST_CHANNEL - 1) {
            connection.close();
            return Err(ClientError::TooFewChannels(channel_max));
        }
        let (stream, input, limits) = connection.into_parts();
        stream.set_read_timeout(Some(scenario.drain_timeout))?;
        stream.set_write_timeout(Some(scenario.drain_timeout))?;
        let idle = State {
            awaits: None,
            step: 0,
            began_ns: 0,
        };
        Ok(Self {
            wire: Wire {
                stream,
                input,
                limits,
                out: Vec::new(),
            },
            states: vec![idle; slots.into()],
        })
    }

    /// Opens the channels.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn open_channels(&mut self) -> Result<(), ClientError> {
        let mut missing = self.states.len();
        for slot in (0..).take(missing) {
            self.wire.ask(slot).ask(&ChannelOpen { out_of_band: "" });
        }
        while missing > 0 {
            self.wire.exchange(|_, method| {
                missing = (missing.checked_sub(1))
                    .filter(|_| matches!(method, Method::ChannelOpenOk(_)))
                    .ok_or_else(|| ClientError::Unexpected(method.name().to_owned()))?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes all slots through the steps, over and over.
    ///
    /// # Errors
    /// If the broker refuses, answers something else, or does not answer in time.
    pub fn repeat(
        &mut self,
        steps: &mut impl Steps,
        turn: &mut Turn<'_>,
    ) -> Result<(), ClientError> {
        let Self { wire, states } = self;
        let mut under_way = 0;
        for (slot, state) in (0..).zip(states.iter_mut()) {
            under_way += usize::from(state.begin(steps, &mut wire.ask(slot), turn));
        }
        while under_way > 0 {
            wire.exchange(|mut ask, method| {
                let state = states
                    .get_mut(usize::from(ask.slot))
                    .filter(|state| state.awaits == Some(method.name()))
                    .ok_or_else(|| ClientError::Unexpected(method.name().to_owned()))?;
                state.step += 1;
                state.awaits = steps.ask(&mut ask, state.step);
                if state.awaits.is_none() {
                    turn.end(state.began_ns);
                    under_way -= usize::from(!state.begin(steps, &mut ask, turn));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Closes the connection.
    pub fn close(mut self) {
        client::say_goodbye(&mut self.wire.stream, &mut self.wire.input);
    }
}

impl State {
    /// Begins with the first step if another operation may; whether it does.
    fn begin(&mut self, steps: &mut impl Steps, ask: &mut Ask<'_>, turn: &mut Turn<'_>) -> bool {
        let Some(began_ns) = turn.begin() else {
            return false;
        };
        *self = Self {
            awaits: steps.ask(ask, 0),
            step: 0,
            began_ns,
        };
        true
    }
}

/// The connection below the slots.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    input: Input,
    limits: Limits,
    out: Vec<u8>,
}

impl Wire {
    fn ask(&mut self, slot: u16) -> Ask<'_> {
        Ask {
            out: &mut self.out,
            slot,
        }
    }

    /// Writes what has been asked, reads once, and hands out the answers.
    fn exchange(
        &mut self,
        mut take: impl FnMut(Ask<'_>, &Method<'_>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        client::read(&mut self.stream, &mut self.input)?;
        while let Some(frame) = self.input.next_frame()? {
            if frame.kind == FrameKind::Heartbeat {
                continue;
            }
            let method = Method::decode(frame.payload, &self.limits)?;
            match frame.channel.checked_sub(FIRST_CHANNEL) {
                Some(slot) if !matches!(method, Method::ChannelClose(_)) => {
                    let out = &mut self.out;
                    take(Ask { out, slot }, &method)?;
                }
                _ => client::check_unasked(&method, &mut self.stream)?,
            }
        }
        Ok(())
    }
}

/// Channel 1 is open already.
const FIRST_CHANNEL: u16 = 2;
