//! One AMQP connection as a state machine: bytes in, requests and bytes out.
